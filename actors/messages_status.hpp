// SPDX-License-Identifier: Apache-2.0
// The messages of `dinfer status`: who is there, and how the engine is. See messages.hpp for the
// rules.
#pragma once

#include "actors/messages.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace dinfer::actors {

DINFER_EMPTY_MESSAGE(status_query);
struct node_line {
  std::string name, address, build;
  std::vector<std::string> devices;
  bool alive = false;
  std::string note;
  static auto fields(auto& x, auto&& f) {
    return f("node_line", named{"name", x.name}, named{"address", x.address},
             named{"build", x.build}, named{"devices", x.devices}, named{"alive", x.alive},
             named{"note", x.note});
  }
};
struct rank_line {
  std::string node, device;
  std::int32_t stage = 0, tp_rank = 0;
  std::int64_t first_layer = 0, end_layer = 0;
  std::uint64_t weight_bytes = 0;  // 0: not loaded
  std::uint32_t cache_blocks = 0;  // 0: not decided
  std::uint64_t cache_bytes = 0;
  static auto fields(auto& x, auto&& f) {
    return f("rank_line", named{"node", x.node}, named{"device", x.device}, named{"stage", x.stage},
             named{"tp_rank", x.tp_rank}, named{"first_layer", x.first_layer},
             named{"end_layer", x.end_layer}, named{"weight_bytes", x.weight_bytes},
             named{"cache_blocks", x.cache_blocks}, named{"cache_bytes", x.cache_bytes});
  }
};
// What the scheduler has to do, and what it did in the last `window_ms`.
struct engine_load {
  bool known = false;  // there is a scheduler, and it answered
  std::uint32_t running = 0, waiting = 0;
  std::uint32_t block_size = 0, blocks = 0, blocks_used = 0, blocks_kept = 0;
  std::uint64_t window_ms = 0, prompt_tokens = 0, generated_tokens = 0;
  static auto fields(auto& x, auto&& f) {
    return f("engine_load", named{"known", x.known}, named{"running", x.running},
             named{"waiting", x.waiting}, named{"block_size", x.block_size},
             named{"blocks", x.blocks}, named{"blocks_used", x.blocks_used},
             named{"blocks_kept", x.blocks_kept}, named{"window_ms", x.window_ms},
             named{"prompt_tokens", x.prompt_tokens},
             named{"generated_tokens", x.generated_tokens});
  }
};
struct cluster_status {
  engine_notice engine;
  std::vector<node_line> nodes;
  std::vector<rank_line> ranks;  // by rank; none before there is a plan
  engine_load load;
  std::uint32_t faults = 0;  // since the first node started
  std::string last_fault;
  std::uint64_t last_fault_age_ms = 0;
  static auto fields(auto& x, auto&& f) {
    return f("cluster_status", named{"engine", x.engine}, named{"nodes", x.nodes},
             named{"ranks", x.ranks}, named{"load", x.load}, named{"faults", x.faults},
             named{"last_fault", x.last_fault}, named{"last_fault_age_ms", x.last_fault_age_ms});
  }
};

// A front asks its gateway, which answers with an event of the same id.
struct show_cluster {
  std::uint64_t id = 0;
  static auto fields(auto& x, auto&& f) { return f("show_cluster", named{"id", x.id}); }
};

}  // namespace dinfer::actors

// SPDX-License-Identifier: Apache-2.0
// The messages between the supervisor and a shard: its life in order, see runtime/runner.hpp. See
// messages.hpp for the rules.
#pragma once

#include "actors/messages.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace dinfer::actors {

// Life of a shard, in this order; see runtime/runner.hpp.
DINFER_EMPTY_MESSAGE(load_shard);
struct shard_loaded {
  std::uint64_t weight_bytes = 0, replicated_bytes = 0, workspace_bytes = 0;
  std::uint32_t load_ms = 0;
  std::string device;  // description
  static auto fields(auto& x, auto&& f) {
    return f("shard_loaded", named{"weight_bytes", x.weight_bytes},
             named{"replicated_bytes", x.replicated_bytes},
             named{"workspace_bytes", x.workspace_bytes}, named{"load_ms", x.load_ms},
             named{"device", x.device});
  }
};
DINFER_EMPTY_MESSAGE(size_cache);
struct cache_offer {
  std::uint32_t block_size = 0;
  std::vector<std::uint32_t> blocks;  // per KV group
  std::uint64_t block_bytes = 0;
  static auto fields(auto& x, auto&& f) {
    return f("cache_offer", named{"block_size", x.block_size}, named{"blocks", x.blocks},
             named{"block_bytes", x.block_bytes});
  }
};
DINFER_EMPTY_MESSAGE(open_card);
struct shard_card {
  std::string card;
  static auto fields(auto& x, auto&& f) { return f("shard_card", named{"card", x.card}); }
};
struct connect_shard {
  std::vector<std::string> cards;  // by rank
  std::uint32_t deadline_ms = 0;
  static auto fields(auto& x, auto&& f) {
    return f("connect_shard", named{"cards", x.cards}, named{"deadline_ms", x.deadline_ms});
  }
};
struct check_links {  // instead of connect_shard, when the cluster is checked before it serves
  std::vector<std::string> cards;  // by rank
  std::uint32_t deadline_ms = 0;
  static auto fields(auto& x, auto&& f) {
    return f("check_links", named{"cards", x.cards}, named{"deadline_ms", x.deadline_ms});
  }
};
struct links_checked {
  std::string report;  // runtime::rank_check, encoded
  static auto fields(auto& x, auto&& f) { return f("links_checked", named{"report", x.report}); }
};
struct start_cache {
  std::vector<std::uint32_t> blocks;
  std::uint32_t epoch = 0;
  static auto fields(auto& x, auto&& f) {
    return f("start_cache", named{"blocks", x.blocks}, named{"epoch", x.epoch});
  }
};
struct phase_word {
  std::string name;
  std::uint32_t ms = 0;
  static auto fields(auto& x, auto&& f) {
    return f("phase_word", named{"name", x.name}, named{"ms", x.ms});
  }
};
struct shard_ready {
  std::vector<phase_word> phases;  // of the start, as far as it has come
  static auto fields(auto& x, auto&& f) { return f("shard_ready", named{"phases", x.phases}); }
};

// A shard tells the supervisor.
struct load_progress {
  std::uint32_t rank = 0;
  std::uint64_t done = 0, total = 0;
  static auto fields(auto& x, auto&& f) {
    return f("load_progress", named{"rank", x.rank}, named{"done", x.done},
             named{"total", x.total});
  }
};
struct shard_failed {
  std::uint32_t rank = 0, epoch = 0;
  std::uint8_t code = 0;  // errc
  std::string message;
  static auto fields(auto& x, auto&& f) {
    return f("shard_failed", named{"rank", x.rank}, named{"epoch", x.epoch}, named{"code", x.code},
             named{"message", x.message});
  }
};

DINFER_EMPTY_MESSAGE(progress_query);  // how far each shard is
struct rank_progress {
  std::uint32_t rank = 0;
  std::uint64_t started = 0, finished = 0;  // steps of this epoch
  static auto fields(auto& x, auto&& f) {
    return f("rank_progress", named{"rank", x.rank}, named{"started", x.started},
             named{"finished", x.finished});
  }
};
struct progress_report {
  std::vector<rank_progress> ranks;
  static auto fields(auto& x, auto&& f) { return f("progress_report", named{"ranks", x.ranks}); }
};

}  // namespace dinfer::actors

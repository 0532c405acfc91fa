// SPDX-License-Identifier: Apache-2.0
// The messages of a cluster that forms and drains: nodes join, the supervisor orders
// shards and stages. See messages.hpp for the rules.
#pragma once

#include "actors/messages.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace dinfer::actors {

// What a host has, see runtime::host_facts.
struct host_words {
  std::uint32_t cores = 1;
  std::int32_t first_core = 0;
  std::uint64_t memory_bytes = 0;
  std::vector<std::uint64_t> device_bytes, device_free_bytes;
  std::string machine;
  bool fp8 = true;
  static auto fields(auto& x, auto&& f) {
    return f("host_words", named{"cores", x.cores}, named{"first_core", x.first_core},
             named{"memory_bytes", x.memory_bytes}, named{"device_bytes", x.device_bytes},
             named{"device_free_bytes", x.device_free_bytes}, named{"machine", x.machine},
             named{"fp8", x.fp8});
  }
};

// A node asks to join; sent with its worker handle. The first node compares and admits or refuses.
struct hello {
  std::string node;
  std::uint32_t index = 0;  // into config.nodes
  std::string build;
  std::uint32_t protocol = 0;
  std::string config;  // canonical text of the cluster-wide part
  std::string model;   // fingerprint
  host_words host;
  std::uint32_t process = 0;  // its number on its host
  static auto fields(auto& x, auto&& f) {
    return f("hello", named{"node", x.node}, named{"index", x.index}, named{"build", x.build},
             named{"protocol", x.protocol}, named{"config", x.config}, named{"model", x.model},
             named{"host", x.host}, named{"process", x.process});
  }
};

struct welcome {
  std::string first;  // name of the first node
  static auto fields(auto& x, auto&& f) { return f("welcome", named{"first", x.first}); }
};

struct node_joined {
  std::uint32_t index = 0;
  host_words host;
  std::uint32_t process = 0;
  static auto fields(auto& x, auto&& f) {
    return f("node_joined", named{"index", x.index}, named{"host", x.host},
             named{"process", x.process});
  }
};

struct node_lost {
  std::uint32_t index = 0;
  std::string reason;
  static auto fields(auto& x, auto&& f) {
    return f("node_lost", named{"index", x.index}, named{"reason", x.reason});
  }
};

// A node's process saw the process of one of its children end, and how. The next one may have
// joined by the time that this is heard.
struct child_ended {
  std::uint32_t index = 0;
  std::uint32_t process = 0;
  std::string how;
  static auto fields(auto& x, auto&& f) {
    return f("child_ended", named{"index", x.index}, named{"process", x.process},
             named{"how", x.how});
  }
};

// Where to find the first node, or whose port to try.
struct dial {
  std::string address;
  std::uint16_t port = 0;
  static auto fields(auto& x, auto&& f) {
    return f("dial", named{"address", x.address}, named{"port", x.port});
  }
};
struct probe {
  std::string address;
  std::uint16_t port = 0;
  static auto fields(auto& x, auto&& f) {
    return f("probe", named{"address", x.address}, named{"port", x.port});
  }
};

// The supervisor orders a shard: which part of the model it holds (a rank_layout, flat).
struct shard_order {
  std::uint32_t rank = 0;
  std::string device;
  std::int32_t stage = 0, stages = 1, tp_rank = 0, tp_size = 1;
  // begin and end of layers, query_heads, kv_heads, mlp, vocabulary
  std::vector<std::int64_t> ranges;
  std::vector<std::int32_t> kv_of_query;
  std::uint32_t max_model_len = 0;
  std::uint32_t cpu_threads = 0;
  std::int32_t first_core = -1;
  std::uint64_t cache_bytes = 0;
  static auto fields(auto& x, auto&& f) {
    return f("shard_order", named{"rank", x.rank}, named{"device", x.device},
             named{"stage", x.stage}, named{"stages", x.stages}, named{"tp_rank", x.tp_rank},
             named{"tp_size", x.tp_size}, named{"ranges", x.ranges},
             named{"kv_of_query", x.kv_of_query}, named{"max_model_len", x.max_model_len},
             named{"cpu_threads", x.cpu_threads}, named{"first_core", x.first_core},
             named{"cache_bytes", x.cache_bytes});
  }
};

struct stage_order {  // its part on one node fans plans out to that node's shards of the stage
  std::uint32_t stage = 0;
  static auto fields(auto& x, auto&& f) { return f("stage_order", named{"stage", x.stage}); }
};

DINFER_EMPTY_MESSAGE(drop_shards);   // forget them and their weights
DINFER_EMPTY_MESSAGE(abort_shards);  // wake every blocked collective
struct form_tick {                   // the supervisor to itself: look again at how things are
  std::uint64_t attempt = 0;
  static auto fields(auto& x, auto&& f) { return f("form_tick", named{"attempt", x.attempt}); }
};
DINFER_EMPTY_MESSAGE(join_now);  // a node to itself: dial the first node

// The process ends with this code.
struct end_node {
  std::int32_t code = 0;
  std::string reason;
  static auto fields(auto& x, auto&& f) {
    return f("end_node", named{"code", x.code}, named{"reason", x.reason});
  }
};

// A child that the node keeps does not answer: this process of it is killed, and started again.
struct end_child {
  std::uint32_t index = 0;
  std::uint32_t process = 0;
  static auto fields(auto& x, auto&& f) {
    return f("end_child", named{"index", x.index}, named{"process", x.process});
  }
};

// Drains the whole engine because node `index` wants to leave; the first node takes all with it.
struct drain_cluster {
  std::uint32_t index = 0;
  std::uint32_t timeout_ms = 0;
  static auto fields(auto& x, auto&& f) {
    return f("drain_cluster", named{"index", x.index}, named{"timeout_ms", x.timeout_ms});
  }
};

}  // namespace dinfer::actors

// SPDX-License-Identifier: Apache-2.0
// A cluster, as plain values: what cluster.conf (TOML) and the flags of the same names say. Sizes
// carry their unit in the name. `runtime::parse_config` reads it, `runtime::check_config` checks
// it; nothing else interprets keys.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace dinfer {

enum class dtype_choice : std::uint8_t { automatic, float32, bfloat16, float16 };
enum class quantization_choice : std::uint8_t { none, fp8 };
enum class cache_dtype_choice : std::uint8_t { automatic, fp8 };  // automatic: as activations
enum class load_format : std::uint8_t { automatic, gguf, random };
enum class isolation_mode : std::uint8_t { node, process };  // one process a host | one a device
enum class transport_choice : std::uint8_t {
  automatic,
  shared_memory,
  tcp
};  // automatic: by address

struct model_section {
  std::string path;         // a file or a directory; a config.json when weights are made up
  std::string served_name;  // empty: the file's own name
  dtype_choice dtype = dtype_choice::automatic;
  std::uint32_t max_model_len = 0;  // 0: what the model was trained for
  load_format format = load_format::automatic;
  bool dequantize = false;  // expand quantised weights to dtype at load: more memory, for checks
  quantization_choice quantization = quantization_choice::none;  // of layers' matrices, at load
  std::string tokenizer;   // a GGUF file or folder whose tokeniser serves; empty: the model's own
  std::uint64_t seed = 0;  // of made-up weights
};

struct parallel_section {
  std::uint32_t tensor_parallel_size = 0;    // 0: decided from devices and model, and said why
  std::uint32_t pipeline_parallel_size = 0;  // 0: the same
  std::vector<std::uint32_t> pp_layers;      // layers per stage; empty: split by bytes
  isolation_mode isolation = isolation_mode::node;
};

struct scheduler_section {
  std::uint32_t max_num_seqs = 256;
  std::uint32_t max_num_batched_tokens = 0;  // of prompts and outputs in one step; 0: by device
  std::uint32_t max_num_mixed_tokens = 0;    // the same, while outputs are computed; 0: by device
  std::uint32_t max_queued_requests = 0;     // 0: 4 x max_num_seqs
  std::uint64_t max_queued_tokens = 0;  // 0: 8 x max_model_len x max_num_seqs, at most 16 Mi tokens
  bool batch_invariant = false;         // answers never depend on the batch, in bf16 and f16 too
};

struct cache_section {
  std::uint32_t block_size = 0;    // tokens; 0: 16 on CPU, 32 on CUDA
  std::uint64_t memory_bytes = 0;  // per rank; 0: decided from free memory
  double fraction = 0;             // of device memory, for GPUs; 0: decided
  std::uint32_t blocks = 0;        // exact number of blocks; 0: from memory
  cache_dtype_choice kv_cache_dtype = cache_dtype_choice::automatic;  // of keys and values
  bool prefix_caching = true;
};

struct node_section {
  std::string name;
  std::string address = "127.0.0.1";
  std::uint16_t port = 4242;  // 0: any free one (a single-process cluster)
  std::vector<std::string>
      devices;  // "cpu:0", "cuda:1", "fake:0"; empty: a node that only serves HTTP or schedules
  std::map<std::string, std::string> env;
  std::string parent;  // not a key: the node whose process keeps this one (isolation "process")
};

struct gateway_section {
  std::string node;  // empty: the first node
  std::string address = "127.0.0.1";
  std::uint16_t port = 8000;
  std::uint32_t io_threads = 1;
  std::uint32_t connections_per_address = 1024;  // that one client or proxy may hold open
  std::string api_keys_file;                     // one key a line; empty: no key asked for
  std::vector<std::string> cors_origins;
};

struct security_section {
  bool insecure_network = false;
  // PEM files of this node for TLS with the others: all three, or none. "{node}" in them stands for
  // the node's name.
  std::string tls_ca_file, tls_certificate_file, tls_key_file;
};

struct health_section {
  std::uint32_t heartbeat_ms = 500;
  std::uint32_t timeout_ms = 2000;
  std::uint32_t collective_timeout_ms = 60'000;
  std::uint32_t step_timeout_ms = 60'000;
  std::uint32_t startup_timeout_ms = 600'000;
  std::uint32_t shutdown_timeout_ms = 30'000;
  std::uint32_t resume_timeout_ms = 1500;  // that requests outlast a fault; 0: they end at once
};

struct cpu_section {
  std::uint32_t threads = 0;  // per rank; 0: the host's cores shared out over its ranks
  transport_choice transport = transport_choice::automatic;
};

struct cuda_section {
  std::string tuning_directory;  // empty: decided; "off": nothing is kept
  bool graphs = true;            // steps are recorded once and replayed
};

struct log_section {
  std::string level = "info";
  std::string format = "text";  // text | json
};

struct cluster_config {
  model_section model;
  parallel_section parallel;
  scheduler_section scheduler;
  cache_section cache;
  std::vector<node_section> nodes;        // at least one after check_config
  std::vector<gateway_section> gateways;  // may be empty: then the first node serves 127.0.0.1:8000
  security_section security;
  health_section health;
  cpu_section cpu;
  cuda_section cuda;
  log_section log;
  std::string file;  // where it was read from, for messages; empty: flags alone
  // For messages: the line of each key that the file holds ("parallel.pp_layers", "node[0].port");
  // 0: a flag or the environment said it.
  std::map<std::string, std::uint32_t> lines;
};

}  // namespace dinfer

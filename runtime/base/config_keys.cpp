// SPDX-License-Identifier: Apache-2.0
// The one table of settings: key, flag, help, range and member. The file's reader, the flags, the
// environment, --help and the join handshake all read it.
#include "runtime/base/config_field.hpp"
#include "runtime/base/toml_config.hpp"

#include <fmt/format.h>

#include <type_traits>

// A member of cluster_config as a function of the configuration and the entry's number.
#define DINFER_MEMBER(member) \
  [](cluster_config & c, std::size_t) -> auto& { return c.member; }
#define DINFER_NODE(member) \
  [](cluster_config & c, std::size_t i) -> auto& { return c.nodes[i].member; }
#define DINFER_GATEWAY(member) \
  [](cluster_config & c, std::size_t i) -> auto& { return c.gateways[i].member; }

namespace dinfer::runtime {
namespace {

constexpr std::uint64_t million = 1'000'000, hour_ms = 3'600'000;

struct field {
  decltype(config_key::set) set;
  decltype(config_key::text) text;
  bool boolean = false;
};

template <class Member>
field number(Member member, std::uint64_t low, std::uint64_t high, bool sized = false) {
  return {[=](cluster_config& c, std::size_t i, const config_value& from) {
            std::uint64_t value = 0;
            auto problem = read_number(from, low, high, sized, value);
            using type = std::remove_reference_t<decltype(member(c, i))>;
            if (problem.empty()) member(c, i) = static_cast<type>(value);
            return problem;
          },
          [=](cluster_config& c, std::size_t i) { return std::to_string(member(c, i)); }};
}

template <class Member>
field sized(Member member, std::uint64_t low, std::uint64_t high) {
  return number(member, low, high, true);
}

template <class Member>
field fraction(Member member) {
  return {[=](cluster_config& c, std::size_t i, const config_value& from) {
            return read_fraction(from, member(c, i));
          },
          [=](cluster_config& c, std::size_t i) { return fmt::format("{}", member(c, i)); }};
}

template <class Member>
field boolean(Member member) {
  return {[=](cluster_config& c, std::size_t i, const config_value& from) {
            return read_bool(from, member(c, i));
          },
          [=](cluster_config& c, std::size_t i) { return member(c, i) ? "true" : "false"; }, true};
}

template <class Member>
field text(Member member, config_problem (*check)(const std::string&) = check_plain_text) {
  return {[=](cluster_config& c, std::size_t i, const config_value& from) {
            std::string value;
            auto problem = read_text(from, value);
            if (problem.empty()) problem = check(value);
            if (problem.empty()) member(c, i) = value;
            return problem;
          },
          [=](cluster_config& c, std::size_t i) { return member(c, i); }};
}

template <class Member>
field texts(Member member, config_problem (*check)(const std::string&)) {
  return {[=](cluster_config& c, std::size_t i, const config_value& from) {
            std::vector<std::string> values;
            auto problem = read_texts(from, values);
            for (const auto& value : values)
              if (problem.empty()) problem = check(value);
            if (problem.empty()) member(c, i) = values;
            return problem;
          },
          [=](cluster_config& c, std::size_t i) { return joined(member(c, i)); }};
}

template <class Member>
field numbers(Member member, std::uint64_t low, std::uint64_t high) {
  return {[=](cluster_config& c, std::size_t i, const config_value& from) {
            return read_numbers(from, low, high, member(c, i));
          },
          [=](cluster_config& c, std::size_t i) {
            return fmt::format("{}", fmt::join(member(c, i), ", "));
          }};
}

// `names` in the order of the enumerators.
template <class Member>
field choice(Member member, std::vector<std::string> names) {
  return {[=](cluster_config& c, std::size_t i, const config_value& from) {
            std::size_t value = 0;
            auto problem = read_choice(from, names, value);
            using type = std::remove_reference_t<decltype(member(c, i))>;
            if (problem.empty()) member(c, i) = static_cast<type>(value);
            return problem;
          },
          [=](cluster_config& c, std::size_t i) {
            return names[static_cast<std::size_t>(member(c, i))];
          }};
}

template <class Member>
field word(Member member, std::vector<std::string> names) {
  return {[=](cluster_config& c, std::size_t i, const config_value& from) {
            std::size_t value = 0;
            auto problem = read_choice(from, names, value);
            if (problem.empty()) member(c, i) = names[value];
            return problem;
          },
          [=](cluster_config& c, std::size_t i) { return member(c, i); }};
}

field environment() {
  return {[](cluster_config& c, std::size_t i, const config_value& from) {
            return read_environment(from, c.nodes[i].env);
          },
          [](cluster_config&, std::size_t) { return std::string(); }};
}

enum scope { everywhere, own };  // own: hosts may differ in it

class table {
 public:
  void section(std::string name, std::string group) {
    section_ = std::move(name);
    group_ = std::move(group);
  }
  void add(const char* name, const char* flag, const char* short_name, field how, const char* help,
           scope where = everywhere) {
    keys.push_back({section_, name, flag, short_name, help, group_, where == everywhere,
                    how.boolean, std::move(how.set), std::move(how.text)});
  }
  std::vector<config_key> keys;

 private:
  std::string section_, group_;
};

void add_model(table& t) {
  t.section("model", "Model");
  t.add("path", "model", "", text(DINFER_MEMBER(model.path)),
        "model file or directory; with --load-format random a config.json", own);
  t.add("served_name", "served-model-name", "", text(DINFER_MEMBER(model.served_name)),
        "name in the API; the file's own when absent");
  t.add(
      "dtype", "dtype", "",
      choice(DINFER_MEMBER(model.dtype), {"auto", "float32", "bfloat16", "float16"}),
      "type of activations: float32, bfloat16, float16 or auto (bfloat16 on GPUs; on CPUs float32, "
      "but 8 bits where weights are quantised)");
  t.add("max_model_len", "max-model-len", "",
        sized(DINFER_MEMBER(model.max_model_len), 0, 16 * million),
        "tokens of prompt and answer together, as 32K; 0: what the model was trained for");
  t.add("format", "load-format", "",
        choice(DINFER_MEMBER(model.format), {"auto", "gguf", "random"}),
        "auto, gguf, or random: weights made up from a seed, shapes from a config.json");
  t.add("dequantize", "dequantize", "", boolean(DINFER_MEMBER(model.dequantize)),
        "expand quantised weights to dtype when loading");
  t.add("quantization", "quantization", "",
        choice(DINFER_MEMBER(model.quantization), {"none", "fp8"}),
        "fp8: matrices of layers become 8-bit floats when loading, and what meets them too: GPUs "
        "alone, half the memory");
  t.add("tokenizer", "tokenizer", "", text(DINFER_MEMBER(model.tokenizer)),
        "GGUF file or checkpoint folder whose tokeniser serves; the model's own when absent", own);
  t.add("seed", "seed", "", number(DINFER_MEMBER(model.seed), 0, (1ull << 63) - 1),
        "of made-up weights");
}

void add_parallel(table& t) {
  t.section("parallel", "Parallelism");
  t.add("tensor_parallel_size", "tensor-parallel-size", "tp",
        number(DINFER_MEMBER(parallel.tensor_parallel_size), 0, 1024),
        "devices that share each layer; 0: decided from devices and model");
  t.add("pipeline_parallel_size", "pipeline-parallel-size", "pp",
        number(DINFER_MEMBER(parallel.pipeline_parallel_size), 0, 256),
        "stages that share the layers; 0: decided from devices and model");
  t.add("pp_layers", "pp-layers", "", numbers(DINFER_MEMBER(parallel.pp_layers), 1, 10'000),
        "layers of each stage, as 16,14; split by bytes when absent");
  t.add("isolation", "isolation", "",
        choice(DINFER_MEMBER(parallel.isolation), {"node", "process"}),
        "node: one process a node; process: one more for each of its devices");
}

void add_scheduler(table& t) {
  t.section("scheduler", "Scheduler");
  t.add("max_num_seqs", "max-num-seqs", "",
        number(DINFER_MEMBER(scheduler.max_num_seqs), 1, 65'536), "sequences that run at once");
  t.add("max_num_batched_tokens", "max-num-batched-tokens", "",
        sized(DINFER_MEMBER(scheduler.max_num_batched_tokens), 0, million),
        "prompt and answer tokens of one step; 0: 512 on CPUs, 8192 on GPUs");
  t.add("max_num_mixed_tokens", "max-num-mixed-tokens", "",
        sized(DINFER_MEMBER(scheduler.max_num_mixed_tokens), 0, million),
        "the same while answers run, which wait for prompts beside them; 0: 512 on CPUs, 2048 for "
        "each GPU");
  t.add("max_queued_requests", "max-num-queued-reqs", "",
        number(DINFER_MEMBER(scheduler.max_queued_requests), 0, million),
        "requests that may wait before others are refused; 0: 4 x max_num_seqs");
  t.add("max_queued_tokens", "max-num-queued-tokens", "",
        sized(DINFER_MEMBER(scheduler.max_queued_tokens), 0, 1ull << 40),
        "prompt tokens that may wait; 0: decided");
  t.add("batch_invariant", "batch-invariant", "", boolean(DINFER_MEMBER(scheduler.batch_invariant)),
        "an answer never depends on what else is computed, in bfloat16 and float16 too: slower");
}

void add_cache(table& t) {
  t.section("cache", "KV cache");
  t.add("block_size", "block-size", "", number(DINFER_MEMBER(cache.block_size), 0, 1024),
        "tokens of a block, a power of two; 0: 16 on CPU, 32 on CUDA");
  t.add("memory", "kv-cache-memory-bytes", "",
        sized(DINFER_MEMBER(cache.memory_bytes), 0, 1ull << 50),
        "of each rank, as \"2 GiB\"; 0: decided from free memory");
  t.add("fraction", "gpu-memory-utilization", "", fraction(DINFER_MEMBER(cache.fraction)),
        "of a GPU's memory, for everything; 0: 0.92");
  t.add("blocks", "cache-blocks", "", number(DINFER_MEMBER(cache.blocks), 0, 1u << 31),
        "exact number of blocks; 0: from memory");
  t.add("kv_cache_dtype", "kv-cache-dtype", "",
        choice(DINFER_MEMBER(cache.kv_cache_dtype), {"auto", "fp8"}),
        "type of keys and values: auto (as activations) or fp8, 8-bit floats: GPUs alone, half the "
        "memory");
  t.add("prefix_caching", "enable-prefix-caching", "", boolean(DINFER_MEMBER(cache.prefix_caching)),
        "keep blocks of prompts for later requests");
}

void add_nodes(table& t) {
  t.section("node", "Nodes (of the first [[node]])");
  t.add("name", "", "", text(DINFER_NODE(name), check_node_name), "");
  t.add("address", "", "", text(DINFER_NODE(address), check_address), "");
  t.add("port", "", "", number(DINFER_NODE(port), 0, 65'535), "");
  t.add("devices", "devices", "", texts(DINFER_NODE(devices), check_device),
        "as cpu:0,cpu:1 or cuda:0");
  t.add("env", "", "", environment(), "", own);
  t.section("gateway", "HTTP (of the first [[gateway]])");
  t.add("node", "", "", text(DINFER_GATEWAY(node), check_node_name), "");
  t.add("address", "host", "", text(DINFER_GATEWAY(address), check_address),
        "address that HTTP is served on");
  t.add("port", "port", "", number(DINFER_GATEWAY(port), 0, 65'535), "port of HTTP; 0: any");
  t.add("io_threads", "io-threads", "", number(DINFER_GATEWAY(io_threads), 1, 64),
        "threads that serve sockets");
  t.add("connections_per_address", "connections-per-address", "",
        number(DINFER_GATEWAY(connections_per_address), 1, 4096),
        "that one client or proxy may hold open");
  t.add("api_keys_file", "api-keys-file", "", text(DINFER_GATEWAY(api_keys_file)),
        "one key a line; no key is asked for when absent", own);
  t.add("cors_origins", "cors-origins", "", texts(DINFER_GATEWAY(cors_origins), check_origin),
        "origins of web pages that may call, as https://host");
}

void add_rest(table& t) {
  t.section("security", "Security");
  t.add("insecure_network", "insecure-network", "",
        boolean(DINFER_MEMBER(security.insecure_network)),
        "nodes may use addresses off the loopback: whoever reaches them controls the cluster");
  t.add("tls_ca_file", "tls-ca-file", "", text(DINFER_MEMBER(security.tls_ca_file)),
        "PEM file of the cluster's CA, for TLS between nodes; dinfer certs makes one", own);
  t.add("tls_certificate_file", "tls-certificate-file", "",
        text(DINFER_MEMBER(security.tls_certificate_file)),
        "PEM file of this node's certificate; {node} stands for its name", own);
  t.add("tls_key_file", "tls-key-file", "", text(DINFER_MEMBER(security.tls_key_file)),
        "PEM file of its private key", own);
  t.section("health", "Health");
  t.add("heartbeat_ms", "heartbeat-ms", "", number(DINFER_MEMBER(health.heartbeat_ms), 10, 60'000),
        "between heartbeats of nodes");
  t.add("timeout_ms", "node-timeout-ms", "", number(DINFER_MEMBER(health.timeout_ms), 50, hour_ms),
        "of silence until a node is given up");
  t.add("collective_timeout_ms", "collective-timeout-ms", "",
        number(DINFER_MEMBER(health.collective_timeout_ms), 100, hour_ms),
        "of a rank's wait for another");
  t.add("step_timeout_ms", "step-timeout-ms", "",
        number(DINFER_MEMBER(health.step_timeout_ms), 100, hour_ms), "of one step");
  t.add("startup_timeout_ms", "startup-timeout-ms", "",
        number(DINFER_MEMBER(health.startup_timeout_ms), 1000, 24 * hour_ms),
        "until all nodes have joined and loaded");
  t.add("shutdown_timeout_ms", "shutdown-timeout-ms", "",
        number(DINFER_MEMBER(health.shutdown_timeout_ms), 0, hour_ms),
        "for running requests to finish when stopping");
  t.add("resume_timeout_ms", "resume-timeout-ms", "",
        number(DINFER_MEMBER(health.resume_timeout_ms), 0, hour_ms),
        "that running requests wait for the engine after a fault; 0: they end with an error");
  t.section("cpu", "CPU devices");
  t.add("threads", "cpu-threads", "", number(DINFER_MEMBER(cpu.threads), 0, 1024),
        "of each rank; 0: the host's cores shared out", own);
  t.add("transport", "cpu-transport", "",
        choice(DINFER_MEMBER(cpu.transport), {"auto", "shared_memory", "tcp"}),
        "between ranks: auto, shared_memory, tcp");
  t.section("cuda", "CUDA devices");
  t.add("tuning_directory", "cuda-tuning-directory", "", text(DINFER_MEMBER(cuda.tuning_directory)),
        "where the fastest kernels are remembered; ~/.cache/dinfer when absent, off: nowhere", own);
  t.add("graphs", "cuda-graphs", "", boolean(DINFER_MEMBER(cuda.graphs)),
        "record steps once and replay them; on unless turned off");
  t.section("log", "Log");
  t.add("level", "log-level", "",
        word(DINFER_MEMBER(log.level), {"trace", "debug", "info", "warn", "error", "off"}),
        "trace, debug, info, warn, error, off", own);
  t.add("format", "log-format", "", word(DINFER_MEMBER(log.format), {"text", "json"}),
        "text or json", own);
}

}  // namespace

const std::vector<config_key>& config_keys() {
  static const auto keys = [] {
    table t;
    add_model(t);
    add_parallel(t);
    add_scheduler(t);
    add_cache(t);
    add_nodes(t);
    add_rest(t);
    return t.keys;
  }();
  return keys;
}

}  // namespace dinfer::runtime

// SPDX-License-Identifier: Apache-2.0
// cluster.conf (TOML) and settings by name (flags, environment) to cluster_config. Every error
// names file, line, key and what would fit. No I/O but reading the one file.
#pragma once

#include "dinfer/config.hpp"
#include "dinfer/error.hpp"

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace dinfer::runtime {

// `file` is for messages only. Errors: invalid_argument, all problems of the text in one message,
// one a line: "cluster.conf:12: parallel.tensor_parallel_sise: unknown key; did you mean
// tensor_parallel_size?"
result<cluster_config> parse_config(std::string_view toml, const std::string& file);
result<cluster_config> load_config(const std::string& file);

// One setting by its flag name without dashes ("tensor-parallel-size", "max-model-len" with
// 32K, 1.5 GiB...), over what the file said. "no-<name>" turns a boolean off; an empty value turns
// it on. Errors: invalid_argument with the flag as subject.
result<void> apply_setting(cluster_config& config, std::string_view name, std::string_view value);

struct setting_info {
  std::string name;  // "tensor-parallel-size": flag, DINFER_TENSOR_PARALLEL_SIZE in the environment
  std::string short_name;  // "tp", or empty
  std::string key;         // "parallel.tensor_parallel_size"
  std::string help;
  std::string group;     // heading in --help
  bool boolean = false;  // the flag may stand without a value; --no-<name> is its opposite
};
const std::vector<setting_info>& settings();

// Fills defaults that depend on others (first node, gateway) and checks what can be checked without
// opening the model: duplicate names and ports, sizes against devices, off-loopback addresses
// without insecure_network. Call it last, after flags. Errors: all of them, as parse_config's.
result<void> check_config(cluster_config& config);

// The canonical cluster-wide part, for the join handshake: equal text, equal cluster. Left out is
// what hosts may have their own way: model path, env, API keys file, CPU threads, log.
std::string canonical_text(const cluster_config& config);

// "2 GiB", "512MB", "32K": bytes or a count. K, M, G, T and KiB, MiB... are powers of 1024; k, m
// and kB, MB... of 1000. Error: invalid_argument.
result<std::uint64_t> parse_size(std::string_view text);
std::string format_bytes(std::uint64_t bytes);

}  // namespace dinfer::runtime

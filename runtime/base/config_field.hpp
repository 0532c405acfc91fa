// SPDX-License-Identifier: Apache-2.0
// How a value of cluster.conf or a flag becomes a member of cluster_config: readers per type, each
// answering with a sentence for a person when a value does not fit. For the config_*.cpp files and,
// of the checks, for programs. Pure; any thread.
#pragma once

#include "dinfer/config.hpp"

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace dinfer::runtime {

// A value before anyone knows what it is for. A flag's text is `typed`: it may stand for any type.
struct config_value {
  struct typed {
    std::string text;
  };
  struct other {
    std::string what;  // "a date"
  };
  struct member;
  using list = std::vector<config_value>;
  using table = std::vector<member>;
  std::variant<other, bool, std::int64_t, double, std::string, list, table, typed> held;
};
struct config_value::member {
  std::string name;
  config_value value;
};

// What is wrong with a value and what would fit; empty: nothing.
using config_problem = std::string;

// `sized`: text such as "32K" or "2 GiB" may stand for a number.
config_problem read_number(const config_value& from, std::uint64_t low, std::uint64_t high,
                           bool sized, std::uint64_t& to);
config_problem read_fraction(const config_value& from, double& to);
config_problem read_bool(const config_value& from, bool& to);
config_problem read_text(const config_value& from, std::string& to);
config_problem read_texts(const config_value& from, std::vector<std::string>& to);
config_problem read_numbers(const config_value& from, std::uint64_t low, std::uint64_t high,
                            std::vector<std::uint32_t>& to);
config_problem read_environment(const config_value& from, std::map<std::string, std::string>& to);
// One of `names`; `to` is its index.
config_problem read_choice(const config_value& from, const std::vector<std::string>& names,
                           std::size_t& to);

// Checks of texts.
config_problem check_plain_text(const std::string& text);  // short, no control characters
config_problem check_node_name(const std::string& text);
config_problem check_address(const std::string& text);
config_problem check_device(const std::string& text);
config_problem check_origin(const std::string& text);

// The nearest of `names` by edit distance; empty when none is near.
std::string nearest(std::string_view to, const std::vector<std::string>& names);
std::string joined(const std::vector<std::string>& names);

// One key of the file, its flag, and how it is read and written.
struct config_key {
  std::string section, name;     // "parallel", "tensor_parallel_size"
  std::string flag, short_name;  // "tensor-parallel-size", "tp"; empty: no flag
  std::string help, group;
  bool cluster_wide = true;  // stands in canonical_text
  bool boolean = false;
  // `index` counts [[node]] and [[gateway]]; a flag means the first.
  std::function<config_problem(cluster_config&, std::size_t index, const config_value&)> set;
  std::function<std::string(cluster_config&, std::size_t index)> text;
};
const std::vector<config_key>& config_keys();

}  // namespace dinfer::runtime

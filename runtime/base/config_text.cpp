// SPDX-License-Identifier: Apache-2.0
// Settings by name, sizes as people write them, and the canonical text of a cluster.
#include "runtime/base/config_field.hpp"
#include "runtime/base/toml_config.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

namespace dinfer::runtime {
namespace {

struct unit {
  std::string_view name;
  double factor;
};

constexpr double ki = 1024, mi = ki * ki, gi = mi * ki, ti = gi * ki;
constexpr std::array units{unit{"", 1},     unit{"B", 1},    unit{"k", 1e3},   unit{"kB", 1e3},
                           unit{"KB", 1e3}, unit{"K", ki},   unit{"Ki", ki},   unit{"KiB", ki},
                           unit{"m", 1e6},  unit{"MB", 1e6}, unit{"M", mi},    unit{"Mi", mi},
                           unit{"MiB", mi}, unit{"g", 1e9},  unit{"GB", 1e9},  unit{"G", gi},
                           unit{"Gi", gi},  unit{"GiB", gi}, unit{"TB", 1e12}, unit{"T", ti},
                           unit{"Ti", ti},  unit{"TiB", ti}};

// The first [[node]] or [[gateway]], made when the file has none, is what a flag speaks of.
void make_first_entry(cluster_config& config, const std::string& section) {
  if (section == "gateway" && config.gateways.empty()) config.gateways.emplace_back();
  if (section == "node" && config.nodes.empty()) {
    config.nodes.emplace_back();
    config.nodes[0].name = "local";
    config.nodes[0].port = 0;
  }
}

std::string shown_name(const config_key& key, std::size_t index) {
  if (key.section == "node" || key.section == "gateway")
    return fmt::format("{}[{}].{}", key.section, index, key.name);
  return key.section + "." + key.name;
}

}  // namespace

result<void> apply_setting(cluster_config& config, std::string_view name, std::string_view value) {
  const auto& keys = config_keys();
  const auto find = [&](std::string_view flag) {
    return std::find_if(keys.begin(), keys.end(), [&](const config_key& one) {
      return !one.flag.empty() && one.flag == flag;
    });
  };
  const auto subject = std::string(name);
  auto key = find(name);
  bool opposite = false;
  if (key == keys.end() && name.starts_with("no-")) {
    key = find(name.substr(3));
    opposite = key != keys.end() && key->boolean;
    if (!opposite) key = keys.end();
  }
  if (key == keys.end()) {
    std::vector<std::string> flags;
    for (const auto& one : keys)
      if (!one.flag.empty()) flags.push_back(one.flag);
    const auto near = nearest(name, flags);
    return fail(errc::invalid_argument,
                fmt::format("--{}: no such setting{}", name,
                            near.empty() ? "" : "; did you mean --" + near + "?"),
                subject);
  }
  if (name == "port" && value.starts_with("tcp://"))
    return fail(errc::invalid_argument,
                fmt::format("--port: \"{}\" is what Kubernetes puts into DINFER_PORT for a service "
                            "named dinfer; rename the service or set enableServiceLinks: false",
                            value),
                subject);
  make_first_entry(config, key->section);
  bool boolean = true;
  const config_value typed{config_value::typed{std::string(value)}};
  auto problem = opposite ? read_bool(typed, boolean) : key->set(config, 0, typed);
  if (opposite && problem.empty()) problem = key->set(config, 0, {!boolean});
  if (!problem.empty())
    return fail(errc::invalid_argument, fmt::format("--{}: {}", name, problem), subject);
  config.lines[shown_name(*key, 0)] = 0;
  return {};
}

const std::vector<setting_info>& settings() {
  static const auto all = [] {
    std::vector<setting_info> out;
    for (const auto& key : config_keys())
      if (!key.flag.empty())
        out.push_back({key.flag, key.short_name, key.section + "." + key.name, key.help, key.group,
                       key.boolean});
    return out;
  }();
  return all;
}

std::string canonical_text(const cluster_config& config) {
  auto copy = config;  // members are reached through functions of a mutable configuration
  std::string out;
  const auto add = [&](const std::string& section, std::size_t index) {
    for (const auto& key : config_keys())
      if (key.section == section && key.cluster_wide)
        out += fmt::format("{} = {}\n", shown_name(key, index), key.text(copy, index));
  };
  for (const auto* section :
       {"model", "parallel", "scheduler", "cache", "security", "health", "cpu", "cuda"})
    add(section, 0);
  for (std::size_t i = 0; i < config.nodes.size(); ++i) add("node", i);
  for (std::size_t i = 0; i < config.gateways.size(); ++i) add("gateway", i);
  return out;
}

result<std::uint64_t> parse_size(std::string_view text) {
  const auto bad = [&] {
    return fail(errc::invalid_argument,
                fmt::format("\"{}\" is no size; 4096, \"32K\", \"512 MB\" or \"1.5 GiB\" fit",
                            text.substr(0, 64)));
  };
  const auto* end = text.data() + text.size();
  double number = 0;
  const auto [after, code] = std::from_chars(text.data(), end, number, std::chars_format::fixed);
  if (code != std::errc{} || !std::isfinite(number) || number < 0) return bad();
  std::uint64_t whole = 0;
  if (const auto [at, exact] = std::from_chars(text.data(), end, whole);
      exact == std::errc{} && at == end)
    return whole;  // beyond 2^53 a double would round
  auto name = text.substr(static_cast<std::size_t>(after - text.data()));
  while (name.starts_with(' ')) name.remove_prefix(1);
  const auto* found =
      std::find_if(units.begin(), units.end(), [&](const unit& u) { return u.name == name; });
  if (found == units.end()) return bad();
  const double value = number * found->factor;
  if (value > 0x1p62 || (found->factor == 1 && value != std::floor(value))) return bad();
  return static_cast<std::uint64_t>(value);
}

std::string format_bytes(std::uint64_t bytes) {
  constexpr std::array names{"KiB", "MiB", "GiB", "TiB"};
  if (bytes < 1024) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes) / 1024;
  std::size_t at = 0;
  while (value >= 1024 && at + 1 < names.size()) value /= 1024, ++at;
  return fmt::format("{:.{}f} {}", value, value < 10 ? 2 : value < 100 ? 1 : 0, names[at]);
}

}  // namespace dinfer::runtime

// SPDX-License-Identifier: Apache-2.0
// TOML text to cluster_config by the table of keys, noting the line of each. The only file that
// knows toml++.
#include "runtime/base/config_field.hpp"
#include "runtime/base/toml_config.hpp"

#include <fmt/format.h>

// Some broken keys trip the parser's assertions before it reports them as errors.
#define TOML_ASSERT(condition) static_cast<void>(0)
#include <toml++/toml.h>

#include <algorithm>
#include <fstream>
#include <set>

namespace dinfer::runtime {
namespace {

constexpr std::size_t largest_file = 1 << 20, most_entries = 4096;

std::uint32_t line_of(const toml::node& node) { return node.source().begin.line; }

config_value convert(const toml::node& from) {
  if (const auto* boolean = from.as_boolean()) return {boolean->get()};
  if (const auto* integer = from.as_integer()) return {integer->get()};
  if (const auto* real = from.as_floating_point()) return {real->get()};
  if (const auto* text = from.as_string()) return {text->get()};
  if (const auto* array = from.as_array()) {
    config_value::list out;
    for (const auto& item : *array) out.push_back(convert(item));
    return {std::move(out)};
  }
  if (const auto* table = from.as_table()) {
    config_value::table out;
    for (const auto& [name, item] : *table) out.push_back({std::string(name.str()), convert(item)});
    return {std::move(out)};
  }
  return {config_value::other{"a date or time"}};
}

class reader {
 public:
  explicit reader(const std::string& file) { config_.file = file; }

  result<cluster_config> read(const toml::table& root) {
    for (const auto& [name, node] : root) read_section(std::string(name.str()), node);
    if (problems_.empty()) return std::move(config_);
    std::sort(problems_.begin(), problems_.end());
    std::string all;
    for (const auto& [line, text] : problems_) all += (all.empty() ? "" : "\n") + text;
    return fail(errc::invalid_argument, all, config_.file);
  }

 private:
  void complain(std::uint32_t line, const std::string& key, const std::string& what) {
    problems_.emplace_back(
        line, fmt::format("{}:{}: {}: {}", config_.file, line, shortened(key), shortened(what)));
  }

  // What a file holds may be long, and is repeated in messages.
  static std::string shortened(const std::string& text) {
    constexpr std::size_t most = 400, kept = 150;
    if (text.size() <= most) return text;
    return text.substr(0, kept) + " ... " + text.substr(text.size() - kept);
  }

  void read_section(const std::string& name, const toml::node& node) {
    std::set<std::string> sections;
    for (const auto& key : config_keys()) sections.insert(key.section);
    const bool repeated = name == "node" || name == "gateway";
    if (!sections.contains(name))
      return complain(line_of(node), name,
                      unknown(name, "section", {sections.begin(), sections.end()}));
    if (!repeated && !node.is_table())
      return complain(line_of(node), name, fmt::format("write it as a table, [{}], once", name));
    if (!repeated) return read_table(name, name, 0, *node.as_table());
    const auto* entries = node.as_array();
    if (entries == nullptr || entries->empty() || !entries->is_homogeneous<toml::table>())
      return complain(line_of(node), name,
                      fmt::format("write each as a table of its own, [[{}]]", name));
    if (entries->size() > most_entries)
      return complain(line_of(node), name, fmt::format("more than {} entries", most_entries));
    for (std::size_t i = 0; i < entries->size(); ++i) {
      if (name == "node") config_.nodes.emplace_back();
      else config_.gateways.emplace_back();
      read_table(name, fmt::format("{}[{}]", name, i), i, *(*entries)[i].as_table());
    }
  }

  void read_table(const std::string& section, const std::string& shown, std::size_t index,
                  const toml::table& table) {
    config_.lines[shown] = line_of(table);
    for (const auto& [name, node] : table) {
      const std::string key_name(name.str());
      const auto shown_key = shown + "." + key_name;
      const auto line = name.source().begin.line;
      config_.lines[shown_key] = line;
      const auto& keys = config_keys();
      const auto key = std::find_if(keys.begin(), keys.end(), [&](const config_key& one) {
        return one.section == section && one.name == key_name;
      });
      if (key == keys.end()) {
        std::vector<std::string> names;
        for (const auto& one : keys)
          if (one.section == section) names.push_back(one.name);
        complain(line, shown_key, unknown(key_name, "key", names));
        continue;
      }
      const auto problem = key->set(config_, index, convert(node));
      if (!problem.empty()) complain(line, shown_key, problem);
    }
  }

  static std::string unknown(const std::string& name, const char* what,
                             const std::vector<std::string>& names) {
    const auto near = nearest(name, names);
    return near.empty() ? fmt::format("unknown {}; there are {}", what, joined(names))
                        : fmt::format("unknown {}; did you mean {}?", what, near);
  }

  cluster_config config_;
  std::vector<std::pair<std::uint32_t, std::string>> problems_;
};

}  // namespace

result<cluster_config> parse_config(std::string_view toml, const std::string& file) {
  if (toml.size() > largest_file)
    return fail(errc::invalid_argument,
                fmt::format("{}:1: {} bytes; a configuration has at most 1 MB", file, toml.size()),
                file);
  try {
    return reader(file).read(toml::parse(toml));
  } catch (const toml::parse_error& e) {
    return fail(errc::invalid_argument,
                fmt::format("{}:{}: column {}: {}; this is not TOML", file, e.source().begin.line,
                            e.source().begin.column, e.description()),
                file);
  }
}

result<cluster_config> load_config(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in.is_open())
    return fail(errc::not_found,
                file + ": there is no such configuration file, or none may read it", file);
  std::string text(largest_file + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (in.bad()) return fail(errc::io_error, file + ": reading it failed", file);
  text.resize(static_cast<std::size_t>(in.gcount()));
  return parse_config(text, file);
}

}  // namespace dinfer::runtime

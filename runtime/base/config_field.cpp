// SPDX-License-Identifier: Apache-2.0
// Readers of values and checks of texts.
#include "runtime/base/config_field.hpp"

#include "runtime/base/toml_config.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <numeric>
#include <optional>

namespace dinfer::runtime {
namespace {

constexpr std::size_t most_items = 4096, longest_text = 4096;

template <class T>
const T* as(const config_value& value) {
  return std::get_if<T>(&value.held);
}

const std::string* typed(const config_value& value) {
  const auto* flag = as<config_value::typed>(value);
  return flag != nullptr ? &flag->text : nullptr;
}

std::string found(const config_value& value) {
  if (const auto* flag = typed(value)) return '"' + *flag + '"';
  if (const auto* other = as<config_value::other>(value)) return other->what;
  if (const auto* text = as<std::string>(value)) return "the string \"" + *text + '"';
  if (const auto* integer = as<std::int64_t>(value)) return fmt::format("{}", *integer);
  if (const auto* real = as<double>(value)) return fmt::format("{}", *real);
  if (const auto* boolean = as<bool>(value)) return *boolean ? "true" : "false";
  return as<config_value::list>(value) != nullptr ? "an array" : "a table";
}

config_problem wrong(const config_value& value, std::string_view wanted) {
  return fmt::format("{} where {} is expected", found(value), wanted);
}

// A flag's "a,b,c" as an array.
std::optional<config_value::list> items_of(const config_value& value) {
  if (const auto* list = as<config_value::list>(value)) return *list;
  const auto* flag = typed(value);
  if (flag == nullptr) return std::nullopt;
  config_value::list out;
  for (std::size_t at = 0; at < flag->size();) {
    const auto end = std::min(flag->find(',', at), flag->size());
    out.push_back({config_value::typed{flag->substr(at, end - at)}});
    at = end + 1;
  }
  return out;
}

bool only(std::string_view text, std::string_view more) {
  return std::all_of(text.begin(), text.end(), [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           more.find(c) != std::string_view::npos;
  });
}

bool environment_name(std::string_view name) {
  return !name.empty() && only(name, "_") && (name[0] < '0' || name[0] > '9');
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    auto diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const auto changed = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({changed, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

}  // namespace

config_problem read_number(const config_value& from, std::uint64_t low, std::uint64_t high,
                           bool sized, std::uint64_t& to) {
  const std::string wanted = fmt::format("an integer from {} to {}{}", low, high,
                                         sized ? " (or text as \"32K\", \"2 GiB\")" : "");
  const auto* text = typed(from) != nullptr ? typed(from) : sized ? as<std::string>(from) : nullptr;
  if (text != nullptr) {
    const auto size = parse_size(*text);
    if (!size || *size < low || *size > high) return wrong(from, wanted);
    to = *size;
    return {};
  }
  const auto* integer = as<std::int64_t>(from);
  if (integer == nullptr || *integer < 0) return wrong(from, wanted);
  const auto value = static_cast<std::uint64_t>(*integer);
  if (value < low || value > high) return wrong(from, wanted);
  to = value;
  return {};
}

config_problem read_fraction(const config_value& from, double& to) {
  constexpr std::string_view wanted = "a number from 0 to 1";
  double value = -1;
  if (const auto* text = typed(from)) {
    const auto* end = text->data() + text->size();
    const auto [at, code] = std::from_chars(text->data(), end, value);
    if (code != std::errc{} || at != end) return wrong(from, wanted);
  } else if (const auto* real = as<double>(from)) {
    value = *real;
  } else if (const auto* integer = as<std::int64_t>(from)) {
    value = static_cast<double>(*integer);
  }
  if (!(value >= 0 && value <= 1)) return wrong(from, wanted);  // NaN too
  to = value;
  return {};
}

config_problem read_bool(const config_value& from, bool& to) {
  if (const auto* boolean = as<bool>(from)) {
    to = *boolean;
    return {};
  }
  if (const auto* text = typed(from)) {
    for (const auto* yes : {"", "true", "1", "yes", "on"})
      if (*text == yes) return to = true, config_problem{};
    for (const auto* no : {"false", "0", "no", "off"})
      if (*text == no) return to = false, config_problem{};
  }
  return wrong(from, "true or false");
}

config_problem read_text(const config_value& from, std::string& to) {
  const auto* text = typed(from) != nullptr ? typed(from) : as<std::string>(from);
  if (text == nullptr) return wrong(from, "a string in quotes");
  if (text->size() > longest_text)
    return fmt::format("a string of {} bytes; {} fit", text->size(), longest_text);
  to = *text;
  return {};
}

config_problem read_texts(const config_value& from, std::vector<std::string>& to) {
  const auto items = items_of(from);
  if (!items) return wrong(from, "an array of strings");
  if (items->size() > most_items) return fmt::format("more than {} entries", most_items);
  std::vector<std::string> read(items->size());
  for (std::size_t i = 0; i < items->size(); ++i)
    if (auto problem = read_text((*items)[i], read[i]); !problem.empty())
      return fmt::format("entry {}: {}", i + 1, problem);
  to = std::move(read);
  return {};
}

config_problem read_numbers(const config_value& from, std::uint64_t low, std::uint64_t high,
                            std::vector<std::uint32_t>& to) {
  const auto items = items_of(from);
  if (!items) return wrong(from, "an array of integers, as [16, 14]");
  if (items->size() > most_items) return fmt::format("more than {} entries", most_items);
  std::vector<std::uint32_t> read;
  for (const auto& item : *items) {
    std::uint64_t number = 0;
    if (auto problem = read_number(item, low, high, false, number); !problem.empty())
      return fmt::format("entry {}: {}", read.size() + 1, problem);
    read.push_back(static_cast<std::uint32_t>(number));
  }
  to = std::move(read);
  return {};
}

config_problem read_environment(const config_value& from, std::map<std::string, std::string>& to) {
  const auto* table = as<config_value::table>(from);
  if (table == nullptr) return wrong(from, "a table of strings, as { NAME = \"value\" }");
  std::map<std::string, std::string> read;
  for (const auto& [name, value] : *table) {
    if (!environment_name(name))
      return fmt::format("\"{}\" is no name for an environment variable; letters, digits and _ fit",
                         name);
    if (auto problem = read_text(value, read[name]); !problem.empty())
      return fmt::format("{}: {}", name, problem);
    if (read[name].find('\0') != std::string::npos) return fmt::format("{}: a zero byte", name);
  }
  to = std::move(read);
  return {};
}

config_problem read_choice(const config_value& from, const std::vector<std::string>& names,
                           std::size_t& to) {
  const auto* text = typed(from) != nullptr ? typed(from) : as<std::string>(from);
  const auto at = text != nullptr ? std::find(names.begin(), names.end(), *text) : names.end();
  if (at == names.end()) return wrong(from, "one of " + joined(names));
  to = static_cast<std::size_t>(at - names.begin());
  return {};
}

config_problem check_plain_text(const std::string& text) {
  const bool control = std::any_of(text.begin(), text.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
  });
  return control ? "control characters do not fit here" : "";
}

config_problem check_node_name(const std::string& text) {
  if (!text.empty() && text.size() <= 64 && only(text, "._-")) return {};
  return fmt::format("\"{}\" is no name for a node; 1 to 64 letters, digits, '.', '_', '-' fit",
                     text);
}

config_problem check_address(const std::string& text) {
  if (!text.empty() && text.size() <= 253 && only(text, ".:-_%")) return {};
  return fmt::format("\"{}\" is neither an IP address nor a host name", text);
}

config_problem check_device(const std::string& text) {
  const auto colon = text.find(':');
  const auto kind = text.substr(0, colon);
  const auto number = colon == std::string::npos ? "" : text.substr(colon + 1);
  const bool counted = !number.empty() && number.size() <= 4 && only(number, "") &&
                       std::all_of(number.begin(), number.end(), [](char c) { return c <= '9'; });
  if ((kind == "cpu" || kind == "cuda" || kind == "fake") && counted) return {};
  const auto* hint = kind == "gpu" ? "; did you mean cuda:" : "";
  return fmt::format("\"{}\" is no device{}{}; \"cpu:0\" and \"cuda:0\" are", text, hint,
                     *hint != '\0' ? number + "?" : "");
}

config_problem check_origin(const std::string& text) {
  if (text == "*" || text.starts_with("http://") || text.starts_with("https://"))
    return check_plain_text(text);
  return fmt::format("\"{}\" is no origin; \"*\" or \"https://host\" fits", text);
}

std::string nearest(std::string_view to, const std::vector<std::string>& names) {
  std::string best;
  auto least = std::max<std::size_t>(2, to.size() / 3) + 1;
  for (const auto& name : names)
    if (const auto distance = edit_distance(to, name); distance < least)
      least = distance, best = name;
  return best;
}

std::string joined(const std::vector<std::string>& names) {
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace dinfer::runtime

// SPDX-License-Identifier: Apache-2.0
// Values as text: Python's str and repr, and JSON as json.dumps(ensure_ascii=False) writes it. What
// came from a message keeps its origin. One thread at a time.
#include "runtime/tokenizer/template/value.hpp"

#include "runtime/tokenizer/utf8.hpp"

#include <fmt/format.h>

#include <cmath>

namespace dinfer::runtime::jinja {

namespace {

std::string float_text(double d) {
  if (std::isnan(d)) return "nan";
  if (std::isinf(d)) return d < 0 ? "-inf" : "inf";
  std::string s = fmt::format("{}", d);
  if (s.find_first_of(".e") == std::string::npos) s += ".0";
  return s;
}

// The escape that `c` gets between quotes, empty if it stands for itself.
std::string python_escape(char32_t c, char quote) {
  if (c == '\\' || c == static_cast<char32_t>(quote)) return {'\\', static_cast<char>(c)};
  if (c == '\n') return "\\n";
  if (c == '\r') return "\\r";
  if (c == '\t') return "\\t";
  if (c < 0x20 || (c >= 0x7F && c < 0xA1) || c == 0xAD)
    return fmt::format("\\x{:02x}", std::uint32_t{c});
  return {};
}

std::string json_escape(char32_t c) {
  if (c == '\\' || c == '"') return {'\\', static_cast<char>(c)};
  constexpr std::string_view named = "\n\r\t\b\f", letters = "nrtbf";
  if (c < 0x80)
    if (const auto at = named.find(static_cast<char>(c)); at != std::string_view::npos)
      return {'\\', letters[at]};
  if (c < 0x20) return fmt::format("\\u{:04x}", std::uint32_t{c});
  return {};
}

template <class Escape>
void append_escaped(text& out, const text& s, Escape&& escape) {
  for (std::size_t at = 0; at < s.size();) {
    const utf8_step step = utf8_next(std::string_view(s.bytes()).substr(at));
    const std::string escaped = escape(step.code_point);
    if (escaped.empty()) out.append(s, at, step.size);
    else out.append(escaped, s.literal_at(at));
    at += step.size;
  }
}

std::string plain(const value& v, bool json) {
  if (const bool* b = v.as<bool>()) return json ? (*b ? "true" : "false") : (*b ? "True" : "False");
  if (const auto* i = v.as<std::int64_t>()) return std::to_string(*i);
  if (const double* d = v.as<double>()) {
    if (json && std::isnan(*d)) return "NaN";
    if (json && std::isinf(*d)) return *d < 0 ? "-Infinity" : "Infinity";
    return float_text(*d);
  }
  if (v.is_none()) return json ? "null" : "None";
  if (v.is_undefined()) return "Undefined";
  return fmt::format("<{}>", type_name(v));
}

void break_line(text& out, int indent, int level) {
  if (indent >= 0)
    out.append("\n" + std::string(static_cast<std::size_t>(indent * level), ' '), true);
}

}  // namespace

text shown(const value& v) {
  if (const text* s = v.string()) return *s;
  text out;
  if (!v.is_undefined()) append_quoted(out, v);
  return out;
}

void append_quoted(text& out, const value& v) {
  if (const text* s = v.string()) {
    const bool apostrophe = s->bytes().find('\'') != std::string::npos;
    const char quote = apostrophe && s->bytes().find('"') == std::string::npos ? '"' : '\'';
    out.append(std::string(1, quote), true);
    append_escaped(out, *s, [quote](char32_t c) { return python_escape(c, quote); });
    out.append(std::string(1, quote), true);
  } else if (const list* l = v.sequence()) {
    out.append(l->tuple ? "(" : "[", true);
    for (std::size_t i = 0; i < l->items.size(); ++i) {
      if (i > 0) out.append(", ", true);
      append_quoted(out, l->items[i]);
    }
    out.append(l->tuple ? (l->items.size() == 1 ? ",)" : ")") : "]", true);
  } else if (const dict* d = v.mapping()) {
    out.append("{", true);
    for (std::size_t i = 0; i < d->items.size(); ++i) {
      if (i > 0) out.append(", ", true);
      append_quoted(out, d->items[i].first);
      out.append(": ", true);
      append_quoted(out, d->items[i].second);
    }
    out.append("}", true);
  } else {
    out.append(plain(v, false), true);
  }
}

void append_json(text& out, const value& v, int indent, int level) {
  const auto separate = [&](std::size_t i) {
    if (i > 0) out.append(indent < 0 ? ", " : ",", true);
    break_line(out, indent, level + 1);
  };
  if (const text* s = v.string()) {
    out.append("\"", true);
    append_escaped(out, *s, json_escape);
    out.append("\"", true);
  } else if (const list* l = v.sequence()) {
    out.append("[", true);
    for (std::size_t i = 0; i < l->items.size(); ++i) {
      separate(i);
      append_json(out, l->items[i], indent, level + 1);
    }
    if (!l->items.empty()) break_line(out, indent, level);
    out.append("]", true);
  } else if (const dict* d = v.mapping()) {
    out.append("{", true);
    for (std::size_t i = 0; i < d->items.size(); ++i) {
      separate(i);
      append_json(out, d->items[i].first, indent, level + 1);
      out.append(": ", true);
      append_json(out, d->items[i].second, indent, level + 1);
    }
    if (!d->items.empty()) break_line(out, indent, level);
    out.append("}", true);
  } else {
    out.append(plain(v, true), true);
  }
}

}  // namespace dinfer::runtime::jinja

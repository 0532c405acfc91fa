// SPDX-License-Identifier: Apache-2.0
// Texts are valid UTF-8, so a byte-wise search finds whole characters. Any thread.
#include "runtime/tokenizer/template/strings.hpp"

#include "runtime/tokenizer/unicode.hpp"
#include "runtime/tokenizer/utf8.hpp"

#include <algorithm>
#include <utility>

namespace dinfer::runtime::jinja {

namespace {

struct piece {
  std::size_t at, size;
  char32_t code_point;
};

std::vector<piece> pieces(const text& s) {
  std::vector<piece> all;
  for (std::size_t at = 0; at < s.size();) {
    const utf8_step step = utf8_next(std::string_view(s.bytes()).substr(at));
    all.push_back({at, step.size, step.code_point});
    at += step.size;
  }
  return all;
}

// str.isspace: White_Space and the four separators of ASCII.
bool blank(char32_t c) { return class_of(c) == char_class::space || (c >= 0x1C && c <= 0x1F); }

bool line_break(char32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
         c == 0x2029;
}

template <class Map>
text mapped(const text& s, Map&& map) {
  text out;
  for (const piece& p : pieces(s)) {
    const char32_t c = map(p.code_point);
    if (c == p.code_point) {
      out.append(s, p.at, p.size);
    } else {
      std::string bytes;
      append_code_point(bytes, c);
      out.append(bytes, s.literal_at(p.at));
    }
  }
  return out;
}

}  // namespace

text strip(const text& s, side which, std::optional<std::string_view> characters) {
  const auto all = pieces(s);
  const auto goes = [&](const piece& p) {
    if (!characters) return blank(p.code_point);
    return characters->find(std::string_view(s.bytes()).substr(p.at, p.size)) !=
           std::string_view::npos;
  };
  std::size_t first = 0, last = all.size();
  if (which != side::right)
    while (first < last && goes(all[first])) ++first;
  if (which != side::left)
    while (last > first && goes(all[last - 1])) --last;
  if (first == last) return {};
  return s.part(all[first].at, all[last - 1].at + all[last - 1].size - all[first].at);
}

std::size_t length(const text& s) noexcept {
  return static_cast<std::size_t>(std::count_if(s.bytes().begin(), s.bytes().end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

text characters(const text& s, std::size_t first, std::size_t end) {
  const std::string& bytes = s.bytes();
  const auto offset_of = [&bytes](std::size_t from, std::size_t count) {
    for (; count > 0 && from < bytes.size(); --count)
      from += utf8_next(std::string_view(bytes).substr(from)).size;
    return from;
  };
  const std::size_t begin = offset_of(0, first);
  return s.part(begin, offset_of(begin, end - first) - begin);
}

std::vector<text> characters(const text& s) {
  std::vector<text> all;
  for (const piece& p : pieces(s)) all.push_back(s.part(p.at, p.size));
  return all;
}

std::vector<text> split_blanks(const text& s, std::int64_t limit) {
  std::vector<text> out;
  const auto all = pieces(s);
  for (std::size_t i = 0; i < all.size();) {
    if (blank(all[i].code_point)) {
      ++i;
      continue;
    }
    if (limit >= 0 && std::ssize(out) == limit) {
      out.push_back(strip(s.part(all[i].at), side::right, std::nullopt));
      break;
    }
    const std::size_t from = all[i].at;
    while (i < all.size() && !blank(all[i].code_point)) ++i;
    out.push_back(s.part(from, (i < all.size() ? all[i].at : s.size()) - from));
  }
  return out;
}

std::vector<text> split(const text& s, std::string_view by, std::int64_t limit) {
  std::vector<text> out;
  std::size_t at = 0;
  while (limit < 0 || std::ssize(out) < limit) {
    const std::size_t found = s.bytes().find(by, at);
    if (found == std::string::npos) break;
    out.push_back(s.part(at, found - at));
    at = found + by.size();
  }
  out.push_back(s.part(at));
  return out;
}

std::vector<text> split_lines(const text& s, bool keep_ends) {
  std::vector<text> out;
  const auto all = pieces(s);
  std::size_t from = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (!line_break(all[i].code_point)) continue;
    const std::size_t end = all[i].at;
    if (all[i].code_point == '\r' && i + 1 < all.size() && all[i + 1].code_point == '\n') ++i;
    const std::size_t next = all[i].at + all[i].size;
    out.push_back(s.part(from, (keep_ends ? next : end) - from));
    from = next;
  }
  if (from < s.size()) out.push_back(s.part(from));
  return out;
}

text upper(const text& s) { return mapped(s, to_upper); }
text lower(const text& s) { return mapped(s, to_lower); }

text capitalize(const text& s) {
  return mapped(s, [first = true](char32_t c) mutable {
    return std::exchange(first, false) ? to_upper(c) : to_lower(c);
  });
}

text title(const text& s, bool filter) {
  return mapped(s, [inside = false, filter](char32_t c) mutable {
    const bool was_inside = inside;
    inside = filter
                 ? !(blank(c) || std::u32string_view(U"-({[<").find(c) != std::u32string_view::npos)
                 : class_of(c) == char_class::letter;
    return was_inside ? to_lower(c) : to_upper(c);
  });
}

std::size_t count(std::string_view s, std::string_view part) noexcept {
  std::size_t found = 0;
  for (std::size_t at = s.find(part); at != std::string_view::npos;
       at = s.find(part, at + part.size()))
    ++found;
  return found;
}

text replace(const text& s, std::string_view from, const text& to, std::int64_t limit) {
  text out;
  const auto left = [&limit] { return limit < 0 || limit-- > 0; };
  if (from.empty()) {  // Python puts `to` before every character and at the end
    for (const piece& p : pieces(s)) {
      if (left()) out.append(to);
      out.append(s, p.at, p.size);
    }
    if (left()) out.append(to);
    return out;
  }
  std::size_t at = 0;
  for (std::size_t found; (found = s.bytes().find(from, at)) != std::string::npos && left();) {
    out.append(s, at, found - at);
    out.append(to);
    at = found + from.size();
  }
  if (at < s.size()) out.append(s, at, s.size() - at);
  return out;
}

}  // namespace dinfer::runtime::jinja

// SPDX-License-Identifier: Apache-2.0
// utf8proc's categories, and what Unicode 16 added to those of version 15 that Debian 12 carries;
// on a newer utf8proc the tables below repeat what it knows. Any thread.
#include "runtime/tokenizer/unicode.hpp"

#include "runtime/tokenizer/utf8.hpp"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <span>
#include <vector>

namespace dinfer::runtime {

namespace {

struct range {
  char32_t first, last;
};

constexpr std::array<range, 22> letters_16{
    {{0x1C89, 0x1C8A},   {0xA7CB, 0xA7CD},   {0xA7DA, 0xA7DC},   {0x105C0, 0x105F3},
     {0x10D4A, 0x10D65}, {0x10D6F, 0x10D85}, {0x10EC2, 0x10EC4}, {0x11380, 0x11389},
     {0x1138B, 0x1138B}, {0x1138E, 0x1138E}, {0x11390, 0x113B5}, {0x113B7, 0x113B7},
     {0x113D1, 0x113D1}, {0x113D3, 0x113D3}, {0x11BC0, 0x11BE0}, {0x13460, 0x143FA},
     {0x16100, 0x1611D}, {0x16D40, 0x16D6C}, {0x18CFF, 0x18CFF}, {0x1E5D0, 0x1E5ED},
     {0x1E5F0, 0x1E5F0}, {0x2EBF0, 0x2EE5D}}};
constexpr std::array<range, 7> numbers_16{{{0x10D40, 0x10D49},
                                           {0x116D0, 0x116E3},
                                           {0x11BF0, 0x11BF9},
                                           {0x16130, 0x16139},
                                           {0x16D70, 0x16D79},
                                           {0x1CCF0, 0x1CCF9},
                                           {0x1E5F1, 0x1E5FA}}};
constexpr std::array<range, 2> numbers_17{{{0x11DE0, 0x11DE9}, {0x16FF4, 0x16FF6}}};

bool within(std::span<const range> ranges, char32_t code_point) noexcept {
  const auto at = std::lower_bound(ranges.begin(), ranges.end(), code_point,
                                   [](const range& r, char32_t c) { return r.last < c; });
  return at != ranges.end() && at->first <= code_point;
}

bool white_space(char32_t c) noexcept {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

char_class look_up(char32_t c) noexcept {
  if (white_space(c)) return char_class::space;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return char_class::letter;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return within(numbers_17, c) ? char_class::other : char_class::number;
    case UTF8PROC_CATEGORY_CN:
      if (within(letters_16, c)) return char_class::letter;
      return within(numbers_16, c) ? char_class::number : char_class::other;
    default:
      return char_class::other;
  }
}

}  // namespace

char_class class_of(char32_t code_point) noexcept {
  static const std::array<char_class, 128> ascii = [] {
    std::array<char_class, 128> table{};
    for (char32_t c = 0; c < 128; ++c) table[c] = look_up(c);
    return table;
  }();
  return code_point < 128 ? ascii[code_point] : look_up(code_point);
}

bool numeric(char32_t code_point) noexcept {
  return class_of(code_point) == char_class::number || within(numbers_17, code_point);
}

char32_t to_upper(char32_t code_point) noexcept {
  return static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(code_point)));
}

char32_t to_lower(char32_t code_point) noexcept {
  return static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code_point)));
}

bool mark(char32_t code_point) noexcept {
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(code_point));
  return category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_MC ||
         category == UTF8PROC_CATEGORY_ME;
}

bool word_character(char32_t code_point) noexcept {
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(code_point));
  return class_of(code_point) == char_class::letter || mark(code_point) ||
         category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL ||
         category == UTF8PROC_CATEGORY_PC || code_point == 0x200C || code_point == 0x200D;
}

// utf8proc's own ordering of marks takes quadratic time, so its parts are used and marks sorted
// here.
std::string normalised(std::string_view text, normal_form form) {
  const auto ascii = [](char c) { return static_cast<unsigned char>(c) < 0x80; };
  if (std::all_of(text.begin(), text.end(), ascii)) return std::string(text);
  const bool composed = form == normal_form::c || form == normal_form::kc;
  const bool compatible = form == normal_form::kc || form == normal_form::kd;
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE |
                                                      (composed ? UTF8PROC_COMPOSE : 0) |
                                                      (compatible ? UTF8PROC_COMPAT : 0));
  std::vector<utf8proc_int32_t> points;
  points.reserve(text.size());
  while (!text.empty()) {
    const utf8_step step = utf8_next(text);
    std::array<utf8proc_int32_t, 32> parts{};
    int boundary = 0;
    const auto count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(step.code_point),
                                               parts.data(), parts.size(), options, &boundary);
    if (count < 0 || count > static_cast<utf8proc_ssize_t>(parts.size()))
      points.push_back(static_cast<utf8proc_int32_t>(step.code_point));
    else points.insert(points.end(), parts.begin(), parts.begin() + count);
    text.remove_prefix(step.size);
  }
  const auto order = [](utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; };
  for (auto at = points.begin(); at != points.end();) {
    const auto end = std::find_if(at, points.end(), [&](auto c) { return order(c) == 0; });
    std::stable_sort(at, end, [&](auto a, auto b) { return order(a) < order(b); });
    at = end == points.end() ? end : end + 1;
  }
  auto size = static_cast<utf8proc_ssize_t>(points.size());
  if (composed)
    size = utf8proc_normalize_utf32(points.data(), size,
                                    static_cast<utf8proc_option_t>(options & ~UTF8PROC_DECOMPOSE));
  std::string out;
  for (utf8proc_ssize_t i = 0; i < size; ++i)
    append_code_point(out, static_cast<char32_t>(points[static_cast<std::size_t>(i)]));
  return out;
}

}  // namespace dinfer::runtime

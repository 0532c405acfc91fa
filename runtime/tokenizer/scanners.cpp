// SPDX-License-Identifier: Apache-2.0
// The alternatives of each pattern, tried in the pattern's order at one place of the text. Any
// thread.
#include "runtime/tokenizer/scanners.hpp"

#include "runtime/tokenizer/unicode.hpp"
#include "runtime/tokenizer/utf8.hpp"

namespace dinfer::runtime {

namespace {

// The character at a place of the text; size 0 at its end.
struct character {
  std::size_t size = 0;
  char32_t code_point = 0;
  char_class kind = char_class::other;

  bool is(char_class k) const noexcept { return size > 0 && kind == k; }
  bool line_break() const noexcept { return code_point == '\r' || code_point == '\n'; }
};

character look(std::string_view text, std::size_t at) noexcept {
  if (at >= text.size()) return {};
  const utf8_step step = utf8_next(text.substr(at));
  return {step.size, step.code_point, class_of(step.code_point)};
}

std::size_t skip(std::string_view text, std::size_t at, char_class kind) noexcept {
  for (character c = look(text, at); c.is(kind); c = look(text, at)) at += c.size;
  return at;
}

// Bytes of 's, 't, 're, 've, 'm, 'll or 'd at `at`, 0 if none. `any_case` takes in every character
// that folds to those letters, so U+017F too.
std::size_t contraction(std::string_view text, std::size_t at, bool any_case) noexcept {
  if (text[at] != '\'') return 0;
  const std::string_view rest = text.substr(at + 1);
  if (any_case && rest.starts_with("\xC5\xBF")) return 3;
  const auto letter = [&](std::size_t i) -> char {
    if (i >= rest.size()) return 0;
    const bool upper = any_case && rest[i] >= 'A' && rest[i] <= 'Z';
    return upper ? static_cast<char>(rest[i] - 'A' + 'a') : rest[i];
  };
  const char a = letter(0), b = letter(1);
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
  if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return 3;
  return 0;
}

// \s+(?!\S)|\s+ : white space up to the last one before a word, which that word may want.
std::size_t white_space(std::string_view text, std::size_t at) noexcept {
  std::size_t end = at, last = at;
  for (character c = look(text, end); c.is(char_class::space); c = look(text, end)) {
    last = end;
    end += c.size;
  }
  return end == text.size() || last == at ? end : last;
}

}  // namespace

std::size_t scan_gpt2(std::string_view text, std::size_t at) noexcept {
  if (const std::size_t size = contraction(text, at, false)) return at + size;
  const std::size_t word = text[at] == ' ' ? at + 1 : at;
  const character c = look(text, word);
  if (c.size == 0 || c.kind == char_class::space) return white_space(text, at);
  return skip(text, word, c.kind);
}

std::size_t scan_llama3(std::string_view text, std::size_t at, int max_digits) noexcept {
  if (const std::size_t size = contraction(text, at, true)) return at + size;
  const character first = look(text, at);
  const character second = look(text, at + first.size);
  if (first.is(char_class::letter)) return skip(text, at, char_class::letter);
  const bool leads = !first.line_break() && !first.is(char_class::number);
  if (leads && second.is(char_class::letter))
    return skip(text, at + first.size, char_class::letter);
  if (first.is(char_class::number)) {
    std::size_t end = at;
    for (int i = 0; i < max_digits; ++i)
      if (const character c = look(text, end); c.is(char_class::number)) end += c.size;
    return end;
  }
  const std::size_t signs = text[at] == ' ' ? at + 1 : at;
  if (look(text, signs).is(char_class::other)) {
    std::size_t end = skip(text, signs, char_class::other);
    while (end < text.size() && (text[end] == '\r' || text[end] == '\n')) ++end;
    return end;
  }
  const std::size_t end = skip(text, at, char_class::space);
  const std::size_t line_break = text.substr(at, end - at).find_last_of("\r\n");
  if (line_break != std::string_view::npos) return at + line_break + 1;
  return white_space(text, at);
}

std::size_t scan_digits(std::string_view text, std::size_t at) noexcept {
  const character first = look(text, at);
  if (numeric(first.code_point)) return at + first.size;
  for (character c = first; c.size > 0 && !numeric(c.code_point); c = look(text, at)) at += c.size;
  return at;
}

}  // namespace dinfer::runtime

// SPDX-License-Identifier: Apache-2.0
// A sorted list walked like a trie: each further byte narrows the range of tokens that still fit.
// Any thread.
#include "runtime/tokenizer/added_tokens.hpp"

#include "runtime/tokenizer/unicode.hpp"
#include "runtime/tokenizer/utf8.hpp"

#include <algorithm>

namespace dinfer::runtime {

namespace {

// The code point that ends at `end`, which is not 0.
utf8_step before(std::string_view text, std::size_t end) noexcept {
  std::size_t at = end - 1;
  while (at > 0 && end - at < 4 && (static_cast<unsigned char>(text[at]) & 0xC0U) == 0x80U) --at;
  return utf8_next(text.substr(at, end - at));
}

bool inside_word(std::string_view text, std::size_t at, std::size_t end) noexcept {
  return (at > 0 && word_character(before(text, at).code_point)) ||
         (end < text.size() && word_character(utf8_next(text.substr(end)).code_point));
}

bool space(char32_t c) noexcept { return class_of(c) == char_class::space; }

}  // namespace

added_tokens::added_tokens(std::vector<added_token> all) : sorted_(std::move(all)) {
  std::erase_if(sorted_, [](const added_token& t) { return t.text.empty(); });
  for (const added_token& t : sorted_) first_bytes_.set(static_cast<unsigned char>(t.text[0]));
  std::sort(sorted_.begin(), sorted_.end(), [](const added_token& a, const added_token& b) {
    const int order = a.text.compare(b.text);
    return order != 0 ? order < 0 : a.token < b.token;
  });
}

auto added_tokens::find(std::string_view text, std::size_t from, std::size_t until,
                        std::size_t literal_end, std::size_t floor) const -> std::optional<match> {
  for (std::size_t at = from; at < until; ++at) {
    if (!first_bytes_.test(static_cast<unsigned char>(text[at]))) continue;
    const added_token* found = match_at(text, at, literal_end);
    if (found == nullptr) continue;
    std::size_t begin = at, end = at + found->text.size();
    if (found->single_word && inside_word(text, begin, end)) {
      at = end - 1;  // the reference does not look inside it either
      continue;
    }
    while (found->strip_left && begin > floor && space(before(text, begin).code_point))
      begin -= before(text, begin).size;
    while (found->strip_right && end < text.size() && space(utf8_next(text.substr(end)).code_point))
      end += utf8_next(text.substr(end)).size;
    return match{begin, end - begin, found->token};
  }
  return std::nullopt;
}

std::optional<token_id> added_tokens::find(std::string_view text) const {
  const auto less = [](const added_token& a, std::string_view b) { return a.text < b; };
  const auto at = std::lower_bound(sorted_.begin(), sorted_.end(), text, less);
  if (at == sorted_.end() || at->text != text) return std::nullopt;
  return at->token;
}

const added_token* added_tokens::match_at(std::string_view text, std::size_t at,
                                          std::size_t literal_end) const {
  auto first = sorted_.begin(), last = sorted_.end();
  const added_token* best = nullptr;
  for (std::size_t size = 1; at + size <= text.size() && first != last; ++size) {
    const auto next = static_cast<unsigned char>(text[at + size - 1]);
    // The byte of a token at this depth; tokens that ended before sort first.
    const auto byte = [&](const added_token& t) -> int {
      return t.text.size() < size ? -1 : static_cast<unsigned char>(t.text[size - 1]);
    };
    first = std::partition_point(first, last, [&](const auto& t) { return byte(t) < next; });
    last = std::partition_point(first, last, [&](const auto& t) { return byte(t) <= next; });
    for (auto it = first; it != last && it->text.size() == size; ++it)
      if (!it->control || at + size <= literal_end) best = &*it;
  }
  return best;
}

}  // namespace dinfer::runtime

// SPDX-License-Identifier: Apache-2.0
// A sorted list walked like a trie: each further byte narrows the range of tokens that still fit.
// Any thread.
#include "runtime/tokenizer/added_tokens.hpp"

#include <algorithm>

namespace dinfer::runtime {

added_tokens::added_tokens(const vocabulary& words) : words_(words) {
  for (token_id i = 0; i < words.size(); ++i) {
    const token_kind kind = words.kinds[static_cast<std::size_t>(i)];
    if (kind != token_kind::control && kind != token_kind::user_defined) continue;
    if (words.bytes(i).empty()) continue;
    sorted_.push_back(i);
    first_bytes_.set(static_cast<unsigned char>(words.bytes(i)[0]));
  }
  std::sort(sorted_.begin(), sorted_.end(), [&words](token_id a, token_id b) {
    const int order = words.bytes(a).compare(words.bytes(b));
    return order != 0 ? order < 0 : a < b;
  });
}

auto added_tokens::find(std::string_view text, std::size_t from, std::size_t until,
                        std::size_t literal_end) const -> std::optional<match> {
  for (std::size_t at = from; at < until; ++at) {
    if (!first_bytes_.test(static_cast<unsigned char>(text[at]))) continue;
    if (const auto found = match_at(text, at, literal_end)) return found;
  }
  return std::nullopt;
}

std::optional<token_id> added_tokens::find(std::string_view text) const {
  const auto less = [this](token_id a, std::string_view b) { return words_.bytes(a) < b; };
  const auto at = std::lower_bound(sorted_.begin(), sorted_.end(), text, less);
  if (at == sorted_.end() || words_.bytes(*at) != text) return std::nullopt;
  return *at;
}

auto added_tokens::match_at(std::string_view text, std::size_t at, std::size_t literal_end) const
    -> std::optional<match> {
  auto first = sorted_.begin(), last = sorted_.end();
  std::optional<match> best;
  for (std::size_t size = 1; at + size <= text.size() && first != last; ++size) {
    const auto next = static_cast<unsigned char>(text[at + size - 1]);
    // The byte of a token at this depth; tokens that ended before sort first.
    const auto byte = [&](token_id token) -> int {
      const std::string_view bytes = words_.bytes(token);
      return bytes.size() < size ? -1 : static_cast<unsigned char>(bytes[size - 1]);
    };
    first = std::partition_point(first, last, [&](token_id t) { return byte(t) < next; });
    last = std::partition_point(first, last, [&](token_id t) { return byte(t) <= next; });
    for (auto it = first; it != last && words_.bytes(*it).size() == size; ++it) {
      const bool control = words_.kinds[static_cast<std::size_t>(*it)] == token_kind::control;
      if (!control || at + size <= literal_end) best = match{at, size, *it};
    }
  }
  return best;
}

}  // namespace dinfer::runtime

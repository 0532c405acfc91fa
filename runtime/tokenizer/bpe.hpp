// SPDX-License-Identifier: Apache-2.0
// Byte pair encoding (Sennrich et al. 2016), on bytes as in GPT-2 or on characters: a word's
// symbols are merged pair by pair, lowest rank first, leftmost among equals. O(n log n) in the
// length of a word. Immutable after construction; encode() from any thread.
#pragma once

#include "dinfer/error.hpp"
#include "dinfer/request.hpp"
#include "runtime/tokenizer/vocabulary.hpp"

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace dinfer::runtime {

class bpe {
 public:
  // `whole_words`: a word that is a token becomes it, whatever the merges say (Llama 3). `words`
  // must outlive this.
  bpe(const vocabulary& words, bool whole_words);

  // Appends the tokens of one word. A byte that has no token is dropped, as the reference does;
  // likewise a character where there is no token for what is unknown.
  void encode(std::string_view word, std::vector<token_id>& out) const;

 private:
  struct merge {
    std::uint64_t pair = empty;
    std::uint32_t rank = 0;
    token_id result = -1;
  };
  static constexpr std::uint64_t empty = ~std::uint64_t{0};

  void add(const merge_rule& rule, std::uint32_t rank);
  const merge* find(token_id left, token_id right) const noexcept;
  void encode_short(std::vector<token_id>& symbols, std::vector<token_id>& out) const;
  void encode_long(const std::vector<token_id>& symbols, std::vector<token_id>& out) const;
  void merge_word(std::string_view word, std::vector<token_id>& out) const;
  void split_characters(std::string_view word, std::vector<token_id>& symbols) const;

  const vocabulary& words_;
  std::array<token_id, 256> byte_tokens_{};
  std::vector<merge> merges_;   // open addressing, a power of two
  std::vector<bool> is_whole_;  // by token: its bytes, as a word, become just it
};

}  // namespace dinfer::runtime

// SPDX-License-Identifier: Apache-2.0
// Finds control and user-defined tokens in text: leftmost first, of those the longest. Immutable
// after construction; any thread.
#pragma once

#include "runtime/tokenizer/vocabulary.hpp"

#include <bitset>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace dinfer::runtime {

struct added_token {
  std::string text;
  token_id token = 0;
  bool control = false;                          // else recognised in every text
  bool single_word = false;                      // not inside a word
  bool strip_left = false, strip_right = false;  // takes in white space beside it
  bool normalized = false;  // looked for in normalised text, as what it becomes there
};

class added_tokens {
 public:
  struct match {
    std::size_t at = 0;
    std::size_t size = 0;
    token_id token = 0;
  };

  explicit added_tokens(std::vector<added_token> all);  // those without text are left out

  bool empty() const noexcept { return sorted_.empty(); }
  // The first match whose token begins in [from, until). User-defined tokens may lie anywhere;
  // control tokens must end at or before `literal_end`. With white space it may begin as early as
  // `floor`.
  std::optional<match> find(std::string_view text, std::size_t from, std::size_t until,
                            std::size_t literal_end, std::size_t floor) const;
  // The token of exactly this text.
  std::optional<token_id> find(std::string_view text) const;

 private:
  const added_token* match_at(std::string_view text, std::size_t at, std::size_t literal_end) const;

  std::vector<added_token> sorted_;  // by text
  std::bitset<256> first_bytes_;
};

}  // namespace dinfer::runtime

// SPDX-License-Identifier: Apache-2.0
// Finds control and user-defined tokens in text: leftmost first, of those the longest. Immutable
// after construction; any thread.
#pragma once

#include "runtime/tokenizer/vocabulary.hpp"

#include <bitset>
#include <cstddef>
#include <optional>
#include <string_view>
#include <vector>

namespace dinfer::runtime {

class added_tokens {
 public:
  struct match {
    std::size_t at = 0;
    std::size_t size = 0;
    token_id token = 0;
  };

  explicit added_tokens(const vocabulary& words);  // which must outlive this

  // The first match that begins in [from, until). User-defined tokens may lie anywhere; control
  // tokens must end at or before `literal_end`.
  std::optional<match> find(std::string_view text, std::size_t from, std::size_t until,
                            std::size_t literal_end) const;
  // The token of exactly this text.
  std::optional<token_id> find(std::string_view text) const;

 private:
  std::optional<match> match_at(std::string_view text, std::size_t at,
                                std::size_t literal_end) const;

  const vocabulary& words_;
  std::vector<token_id> sorted_;  // by text
  std::bitset<256> first_bytes_;
};

}  // namespace dinfer::runtime

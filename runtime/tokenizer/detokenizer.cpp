// SPDX-License-Identifier: Apache-2.0
// Tokens of one stream to whole UTF-8. Only the beginning of one character is ever held back, so
// pending_ stays under four bytes. One thread at a time.
#include "runtime/tokenizer/tokenizer.hpp"
#include "runtime/tokenizer/utf8.hpp"

namespace dinfer::runtime {

std::string detokenizer::push(token_id token) {
  std::string text;
  if (skip_special_ && words_->special(token)) return text;
  pending_ += words_->bytes(token);
  pending_.erase(0, append_valid_utf8(text, pending_, false));
  return text;
}

std::string detokenizer::finish() {
  std::string text;
  append_valid_utf8(text, pending_, true);
  pending_.clear();
  return text;
}

}  // namespace dinfer::runtime

// SPDX-License-Identifier: Apache-2.0
// What a tokenizer is made of, whichever file it was read from. Plain data for the readers in this
// folder.
#pragma once

#include "runtime/tokenizer/added_tokens.hpp"
#include "runtime/tokenizer/pretokenize.hpp"
#include "runtime/tokenizer/tokenizer.hpp"
#include "runtime/tokenizer/vocabulary.hpp"

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

namespace dinfer::runtime {

struct tokenizer_parts {
  std::unique_ptr<const vocabulary> words;
  text_rules rules;
  std::vector<added_token> added;
  std::vector<token_id> before, after;  // a text that is encoded with bos
  // A decoded text loses so many spaces at its beginning, or its first token all these marks. A
  // stream loses nothing: it goes on after a prompt.
  std::size_t leading_spaces = 0;
  std::string first_mark;
};

std::unique_ptr<tokenizer> make_tokenizer(tokenizer_parts parts);

}  // namespace dinfer::runtime

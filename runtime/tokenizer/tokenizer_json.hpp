// SPDX-License-Identifier: Apache-2.0
// The tokenizer of a Hugging Face checkpoint: a tokenizer.json with a BPE model, or the older pair
// of vocab.json and merges.txt. Files are hostile: counts, ids and names are checked, what is not
// built is refused by name. Pure; any thread.
#pragma once

#include "dinfer/error.hpp"
#include "runtime/tokenizer/json_node.hpp"
#include "runtime/tokenizer/tokenizer_parts.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace dinfer::runtime {

// What tokenizer_config.json says beside it.
struct checkpoint_tokens {
  std::string bos, eos;                  // empty: it does not say
  std::vector<std::string> control;      // other tokens with a purpose
  std::optional<bool> add_bos, add_eos;  // instead of what the tokenizer's own file says
  bool space_before = false;             // texts get one; for vocab.json alone
};

// Errors: bad_file (place and what would fit), unsupported (place and what is known).
result<tokenizer_parts> read_tokenizer_json(const json_file& file, const checkpoint_tokens& tokens);

// GPT-2's files: byte-level tokens, split as GPT-2 does. `merges_name` stands in messages.
result<tokenizer_parts> read_vocab_and_merges(const json_file& vocab, std::string_view merges,
                                              const std::string& merges_name,
                                              const checkpoint_tokens& tokens);

}  // namespace dinfer::runtime

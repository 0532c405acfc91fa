// SPDX-License-Identifier: Apache-2.0
// What a tokenizer.json says about texts before pairs merge: its `normalizer` and `pre_tokenizer`.
// Pure; any thread.
#pragma once

#include "dinfer/error.hpp"
#include "runtime/tokenizer/json_node.hpp"
#include "runtime/tokenizer/pretokenize.hpp"

namespace dinfer::runtime {

struct json_rules {
  text_rules text;
  bool byte_level = false;  // words are spelt in the byte alphabet
};

// `root`: the file's. Errors: bad_file, unsupported (a step that is not known, by name and place).
result<json_rules> read_text_rules(const json_node& root);

}  // namespace dinfer::runtime

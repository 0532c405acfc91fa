// SPDX-License-Identifier: Apache-2.0
// What a text goes through before pairs merge, by the name under which a model was trained with it
// (`tokenizer.ggml.pre`), and the splitting expressions that have a faster way. Any thread.
#pragma once

#include "dinfer/error.hpp"
#include "runtime/tokenizer/normalizer.hpp"
#include "runtime/tokenizer/splitter.hpp"

#include <optional>
#include <string_view>

namespace dinfer::runtime {

struct text_rules {
  normalizer normal;
  splitter words;
  bool whole_words = false;  // a word that is a token becomes it, whatever the merges say
  bool add_bos = false;      // where the file does not say
};

// Errors: unsupported, naming the rule and the known ones.
result<text_rules> named_rules(std::string_view name);

// GPT-2's way to split, which byte-level pre-tokenisers have of their own.
split_step gpt2_split();

// The step that splits as this regular expression does, if the expression is one of ours.
std::optional<split_step> known_expression(std::string_view expression);

}  // namespace dinfer::runtime

// SPDX-License-Identifier: Apache-2.0
// The words that a model is served with: its file's own, those of another file, or none at all. Any
// thread.
#pragma once

#include "dinfer/error.hpp"
#include "runtime/tokenizer/tokenizer.hpp"
#include "runtime/weights/source.hpp"

#include <cstdint>
#include <memory>
#include <string>

namespace dinfer::runtime {

struct model_words {
  std::unique_ptr<tokenizer> words;
  std::string chat_template;  // empty: there is none
  std::string fingerprint;    // of the other file; empty: there is none
};

// `tokenizer_path`: model.tokenizer, a GGUF file or a directory that holds one; empty: the model's
// own. Made-up weights without it have no words (tokenizer::has_words). `vocabulary`: rows of the
// model's embedding. Errors: those of open_weights and make_tokenizer; invalid_argument when the
// tokeniser has more tokens than the model has rows.
result<model_words> open_words(const weight_source& model, const std::string& tokenizer_path,
                               std::int32_t vocabulary);

}  // namespace dinfer::runtime

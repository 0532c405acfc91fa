// SPDX-License-Identifier: Apache-2.0
// The words that a model is served with: its file's or folder's own, those of another, or none at
// all. Any thread.
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
  std::string fingerprint;    // of files that are not the model's own; empty: there are none
};

// `tokenizer_path`: model.tokenizer, a GGUF file, a folder that holds one, or a checkpoint's
// folder; empty: what comes with the model, which lies at `model_path`. Made-up weights without it
// have no words (tokenizer::has_words). `vocabulary`: rows of the model's embedding. Errors: those
// of open_weights, make_tokenizer and open_checkpoint_words; invalid_argument when the tokeniser
// has more tokens than the model has rows.
result<model_words> open_words(const weight_source& model, const std::string& model_path,
                               const std::string& tokenizer_path, std::int32_t vocabulary);

}  // namespace dinfer::runtime

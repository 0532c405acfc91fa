// SPDX-License-Identifier: Apache-2.0
// The words of a Hugging Face checkpoint's folder: tokenizer.json, or vocab.json with merges.txt;
// beside them tokenizer_config.json and chat_template.jinja. Any thread.
#pragma once

#include "dinfer/error.hpp"
#include "runtime/tokenizer/model_words.hpp"

#include <string>

namespace dinfer::runtime {

// Whether it is a folder with files that open_checkpoint_words would read.
bool holds_tokenizer(const std::string& folder);

// The fingerprint covers every byte of the files. Errors: those of read_tokenizer_json, not_found.
result<model_words> open_checkpoint_words(const std::string& folder);

}  // namespace dinfer::runtime

// SPDX-License-Identifier: Apache-2.0
// From a parsed call to token ids: applies the chat template, tokenises, resolves defaults against
// the model's context, and checks the result by the table of limits. Slow for long prompts: the
// service runs it off the io thread. Pure; any thread.
#pragma once

#include "dinfer/error.hpp"
#include "net/http/server.hpp"
#include "net/openai/types.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace dinfer::net {

struct prepared_prompt {
  std::string text;  // what `echo` repeats; only then
  std::vector<token_id> tokens;
};

struct prepared_call {
  generate_call call;  // sampling is complete, but for the choice's seed
  std::vector<prepared_prompt> prompts;
  bool scoring_only = false;  // echo with max_tokens 0: the one token that is drawn is dropped
};

// `seed`: for calls without one. Errors: invalid_argument, unsupported, with the field as subject.
result<prepared_call> prepare(generate_call call, const served_model& model, std::int64_t now_unix,
                              std::uint64_t seed);

// A text needs a tokeniser. Error: unsupported, with `field` as subject.
result<void> check_words(const served_model& model, const char* field);

// The prompt of a chat, for generation and for /tokenize.
result<std::vector<token_id>> chat_tokens(const std::vector<runtime::chat_message>& messages,
                                          bool add_generation_prompt, bool continue_final_message,
                                          bool add_special_tokens, const served_model& model,
                                          std::int64_t now_unix);

// The seed of choice `index` of n: the call's own for the first, mixed for the others.
std::uint64_t choice_seed(std::uint64_t seed, std::uint32_t index) noexcept;

}  // namespace dinfer::net

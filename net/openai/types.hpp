// SPDX-License-Identifier: Apache-2.0
// The OpenAI protocol's requests as plain values, as parse.cpp reads them: every field within its
// bounds, nothing tokenised yet. Plain values; may be moved between threads.
#pragma once

#include "dinfer/request.hpp"
#include "runtime/tokenizer/chat_template.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace dinfer::net {

enum class call_kind : std::uint8_t { chat, completion };

using prompt_input = std::variant<std::string, std::vector<token_id>>;

// Of /v1/chat/completions and /v1/completions alike.
struct generate_call {
  call_kind kind = call_kind::completion;
  std::string model;  // empty: whichever is served

  // One of the two, by kind.
  std::vector<prompt_input> prompts;
  std::vector<runtime::chat_message> messages;
  bool add_generation_prompt = true;
  bool continue_final_message = false;

  sampling_params sampling;  // max_tokens and seed are resolved by prepare()
  std::optional<std::uint32_t> max_tokens;
  std::optional<std::uint64_t> seed;
  std::uint32_t n = 1;
  std::vector<std::string> stop;
  bool include_stop_string = false;
  bool skip_special_tokens = true;
  bool add_special_tokens = true;  // bos; for chats the template writes it, so false there
  std::int32_t priority = 0;
  std::string cache_salt;
  std::string request_id;  // the client's own name for the call

  bool echo = false;
  bool return_token_ids = false;
  bool stream = false;
  bool include_usage = false;
  bool continuous_usage = false;

  std::vector<std::string> unknown_fields;  // ignored, and logged once each
};

struct tokenize_call {
  std::string model;
  std::string prompt;
  std::vector<runtime::chat_message> messages;  // when not empty, instead of prompt
  bool add_generation_prompt = true;
  bool add_special_tokens = true;
  bool return_token_strs = false;
};

struct detokenize_call {
  std::string model;
  std::vector<token_id> tokens;
};

}  // namespace dinfer::net

// SPDX-License-Identifier: Apache-2.0
// Answers in the shapes of the OpenAI API, written as text without a document in between: a frame
// per token is hot. Pure; any thread.
#pragma once

#include "dinfer/error.hpp"
#include "dinfer/request.hpp"
#include "net/openai/types.hpp"
#include "runtime/tokenizer/tokenizer.hpp"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace dinfer::net {

struct api_error {
  unsigned status = 500;
  std::string type;
  std::string message;
  std::string param;  // empty: null
  std::string code;   // empty: null
};

// The HTTP answer to an error of ours.
api_error to_api_error(const error& problem);
std::string render_error(const api_error& wrong);

// Appends `text` as a JSON string with quotes. `text` must be UTF-8; bytes that are not become
// U+FFFD.
void append_json(std::string& out, std::string_view text);

// What all parts of one answer have in common.
struct answer_style {
  call_kind kind = call_kind::chat;
  std::string id;
  std::int64_t created = 0;
  std::string model;
  bool include_usage = false;  // in a stream: every chunk has the field
  std::int32_t logprobs = -1;
};

// null, the stop token or the stop string.
using stop_cause = std::variant<std::monostate, token_id, std::string>;

std::string_view finish_text(finish_reason reason) noexcept;

// A run of tokens with their log-probabilities. `first_unknown`: the first has none (a prompt's).
struct logprob_run {
  std::span<const sampled_token> tokens;
  bool first_unknown = false;
  std::size_t text_offset = 0;  // in characters, of the first token
};

void append_chat_logprobs(std::string& out, const runtime::tokenizer& words, const logprob_run& run,
                          std::int32_t top);
void append_completion_logprobs(std::string& out, const runtime::tokenizer& words,
                                const logprob_run& run, std::int32_t top);
// Characters of a token's text: what text_offset grows by.
std::size_t characters(std::string_view bytes) noexcept;

// A choice, whole or a chunk of it. `logprobs` is rendered JSON or empty for null.
struct choice_part {
  std::uint32_t index = 0;
  std::string_view text;
  std::string_view logprobs;
  finish_reason finish = finish_reason::none;
  const stop_cause* cause = nullptr;
  const std::vector<token_id>* token_ids = nullptr;         // asked for
  const std::vector<token_id>* prompt_token_ids = nullptr;  // asked for
};

enum class delta_kind : std::uint8_t { role, content, end };

// One server-sent event: "data: {...}\n\n". `used`: continuous usage.
void append_chunk_event(std::string& out, const answer_style& style, const choice_part& part,
                        delta_kind delta, const usage* used);
void append_usage_event(std::string& out, const answer_style& style, const usage& used);
void append_error_event(std::string& out, const api_error& wrong);
inline constexpr std::string_view done_event = "data: [DONE]\n\n";

std::string render_answer(const answer_style& style, std::span<const choice_part> choices,
                          const usage& used);

}  // namespace dinfer::net

// SPDX-License-Identifier: Apache-2.0
// The words of a request: what a caller asks of the engine and what comes back, token by token.
// Plain values; they may be copied between threads. Ranges are checked in one place,
// runtime::validate(); nothing here allocates by a number that a client sent.
#pragma once

#include "dinfer/export.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace dinfer {

using token_id = std::int32_t;
using request_id = std::uint64_t;  // unique within a cluster while the request lives: gateway index
                                   // << 48 | counter

struct logit_bias {
  token_id token = 0;
  float bias = 0;  // added to the logit, -100..100
};

// How the next token is chosen. Order of application: logit_bias, penalties, temperature, top_k,
// top_p, min_p, draw. temperature 0 is greedy (lowest token id wins a tie). Draws are Gumbel-max
// with counter-based noise keyed by (seed, position, token id), so they do not depend on the batch
// or on tensor parallelism.
struct sampling_params {
  float temperature = 1.0F;  // 0..2
  std::int32_t top_k = 0;    // 0: off
  float top_p = 1.0F;        // (0, 1]; 1: off
  float min_p = 0.0F;        // [0, 1); 0: off
  float repetition_penalty =
      1.0F;  // (0, 2]; over prompt and output tokens, CTRL (Keskar et al. 2019)
  float presence_penalty = 0.0F;   // -2..2; over output tokens
  float frequency_penalty = 0.0F;  // -2..2; over output tokens, times the count
  std::vector<logit_bias> logit_biases;
  std::uint64_t seed = 0;  // always resolved by the gateway; choice i of n uses hash(seed, i)
  std::uint32_t max_tokens = 16;
  std::uint32_t min_tokens = 0;  // no stop token is drawn before this many output tokens
  bool ignore_eos = false;  // the end-of-sequence token neither ends the request nor is forbidden
  std::vector<token_id> stop_token_ids;
  std::int32_t logprobs = -1;  // -1: none; 0..20: the chosen token's and that many of the top
  std::int32_t prompt_logprobs = -1;  // the same for prompt tokens, for `echo`

  bool greedy() const noexcept { return temperature == 0.0F; }
  bool filtered() const noexcept { return top_k > 0 || top_p < 1.0F || min_p > 0.0F; }
  bool penalised() const noexcept {
    return repetition_penalty != 1.0F || presence_penalty != 0.0F || frequency_penalty != 0.0F;
  }
};

// One sequence to generate. Stop strings are text and belong to the gateway, which cancels with
// reason `stop`.
struct generate_request {
  request_id id = 0;
  std::vector<token_id> prompt;  // at least one token
  sampling_params sampling;
  std::int32_t priority = 0;  // lower runs first, ties by arrival
  std::string cache_salt;     // only requests of equal salt share cached prefixes
  std::uint32_t adapter = 0;  // 0: the base model
};

enum class finish_reason : std::uint8_t { none = 0, stop, length, abort, error };

DINFER_EXPORT std::string_view to_string(finish_reason reason) noexcept;

struct token_logprob {
  token_id token = 0;
  float logprob =
      0;  // natural log of the probability before temperature and filters, after penalties and bias
};

struct sampled_token {
  token_id token = 0;
  float logprob = 0;               // valid when logprobs were asked for
  std::vector<token_logprob> top;  // best first
};

struct usage {
  std::uint32_t prompt_tokens = 0;
  std::uint32_t cached_tokens = 0;  // of the prompt, found in the prefix cache
  std::uint32_t completion_tokens = 0;
};

// What happened to one request since the last event. The last event of a request has `finish !=
// none`.
struct token_event {
  request_id id = 0;
  std::vector<sampled_token> tokens;
  std::vector<sampled_token> prompt_logprobs;  // for prompt tokens 1.., as they become known
  finish_reason finish = finish_reason::none;
  std::optional<token_id> stop_token;  // the token that ended it; it is the last of `tokens`
  usage used;                          // totals so far
  std::string message;                 // for finish == error
};

}  // namespace dinfer

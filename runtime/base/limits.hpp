// SPDX-License-Identifier: Apache-2.0
// Every bound on what a client may ask, in one table: the gateway checks fields by it while it
// reads them, and validate() checks the finished request by the same rows before anything is
// allocated by a number in it. Pure; any thread.
#pragma once

#include "dinfer/error.hpp"
#include "dinfer/request.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace dinfer::runtime {

// A row of the table. Counts limit how many entries or bytes a field may have.
enum class limit : std::uint8_t {
  temperature,
  top_p,
  top_k,
  min_p,
  repetition_penalty,
  presence_penalty,
  frequency_penalty,
  logit_bias,          // one bias
  logit_bias_entries,  // how many
  n,
  max_tokens,
  min_tokens,
  logprobs,
  stop_strings,      // how many
  stop_string_size,  // bytes of one
  stop_token_ids,    // how many
  priority,
  prompts,        // of one call
  messages,       // of one chat
  content_parts,  // of one message
  cache_salt_size,
  name_size,  // model, user, request_id, role and the like, in bytes
  count_      // how many rows there are
};

struct limit_row {
  std::string_view field;  // as the client spells it
  double min, max;
  bool min_excluded = false, max_excluded = false;
  std::string_view unit;  // "", "entries", "bytes": what is counted
};

const limit_row& limit_of(limit which) noexcept;
std::span<const limit_row> limits() noexcept;

// Error: invalid_argument, subject the field: "temperature must be from 0 to 2, but is 3".
result<void> check_limit(limit which, double value);

// What only the model knows.
struct request_bounds {
  std::uint32_t max_model_len = 0;
  std::int32_t vocabulary = 0;
};

// Everything about a request that must hold before it is admitted: each number against its row,
// every token id against the vocabulary, prompt and output against the context. Error:
// invalid_argument with the field as subject.
result<void> validate(const generate_request& request, const request_bounds& bounds);

}  // namespace dinfer::runtime

// SPDX-License-Identifier: Apache-2.0
// One request's life inside the scheduler. Used by the scheduler alone, on its thread.
//
//   waiting --admit--> running --(stop, length, cancel)--> finished
//      ^                  |
//      +----preempt-------+      also back: interrupt
//
// Positions: 0 .. planned - 1 are computed, or will be by plans in flight. tokens holds what is
// known; `draws` more tokens will come from plans in flight. At most two draws are open, so the
// next query is either known, or the one token that the device drew last.
#pragma once

#include "dinfer/request.hpp"
#include "runtime/kv/block_manager.hpp"
#include "runtime/schedule/step.hpp"

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace dinfer::runtime {

enum class sequence_phase : std::uint8_t { waiting, running, finished };

struct sequence {
  // What was asked for.
  request_id id = 0;
  sampling_params sampling;
  std::int32_t priority = 0;
  std::uint64_t arrival = 0;
  std::string cache_salt;
  std::uint32_t adapter = 0;
  std::uint32_t prompt_tokens = 0;
  std::uint32_t length_limit = 0;     // prompt and output tokens, at most
  std::vector<token_id> stop_tokens;  // stop_token_ids, and eos where it counts

  // What is known.
  sequence_phase phase = sequence_phase::waiting;
  std::vector<token_id> tokens;
  std::uint32_t cached_tokens = 0;  // of the prompt, when it was first admitted
  std::uint32_t prompt_rows = 0;    // prompt log-probabilities reported
  bool admitted_before = false;
  bool interrupted = false;  // it was in flight when the shards were lost, and drew nothing since

  // What is under way.
  std::uint32_t planned = 0;
  std::uint32_t rows_planned = 0;  // prompt log-probabilities reported or asked for
  std::uint32_t draws = 0;         // tokens that plans in flight will draw
  std::uint32_t steps = 0;         // plans in flight that hold this sequence
  step_id last_step = 0;           // the newest plan that holds it
  step_id chosen = 0;              // the plan that it was chosen to decode in

  // What it holds while running.
  slot_id slot = 0;
  block_table table;
  std::vector<std::uint32_t> sent;  // per group: blocks that the shards know of

  // After a failed admission: not worth another look before group retry_group has that many blocks
  // to give, or before that step.
  std::uint32_t retry_group = 0;
  std::uint64_t retry_blocks = 0;
  step_id retry_step = 0;

  std::uint32_t known() const noexcept { return static_cast<std::uint32_t>(tokens.size()); }
  std::uint32_t outputs() const noexcept { return known() - prompt_tokens; }
  // The last token of a sequence is never computed: nothing is drawn after it.
  std::uint32_t compute_limit() const noexcept { return length_limit - 1; }
  // Queries that could be planned now.
  std::uint32_t remaining() const noexcept {
    if (draws >= 2) return 0;
    const std::uint32_t end = std::min(known() + draws, compute_limit());
    return end > planned ? end - planned : 0;
  }
  bool wants_prompt_rows() const noexcept { return sampling.prompt_logprobs >= 0; }
  bool stops_at(token_id token) const noexcept {
    return outputs() > sampling.min_tokens &&
           std::ranges::find(stop_tokens, token) != stop_tokens.end();
  }
  usage used() const noexcept { return {prompt_tokens, cached_tokens, outputs()}; }
};

// Who is served first: lower priority value, then earlier arrival.
inline bool ranks_before(const sequence& a, const sequence& b) noexcept {
  return a.priority != b.priority ? a.priority < b.priority : a.arrival < b.arrival;
}

}  // namespace dinfer::runtime

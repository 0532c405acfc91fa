// SPDX-License-Identifier: Apache-2.0
// The only words between the scheduler and the shards: a plan goes out, a result comes back. A plan
// holds what changed since the one before; shards keep tokens, positions, block tables and sampling
// state per slot. Plans are executed in the order of `step` and never skipped; every shard of every
// stage gets every plan.
//
// One step ahead: a sequence may be in a plan before the result of its previous step is known. Then
// its `tokens` are empty, and the shard uses the token that it drew last for the slot.
//
// On the wire these travel as packed blobs (step_codec.hpp), never as structs: no float enters a
// CAF message.
#pragma once

#include "dinfer/request.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace dinfer::runtime {

using slot_id = std::uint32_t;   // 0 .. max_num_seqs - 1, reused
using block_id = std::int32_t;   // 1 .. ; block 0 is the null block of every KV group
using step_id = std::uint64_t;   // 1, 2, ... within an epoch
using epoch_id = std::uint32_t;  // grows whenever the shards start over

// A sequence takes a slot: on admission, and again after a preemption.
struct sequence_start {
  slot_id slot = 0;
  request_id request = 0;
  sampling_params sampling;
  std::uint32_t prompt_tokens = 0;  // tokens before this index are prompt, the others output
  std::uint32_t adapter = 0;
  std::vector<token_id> stop_tokens;  // what min_tokens forbids: eos and stop_token_ids
  std::vector<token_id> history;      // tokens 0.. that this slot will not compute (cached prefix);
                                      // only when the sequence is penalised, else empty
};

struct block_append {
  slot_id slot = 0;
  std::uint32_t group = 0;       // KV group
  std::vector<block_id> blocks;  // appended to the slot's table
};

struct sequence_step {
  slot_id slot = 0;
  std::uint32_t first_position = 0;
  std::uint32_t query_count = 1;  // >= 1
  std::vector<token_id> tokens;   // query_count of them, or empty: one, the slot's last drawn token
  std::uint32_t logit_rows = 0;   // of the last query rows; 0 in the middle of a prefill
  bool sample = false;            // the last logit row draws a token
  std::vector<token_id>
      targets;  // for the logit rows that do not draw: report their log-probability

  // Reserved for embeddings of other media: spans of positions that are not looked up. Empty until
  // then.
};

struct step_plan {
  epoch_id epoch = 0;
  step_id step = 0;
  std::vector<slot_id> releases;       // first: these slots are free again
  std::vector<sequence_start> starts;  // then these are taken
  std::vector<block_append> blocks;
  std::vector<sequence_step> sequences;  // may be empty: the shards only take note

  std::uint32_t token_count() const noexcept {
    std::uint32_t n = 0;
    for (const auto& s : sequences) n += s.query_count;
    return n;
  }
};

struct sequence_result {
  slot_id slot = 0;
  std::vector<sampled_token> tokens;  // one when the step sampled; several under speculation
  std::vector<sampled_token> prompt;  // one per target
};

struct step_result {
  epoch_id epoch = 0;
  step_id step = 0;
  std::vector<sequence_result> sequences;  // those with tokens or prompt
  std::uint32_t compute_us = 0;            // from the first kernel to the last, on the last stage
};

}  // namespace dinfer::runtime

// SPDX-License-Identifier: Apache-2.0
// What a shard knows of each running sequence, and the gate through which plans enter: they come
// over a network, so every slot, block, position and token is checked before it is used. After an
// error the table must be made anew. Thread: the shard's.
#pragma once

#include "dinfer/error.hpp"
#include "runtime/schedule/step.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace dinfer::runtime {

struct shard_limits {
  std::uint32_t slots = 0;
  std::uint32_t batched_tokens = 0;
  std::uint32_t model_len = 0;
  std::uint32_t block_size = 0;
  std::int64_t vocabulary = 0;
  std::vector<std::uint32_t> blocks;  // per KV group, the null block not counted

  std::uint32_t table_width() const noexcept { return (model_len + block_size - 1) / block_size; }
  std::uint32_t batched_sequences() const noexcept {
    return slots < batched_tokens ? slots : batched_tokens;
  }
};

struct slot_state {
  bool taken = false;
  bool begun = false;                         // has computed a step
  std::uint32_t next_position = 0;            // of its next step, once begun
  step_id stepped_in = 0;                     // the last plan that it was in; 0: none yet
  step_id drawn_in = 0;                       // the last plan that drew for it; 0: none yet
  step_id token_from = 0;                     // this step's token was drawn in that plan; 0: given
  std::vector<std::vector<block_id>> tables;  // per KV group
};

// A block that came into a slot's table of KV group 0.
struct table_entry {
  slot_id slot = 0;
  std::uint32_t index = 0;
  block_id block = 0;
};

class slot_table {
 public:
  explicit slot_table(shard_limits limits);

  // Takes a plan in: releases, starts, blocks, then the sequences' positions. Errors: mismatch
  // (the plan does not follow from those before), invalid_argument (a number is out of range).
  result<void> apply(const step_plan& plan);

  const slot_state& at(slot_id slot) const { return slots_[slot]; }
  std::span<const table_entry> new_entries() const noexcept { return entries_; }  // of that plan
  const shard_limits& limits() const noexcept { return limits_; }

 private:
  result<void> release(slot_id slot);
  result<void> start(const sequence_start& s);
  result<void> append(const block_append& b);
  result<void> advance(const sequence_step& s, step_id step);
  result<void> check_rows(const sequence_step& s) const;
  result<void> check_tokens(slot_id slot, std::span<const token_id> tokens, const char* what) const;
  result<slot_state*> taken(slot_id slot, const char* what);

  shard_limits limits_;
  std::vector<slot_state> slots_;
  std::vector<table_entry> entries_;
};

}  // namespace dinfer::runtime

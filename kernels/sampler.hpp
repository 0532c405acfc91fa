// SPDX-License-Identifier: Apache-2.0
// Drawing tokens from logits: the contract that both backends keep. Made by ops::make_sampler; same
// thread and stream rules as ops.hpp. The order in which parameters apply stands in
// dinfer/request.hpp.
#pragma once

#include "dinfer/request.hpp"
#include "kernels/communicator.hpp"
#include "kernels/tensor.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace dinfer::kernels {

// One row of logits to draw from.
struct sample_row {
  std::uint32_t slot = 0;
  std::int64_t position = 0;  // of the token to be drawn: keys the noise
  std::int32_t target =
      -1;  // >= 0: not drawn; the log-probability of this token is reported (prompt_logprobs)
};

// The same rows as arrays in device memory, i32 [R] each.
struct sample_arrays {
  tensor slots, positions, targets;
};

inline constexpr std::int32_t most_top = 20;  // candidates that a row may report

// What was drawn, in device memory; columns that a row did not ask for are left alone.
struct drawn_arrays {
  tensor tokens;        // i32 [R]: drawn, or the target
  tensor logprobs;      // f32 [R]: of that token
  tensor top_tokens;    // i32 [R, most_top], best first; -1 after the last that there is
  tensor top_logprobs;  // f32 [R, most_top]
};

struct sample_args {
  tensor logits;  // f32 [R, vocabulary shard], destroyed
  // The rows on the host, for what must be known when work is enqueued; padding, the last rows of
  // the arrays, is not among them. A recorded draw, of simple() rows alone, is replayed with other
  // such rows in the arrays.
  std::span<const sample_row> rows;
  sample_arrays arrays;
  std::span<const std::int64_t> shard_rows;  // rows of the vocabulary of each tp rank, in order
  communicator* tp = nullptr;                // null: alone
  drawn_arrays drawn;
};

// Slots hold per-sequence sampling state on the device: parameters, token counts, and the last
// token. Slot `slots` (one past the last) is for padding: what is drawn there means nothing. Under
// tensor parallelism each rank passes its vocabulary shard and every rank gets the same tokens.
class sampler {
 public:
  virtual ~sampler() = default;
  // The vocabulary rows of each tp rank, in order: takes what exchanges between them need, once,
  // before the first sample() with such a group.
  virtual void reserve_exchange(std::span<const std::int64_t>) {}
  // Takes a slot. `stop_tokens` are what min_tokens forbids.
  virtual void start(std::uint32_t slot, const sampling_params& params,
                     std::span<const token_id> stop_tokens) = 0;
  // Counts tokens that the host knows: prompt tokens, or output tokens of a sequence that
  // re-enters.
  virtual void observe(std::uint32_t slot, std::span<const token_id> tokens, bool output) = 0;
  // Sets a slot's last token: it came from another rank (pipeline parallelism) or from the host.
  virtual void set_last(std::uint32_t slot, token_id token) = 0;
  // Brings what start(), observe() and set_last() said to the device. Once before a step's first
  // operation, outside of recordings.
  virtual void commit() = 0;

  // Whether these rows need no more than the best candidate each: drawn greedily or without
  // filters, neither biased nor penalised, no token forbidden, nothing reported.
  virtual bool simple(std::span<const sample_row> rows) const = 0;
  // Drawn tokens are counted and become their slot's last token.
  virtual void sample(const sample_args& args) = 0;
  // ids[i] = last token of slots[i] where ids[i] < 0. Both i32 [T] in device memory.
  virtual void fill_last(tensor ids, tensor slots) = 0;
};

}  // namespace dinfer::kernels

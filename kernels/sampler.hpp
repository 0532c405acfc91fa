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

// Slots hold per-sequence sampling state on the device: parameters, token counts, and the last
// token. Under tensor parallelism each rank passes its vocabulary shard and every rank gets the
// same tokens.
class sampler {
 public:
  virtual ~sampler() = default;
  // Takes a slot. `stop_tokens` are what min_tokens forbids.
  virtual void start(std::uint32_t slot, const sampling_params& params,
                     std::span<const token_id> stop_tokens) = 0;
  // Counts tokens that the host knows: prompt tokens, or output tokens of a sequence that
  // re-enters.
  virtual void observe(std::uint32_t slot, std::span<const token_id> tokens, bool output) = 0;
  // logits: [rows, vocabulary shard], destroyed. shard_rows[r]: rows of the vocabulary that rank r
  // holds, in order. Drawn tokens are counted and become their slot's last token. The results are
  // one per row.
  virtual std::vector<sampled_token> sample(tensor logits, std::span<const sample_row> rows,
                                            std::span<const std::int64_t> shard_rows,
                                            communicator* tp) = 0;
  // ids[i] = last token of slots[i] where ids[i] < 0. Both i32 [T] in device memory.
  virtual void fill_last(tensor ids, tensor slots) = 0;
  // Sets a slot's last token: it came from another rank (pipeline parallelism) or from the host.
  virtual void set_last(std::uint32_t slot, token_id token) = 0;
};

}  // namespace dinfer::kernels

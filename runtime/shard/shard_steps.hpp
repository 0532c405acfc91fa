// SPDX-License-Identifier: Apache-2.0
// The steps of one rank: takes the hidden state from the stage before, runs its layers, passes it
// on or draws tokens. All memory for activations is taken when it is made. Throws device_error.
// Thread: the shard's.
#pragma once

#include "kernels/device.hpp"
#include "runtime/kv/kv_cache.hpp"
#include "runtime/models/model.hpp"
#include "runtime/schedule/step.hpp"
#include "runtime/shard/rank_links.hpp"
#include "runtime/shard/sampling_feed.hpp"
#include "runtime/shard/slot_table.hpp"
#include "runtime/shard/step_inputs.hpp"
#include "runtime/shard/token_return.hpp"

#include <cstdint>
#include <optional>
#include <vector>

namespace dinfer::runtime {

class shard_steps {
 public:
  // `shard_rows[r]`: vocabulary rows of tensor-parallel rank r. The limits need no blocks.
  shard_steps(kernels::device& device, model& m, rank_links& links, const shard_limits& limits,
              std::vector<std::int64_t> shard_rows);

  // Forgets every sequence. Call after the links were joined or reset.
  void restart();
  // `plan` went through `slots.apply`.
  step_result run(const step_plan& plan, const slot_table& slots, const kv_cache& cache);

  std::uint64_t bytes() const;  // of activations, logits and index arrays

 private:
  void compute(const step_plan& plan, const slot_table& slots, const kv_cache& cache,
               step_result& out);
  void fill_ids(const step_plan& plan, const slot_table& slots);
  kernels::tensor hidden() const;
  std::vector<sampled_token> draw();
  void deal(const step_plan& plan, std::vector<sampled_token> drawn, step_result& out);

  kernels::device* device_;
  model* model_;
  rank_links* links_;
  std::uint32_t slots_;
  std::int64_t tokens_;  // at most in a step
  std::int64_t rows_;    // logit rows at a time
  std::vector<std::int64_t> shard_rows_;
  kernels::buffer hidden_, logits_;
  step_inputs inputs_;
  std::optional<sampling_feed> feed_;    // first and last stage
  std::optional<token_return> returns_;  // first and last stage of several
};

}  // namespace dinfer::runtime

// SPDX-License-Identifier: Apache-2.0
// Keeps a device's sampler in step with the plans: who sits in a slot, and which of its tokens
// count for penalties. Drawn tokens the sampler counts itself; a token of a sequence that came back
// after a preemption is counted once, whether it travels as history, in a prefill chunk or was
// drawn here. Thread: the shard's.
#pragma once

#include "kernels/ops.hpp"
#include "runtime/schedule/step.hpp"

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace dinfer::runtime {

class sampling_feed {
 public:
  sampling_feed(std::unique_ptr<kernels::sampler> sampler, std::uint32_t slots)
      : sampler_(std::move(sampler)), seats_(slots) {}

  // Before the plan's rows are drawn. The plan was checked.
  void begin(const step_plan& plan);
  kernels::sampler& sampler() noexcept { return *sampler_; }
  const kernels::sampler& sampler() const noexcept { return *sampler_; }
  const sampling_params& params(slot_id slot) const { return seats_[slot].params; }

 private:
  struct seat {
    sampling_params params;
    std::vector<token_id> stop_tokens;
    std::uint32_t prompt_tokens = 0;
    std::uint32_t counted = 0;  // tokens before this position are in the sampler's counts
    bool drawn = false;
  };
  void start(const sequence_start& s);
  void count(seat& own, std::uint32_t slot, std::uint32_t first, std::span<const token_id> tokens);
  void first_draw(seat& own, std::uint32_t slot, std::uint32_t position);

  std::unique_ptr<kernels::sampler> sampler_;
  std::vector<seat> seats_;
};

}  // namespace dinfer::runtime

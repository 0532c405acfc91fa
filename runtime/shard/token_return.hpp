// SPDX-License-Identifier: Apache-2.0
// The way of drawn tokens from the last pipeline stage back to the first, host to host, beside the
// control plane: no round trip over the scheduler lies between two steps. The first stage takes the
// returns in plan order, before it needs them and before too many wait. Thread: the first stage's
// shard; on the last stage the one that finishes steps.
#pragma once

#include "kernels/sampler.hpp"
#include "runtime/schedule/step.hpp"
#include "runtime/shard/rank_links.hpp"

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

namespace dinfer::runtime {

class token_return {
 public:
  // Of a rank in the first or last stage of several.
  token_return(rank_links& links, std::int32_t stages, std::uint32_t slots)
      : links_(&links), most_pending_(static_cast<std::size_t>(stages) + 1), tokens_(slots) {}

  // Last stage: the tokens of the plan's draws, in its order.
  void send(std::span<const token_id> tokens);

  // First stage: a plan was sent down the pipe; its draws will come back.
  void expect(const step_plan& plan);
  // First stage: takes every return up to plan `needed`, and more while a whole pipeline's worth
  // waits.
  void receive(step_id needed, kernels::sampler& sampler);

 private:
  struct pending {
    step_id step = 0;
    std::vector<slot_id> slots;
  };
  void take_oldest(kernels::sampler& sampler);

  rank_links* links_;
  std::size_t most_pending_;
  std::vector<token_id> tokens_;
  std::deque<pending> pending_;
};

}  // namespace dinfer::runtime

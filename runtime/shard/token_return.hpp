// SPDX-License-Identifier: Apache-2.0
// The way of drawn tokens from the last pipeline stage back to the first, rank to rank, beside the
// control plane: no host round trip lies between two steps. The first stage takes the returns in
// plan order, before it needs them and before too many wait. Thread: the shard's.
#pragma once

#include "kernels/communicator.hpp"
#include "kernels/device.hpp"
#include "kernels/ops.hpp"
#include "runtime/schedule/step.hpp"

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

namespace dinfer::runtime {

class token_return {
 public:
  // `pipe`: the stages of one tp rank, in order; it has at least two.
  token_return(kernels::device& device, kernels::communicator& pipe, std::uint32_t slots);

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

  kernels::device* device_;
  kernels::communicator* pipe_;
  kernels::buffer memory_;  // i32 [slots]
  std::vector<token_id> host_;
  std::deque<pending> pending_;
};

}  // namespace dinfer::runtime

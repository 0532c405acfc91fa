// SPDX-License-Identifier: Apache-2.0
// Tokens travel as i32 [n], n known to both sides from the plan.
#include "runtime/shard/token_return.hpp"

#include <algorithm>
#include <utility>

namespace dinfer::runtime {

token_return::token_return(kernels::device& device, kernels::communicator& pipe,
                           std::uint32_t slots)
    : device_(&device),
      pipe_(&pipe),
      memory_(device.allocate(slots * sizeof(token_id), true)),
      host_(slots) {}

void token_return::send(std::span<const token_id> tokens) {
  if (tokens.empty()) return;
  DINFER_ASSERT(tokens.size() <= host_.size());
  device_->upload(memory_.data(), tokens.data(), tokens.size_bytes());
  pipe_->send(kernels::view(memory_.data(), kernels::dtype::i32, tokens.size()), 0);
}

void token_return::expect(const step_plan& plan) {
  pending p;
  p.step = plan.step;
  for (const sequence_step& s : plan.sequences) {
    if (s.sample) p.slots.push_back(s.slot);
  }
  if (!p.slots.empty()) pending_.push_back(std::move(p));
}

void token_return::receive(step_id needed, kernels::sampler& sampler) {
  // The scheduler keeps at most stages + 1 plans in flight, so anything older is on its way.
  const auto most = static_cast<std::size_t>(pipe_->size()) + 1;
  while (!pending_.empty() && (pending_.front().step <= needed || pending_.size() >= most))
    take_oldest(sampler);
}

void token_return::take_oldest(kernels::sampler& sampler) {
  const pending p = std::move(pending_.front());
  pending_.pop_front();
  const kernels::tensor tokens = kernels::view(memory_.data(), kernels::dtype::i32, p.slots.size());
  pipe_->recv(tokens, pipe_->size() - 1);
  device_->download(host_.data(), tokens.data, static_cast<std::size_t>(tokens.bytes()));
  // A slot may have been taken by another sequence since; what that one draws comes later.
  for (std::size_t i = 0; i < p.slots.size(); ++i) sampler.set_last(p.slots[i], host_[i]);
}

}  // namespace dinfer::runtime

// SPDX-License-Identifier: Apache-2.0
// Tokens travel as i32 [n], n known to both sides from the plan.
#include "runtime/shard/token_return.hpp"

#include <algorithm>
#include <utility>

namespace dinfer::runtime {

void token_return::send(std::span<const token_id> tokens) {
  if (tokens.empty()) return;
  DINFER_ASSERT(tokens.size() <= tokens_.size());
  std::ranges::copy(tokens, tokens_.begin());
  links_->return_tokens(kernels::view(tokens_.data(), kernels::dtype::i32, tokens.size()));
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
  while (!pending_.empty() && (pending_.front().step <= needed || pending_.size() >= most_pending_))
    take_oldest(sampler);
}

void token_return::take_oldest(kernels::sampler& sampler) {
  const pending p = std::move(pending_.front());
  pending_.pop_front();
  links_->take_tokens(kernels::view(tokens_.data(), kernels::dtype::i32, p.slots.size()));
  // A slot may have been taken by another sequence since; what that one draws comes later.
  for (std::size_t i = 0; i < p.slots.size(); ++i) sampler.set_last(p.slots[i], tokens_[i]);
}

}  // namespace dinfer::runtime

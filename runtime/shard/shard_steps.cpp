// SPDX-License-Identifier: Apache-2.0
// One step of one rank, from index arrays to drawn tokens.
#include "runtime/shard/shard_steps.hpp"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <utility>

namespace dinfer::runtime {

using steady = std::chrono::steady_clock;

shard_steps::shard_steps(kernels::device& device, model& m, rank_links& links,
                         const shard_limits& limits, std::vector<std::int64_t> shard_rows)
    : device_(&device),
      model_(&m),
      links_(&links),
      slots_(limits.slots),
      tokens_(limits.batched_tokens),
      rows_(limits.batched_sequences()),
      shard_rows_(std::move(shard_rows)),
      inputs_(device, limits) {
  model_->reserve(device, tokens_, rows_);
  const std::int64_t row =
      kernels::row_bytes(device.traits().activation, model_->shape().hidden);
  hidden_ = device.allocate(static_cast<std::size_t>(tokens_ * row), true);
  if (!model_->layout().last()) return;
  const std::int64_t logits = rows_ * model_->layout().vocabulary.size();
  logits_ = device.allocate(static_cast<std::size_t>(logits) * sizeof(float), false);
}

std::uint64_t shard_steps::bytes() const {
  return model_->workspace_bytes(tokens_, rows_) + hidden_.bytes() + logits_.bytes() +
         inputs_.bytes();
}

void shard_steps::restart() {
  const rank_layout& layout = model_->layout();
  returns_.reset();
  feed_.reset();
  if (!layout.first() && !layout.last()) return;
  feed_.emplace(device_->ops().make_sampler(slots_, model_->shape().vocabulary), slots_);
  if (!links_->piped()) return;
  links_->through_pipe(
      [&](kernels::communicator& pipe) { returns_.emplace(*device_, pipe, slots_); });
}

step_result shard_steps::run(const step_plan& plan, const slot_table& slots,
                             const kv_cache& cache) {
  step_result out;
  out.epoch = plan.epoch;
  out.step = plan.step;
  if (feed_ && model_->layout().last()) feed_->begin(plan);
  if (!plan.sequences.empty()) compute(plan, slots, cache, out);
  return out;
}

kernels::tensor shard_steps::hidden() const {
  return kernels::view(hidden_.data(), device_->traits().activation, inputs_.batch().tokens,
                       model_->shape().hidden);
}

void shard_steps::compute(const step_plan& plan, const slot_table& slots, const kv_cache& cache,
                          step_result& out) {
  const rank_layout& layout = model_->layout();
  inputs_.build(plan, slots);
  if (layout.first()) {
    fill_ids(plan, slots);
  } else {
    links_->through_pipe(
        [&](kernels::communicator& pipe) { pipe.recv(hidden(), layout.stage - 1); });
  }
  forward_args args;
  args.batch = &inputs_.batch();
  args.pages = cache.pages();
  args.ids = inputs_.ids();
  args.hidden = hidden();
  args.tp = links_->tp();
  const auto begin = steady::now();
  model_->forward(*device_, args);
  if (!layout.last()) {
    links_->through_pipe(
        [&](kernels::communicator& pipe) { pipe.send(hidden(), layout.stage + 1); });
    if (layout.first()) returns_->expect(plan);
    return;
  }
  std::vector<sampled_token> drawn = draw();
  const auto spent = steady::now() - begin;
  out.compute_us = static_cast<std::uint32_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(spent).count());
  deal(plan, std::move(drawn), out);
}

// Tokens that the host does not know yet: drawn on this device, or on their way back to it.
void shard_steps::fill_ids(const step_plan& plan, const slot_table& slots) {
  if (returns_) {
    step_id needed = 0;
    for (const sequence_step& s : plan.sequences)
      needed = std::max(needed, slots.at(s.slot).token_from);
    links_->through_pipe(
        [&](kernels::communicator&) { returns_->receive(needed, feed_->sampler()); });
  }
  if (inputs_.unfilled()) feed_->sampler().fill_last(inputs_.ids(), inputs_.slots());
}

// One token per logit row. Rows go through the head in slices that its buffers hold.
std::vector<sampled_token> shard_steps::draw() {
  const std::span<const kernels::sample_row> rows = inputs_.rows();
  const auto most = static_cast<std::size_t>(rows_);
  std::vector<sampled_token> drawn;
  drawn.reserve(rows.size());
  for (std::size_t first = 0; first < rows.size(); first += most) {
    const std::size_t count = std::min(most, rows.size() - first);
    head_args args;
    args.hidden = hidden();
    args.rows = inputs_.row_tokens(first, count);
    args.logits = kernels::view(logits_.data(), kernels::dtype::f32, count,
                                model_->layout().vocabulary.size());
    model_->head(*device_, args);
    auto tokens =
        feed_->sampler().sample(args.logits, rows.subspan(first, count), shard_rows_, links_->tp());
    DINFER_ASSERT(tokens.size() == count);
    std::ranges::move(tokens, std::back_inserter(drawn));
  }
  return drawn;
}

// Deals the rows out to their sequences, and sends what was drawn back to the first stage.
void shard_steps::deal(const step_plan& plan, std::vector<sampled_token> drawn, step_result& out) {
  std::vector<token_id> returned;
  auto next = drawn.begin();
  for (const sequence_step& s : plan.sequences) {
    if (s.logit_rows == 0) continue;
    sequence_result r;
    r.slot = s.slot;
    for (std::size_t i = 0; i < s.targets.size(); ++i) r.prompt.push_back(std::move(*next++));
    if (s.sample) {
      returned.push_back(next->token);
      r.tokens.push_back(std::move(*next++));
    }
    out.sequences.push_back(std::move(r));
  }
  if (!returns_) return;
  links_->through_pipe([&](kernels::communicator&) { returns_->send(returned); });
}

}  // namespace dinfer::runtime

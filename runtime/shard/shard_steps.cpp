// SPDX-License-Identifier: Apache-2.0
// One step of one rank, from index arrays to drawn tokens.
#include "runtime/shard/shard_steps.hpp"

#include <algorithm>
#include <utility>

namespace dinfer::runtime {

using steady = std::chrono::steady_clock;

shard_steps::shard_steps(kernels::device& device, model& m, rank_links& links,
                         const shard_limits& limits, std::vector<std::int64_t> shard_rows,
                         const step_options& options)
    : device_(&device),
      model_(&m),
      links_(&links),
      graphs_(device, options.graphs),
      slots_(limits.slots),
      rows_(graphs_.size_for(limits.batched_sequences())),
      tokens_(std::max<std::int64_t>(limits.batched_tokens, rows_)),
      shard_rows_(std::move(shard_rows)),
      inputs_(device, limits, static_cast<std::uint32_t>(rows_), options.timeout) {
  model_->reserve(device, {tokens_, rows_});
  make_feed();  // now, so that its memory is taken before the cache is sized
  const std::int64_t row = kernels::row_bytes(device.traits().activation, model_->shape().hidden);
  hidden_ = device.allocate(static_cast<std::size_t>(tokens_ * row), true);
  if (!model_->layout().last()) return;
  const std::int64_t logits = rows_ * model_->layout().vocabulary.size();
  logits_ = device.allocate(static_cast<std::size_t>(logits) * sizeof(float), false);
  outputs_.emplace(device, static_cast<std::size_t>(tokens_), options.timeout);
}

std::uint64_t shard_steps::bytes() const {
  return model_->workspace_bytes() + hidden_.bytes() + logits_.bytes() + inputs_.bytes() +
         (outputs_ ? outputs_->bytes() : 0);
}

void shard_steps::make_feed() {
  feed_.reset();
  if (!model_->layout().first() && !model_->layout().last()) return;
  feed_.emplace(device_->ops().make_sampler(slots_, model_->shape().vocabulary), slots_);
  if (model_->layout().last() && shard_rows_.size() > 1)
    feed_->sampler().reserve_exchange(shard_rows_);
}

void shard_steps::restart() {
  returns_.reset();
  graphs_.forget();
  make_feed();
  if (feed_ && links_->piped()) returns_.emplace(*links_, model_->layout().stages, slots_);
}

launched_step shard_steps::launch(const step_plan& plan, const slot_table& slots,
                                  const kv_cache& cache) {
  launched_step out;
  out.epoch = plan.epoch;
  out.step = plan.step;
  out.at = steady::now();
  links_->check();  // a recorded step would not ask
  if (feed_ && model_->layout().last()) feed_->begin(plan);
  if (!plan.sequences.empty()) {
    if (returns_ && model_->layout().first()) receive_tokens(plan, slots);
    if (feed_) feed_->sampler().commit();
    // The same on every stage, for it follows from the plan and the configuration: neighbours pass
    // each other as many rows, outside of recordings.
    const std::uint32_t size = graphs_.size_of(plan);
    inputs_.build(plan, slots, size);
    if (!model_->layout().first()) links_->take_hidden(hidden());
    fill_ = size > 0 || inputs_.unfilled();
    const bool drawing = model_->layout().last();
    const bool simple = !drawing || feed_->sampler().simple(inputs_.rows());
    const auto work = [&] {
      compute(cache);
      if (drawing && simple) draw();
    };
    if (size > 0) graphs_.run(size, simple, work);
    else work();
    if (drawing && !simple) draw();  // its kernels depend on what the rows ask for
    pass_hidden(plan);
  }
  if (outputs_) fetch(plan, out);
  return out;
}

kernels::tensor shard_steps::hidden() const {
  return kernels::view(hidden_.data(), device_->traits().activation, inputs_.batch().tokens,
                       model_->shape().hidden);
}

void shard_steps::pass_hidden(const step_plan& plan) {
  if (model_->layout().last()) return;
  links_->send_hidden(hidden());
  if (model_->layout().first()) returns_->expect(plan);
}

void shard_steps::compute(const kv_cache& cache) {
  if (model_->layout().first() && fill_) feed_->sampler().fill_last(inputs_.ids(), inputs_.slots());
  forward_args args;
  args.batch = &inputs_.batch();
  args.pages = cache.pages();
  args.ids = inputs_.ids();
  args.hidden = hidden();
  args.tp = links_->tp();
  model_->forward(*device_, args);
}

// Tokens that were drawn on the last stage and are on their way back.
void shard_steps::receive_tokens(const step_plan& plan, const slot_table& slots) {
  step_id needed = 0;
  for (const sequence_step& s : plan.sequences)
    needed = std::max(needed, slots.at(s.slot).token_from);
  returns_->receive(needed, feed_->sampler());
}

// One token per logit row. Rows go through the head in slices that its buffers hold.
void shard_steps::draw() {
  const std::span<const kernels::sample_row> rows = inputs_.rows();
  const std::size_t all = inputs_.array_rows();
  const auto most = static_cast<std::size_t>(rows_);
  for (std::size_t first = 0; first < all; first += most) {
    const std::size_t count = std::min(most, all - first);
    head_args args;
    args.hidden = hidden();
    args.rows = inputs_.row_tokens(first, count);
    args.logits = kernels::view(logits_.data(), kernels::dtype::f32, count,
                                model_->layout().vocabulary.size());
    model_->head(*device_, args);
    kernels::sample_args draw;
    draw.logits = args.logits;
    draw.rows = rows.subspan(first, std::min(count, rows.size() - first));
    draw.arrays = inputs_.row_arrays(first, count);
    draw.shard_rows = shard_rows_;
    draw.tp = links_->tp();
    draw.drawn = outputs_->arrays(first, count);
    feed_->sampler().sample(draw);
  }
}

// Notes what the rows mean while their slots are still the plan's, and sends them to the host.
void shard_steps::fetch(const step_plan& plan, launched_step& out) {
  std::size_t rows = 0;
  bool reported = false;
  for (const sequence_step& s : plan.sequences) {
    if (s.logit_rows == 0) continue;
    const sampling_params& params = feed_->params(s.slot);
    launched_step::part& part = out.parts.emplace_back();
    part.slot = s.slot;
    part.targets = static_cast<std::uint32_t>(s.targets.size());
    part.sample = s.sample;
    part.prompt_top = std::max(params.prompt_logprobs, 0);
    part.top = params.logprobs;
    reported = reported || part.targets > 0 || part.top >= 0;
    rows += s.logit_rows;
  }
  out.piece = outputs_->fetch(rows, reported);
  out.drawn = true;
}

step_result shard_steps::finish(const launched_step& step) {
  step_result out;
  out.epoch = step.epoch;
  out.step = step.step;
  if (!step.drawn) return out;
  outputs_->wait(step.piece);
  links_->check();
  const auto now = steady::now();
  const auto spent = now - std::max(step.at, std::exchange(finished_, now));
  out.compute_us = static_cast<std::uint32_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(spent).count());
  std::size_t row = 0;
  for (const launched_step::part& part : step.parts) {
    sequence_result& r = out.sequences.emplace_back();
    r.slot = part.slot;
    for (std::uint32_t i = 0; i < part.targets; ++i)
      r.prompt.push_back(outputs_->row(step.piece, row++, part.prompt_top));
    if (part.sample) r.tokens.push_back(outputs_->row(step.piece, row++, part.top));
  }
  if (returns_) return_tokens(out);
  return out;
}

// Several stages: the first needs what was drawn.
void shard_steps::return_tokens(const step_result& drawn) {
  std::vector<token_id> tokens;
  for (const sequence_result& s : drawn.sequences) {
    for (const sampled_token& t : s.tokens) tokens.push_back(t.token);
  }
  returns_->send(tokens);
}

}  // namespace dinfer::runtime

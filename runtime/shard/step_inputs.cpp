// SPDX-License-Identifier: Apache-2.0
// Writes a plan as arrays. Sequences follow each other as in the plan, tokens as in the sequences.
#include "runtime/shard/step_inputs.hpp"

#include <algorithm>

namespace dinfer::runtime {
namespace {

constexpr std::size_t piece_alignment = 16;  // elements: 64 bytes

std::size_t aligned(std::size_t elements) {
  return (elements + piece_alignment - 1) / piece_alignment * piece_alignment;
}

std::size_t arena_elements(const shard_limits& limits) {
  const std::size_t tokens = aligned(limits.batched_tokens);
  const std::size_t sequences = limits.batched_sequences();
  return 5 * tokens + aligned(sequences + 1) + aligned(sequences) +
         aligned(sequences * limits.table_width());
}

}  // namespace

step_inputs::step_inputs(kernels::device& device, const shard_limits& limits)
    : device_(&device),
      memory_(device.allocate(arena_elements(limits) * sizeof(std::int32_t), true)),
      host_(arena_elements(limits)) {
  rows_.reserve(limits.batched_tokens);
}

template <class... Dims>
step_inputs::piece step_inputs::take(Dims... dims) {
  piece p;
  p.host = host_.data() + used_;
  p.device = kernels::view(static_cast<std::int32_t*>(memory_.data()) + used_, kernels::dtype::i32,
                           dims...);
  used_ += aligned(static_cast<std::size_t>(p.device.elements()));
  DINFER_ASSERT(used_ <= host_.size());
  return p;
}

kernels::tensor step_inputs::row_tokens(std::size_t first, std::size_t count) const noexcept {
  return kernels::view(row_tokens_.as<std::int32_t>() + first, kernels::dtype::i32, count);
}

void step_inputs::build(const step_plan& plan, const slot_table& slots) {
  const std::size_t tokens = plan.token_count();
  const std::size_t sequences = plan.sequences.size();
  std::size_t width = 1, rows = 0;
  for (const sequence_step& s : plan.sequences) {
    width = std::max(width, slots.at(s.slot).tables.front().size());
    rows += s.logit_rows;
  }
  used_ = 0;
  const piece ids = take(tokens), slot = take(tokens), positions = take(tokens),
              owner = take(tokens), chosen = take(rows), begin = take(sequences + 1),
              context = take(sequences), blocks = take(sequences, width);
  fill_tokens(plan, ids, slot, positions, owner);
  fill_sequences(plan, slots, begin, context, blocks);
  fill_rows(plan, chosen);
  device_->upload(memory_.data(), host_.data(), used_ * sizeof(std::int32_t));

  batch_ = {static_cast<std::int32_t>(tokens),
            static_cast<std::int32_t>(sequences),
            positions.device,
            owner.device,
            begin.device,
            context.device,
            blocks.device};
  ids_ = ids.device;
  slots_ = slot.device;
  row_tokens_ = chosen.device;
}

void step_inputs::fill_tokens(const step_plan& plan, piece ids, piece slots, piece positions,
                              piece owner) {
  std::size_t t = 0;
  std::int32_t index = 0;
  unfilled_ = false;
  for (const sequence_step& s : plan.sequences) {
    unfilled_ = unfilled_ || s.tokens.empty();
    for (std::uint32_t i = 0; i < s.query_count; ++i, ++t) {
      ids.host[t] = s.tokens.empty() ? -1 : s.tokens[i];
      slots.host[t] = static_cast<std::int32_t>(s.slot);
      positions.host[t] = static_cast<std::int32_t>(s.first_position + i);
      owner.host[t] = index;
    }
    ++index;
  }
}

void step_inputs::fill_sequences(const step_plan& plan, const slot_table& table, piece begin,
                                 piece context, piece blocks) {
  const auto width = static_cast<std::size_t>(blocks.device.columns());
  std::int32_t token = 0;
  for (std::size_t i = 0; i < plan.sequences.size(); ++i) {
    const sequence_step& s = plan.sequences[i];
    begin.host[i] = token;
    token += static_cast<std::int32_t>(s.query_count);
    context.host[i] = static_cast<std::int32_t>(s.first_position + s.query_count);
    const auto& own = table.at(s.slot).tables.front();
    std::int32_t* const row = blocks.host + i * width;
    std::fill(std::copy(own.begin(), own.end(), row), row + width, 0);  // 0: the null block
  }
  begin.host[plan.sequences.size()] = token;
}

void step_inputs::fill_rows(const step_plan& plan, piece rows) {
  rows_.clear();
  std::uint32_t end = 0;
  for (const sequence_step& s : plan.sequences) {
    end += s.query_count;
    for (std::uint32_t i = 0; i < s.logit_rows; ++i) {
      const std::uint32_t back = s.logit_rows - i;  // rows up to the sequence's end
      rows.host[rows_.size()] = static_cast<std::int32_t>(end - back);
      kernels::sample_row row;
      row.slot = s.slot;
      row.position = std::int64_t{s.first_position} + s.query_count - back + 1;
      if (i < s.targets.size()) row.target = s.targets[i];
      rows_.push_back(row);
    }
  }
}

}  // namespace dinfer::runtime

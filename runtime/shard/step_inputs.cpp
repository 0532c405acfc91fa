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

// Every token may have a logit row; every slot may get all of its blocks at once.
std::size_t arena_elements(const shard_limits& limits, std::size_t padded) {
  const std::size_t tokens = aligned(std::max<std::size_t>(limits.batched_tokens, padded));
  const std::size_t sequences = aligned(std::max<std::size_t>(limits.batched_sequences(), padded));
  return 8 * tokens + aligned(sequences + 1) + 2 * sequences +
         aligned(2 * std::size_t{limits.slots} * limits.table_width());
}

kernels::tensor cut(const kernels::tensor& array, std::size_t first, std::size_t count) {
  return kernels::view(array.as<std::int32_t>() + first, kernels::dtype::i32, count);
}

}  // namespace

step_inputs::step_inputs(kernels::device& device, const shard_limits& limits,
                         std::uint32_t padded_sequences, std::chrono::milliseconds timeout)
    : device_(&device),
      padding_slot_(static_cast<std::int32_t>(limits.slots)),
      table_width_(limits.table_width()),
      memory_(
          device.allocate(arena_elements(limits, padded_sequences) * sizeof(std::int32_t), true)),
      table_(device.allocate(
          (std::size_t{limits.slots} + 1) * limits.table_width() * sizeof(std::int32_t), true)),
      ring_(device, memory_.bytes(), timeout) {
  rows_.reserve(limits.batched_tokens);
}

template <class... Dims>
step_inputs::piece step_inputs::take(Dims... dims) {
  piece p;
  p.host = host_ + used_;
  p.device = kernels::view(static_cast<std::int32_t*>(memory_.data()) + used_, kernels::dtype::i32,
                           dims...);
  used_ += aligned(static_cast<std::size_t>(p.device.elements()));
  DINFER_ASSERT(used_ * sizeof(std::int32_t) <= memory_.bytes());
  return p;
}

kernels::tensor step_inputs::row_tokens(std::size_t first, std::size_t count) const noexcept {
  return cut(row_tokens_, first, count);
}

kernels::sample_arrays step_inputs::row_arrays(std::size_t first,
                                               std::size_t count) const noexcept {
  return {cut(row_slots_, first, count), cut(row_positions_, first, count),
          cut(row_targets_, first, count)};
}

void step_inputs::build(const step_plan& plan, const slot_table& slots, std::uint32_t padded) {
  const std::size_t tokens = std::max<std::size_t>(plan.token_count(), padded);
  const std::size_t sequences = std::max<std::size_t>(plan.sequences.size(), padded);
  const std::span<const table_entry> entries = slots.new_entries();
  std::size_t rows = 0;
  for (const sequence_step& s : plan.sequences) rows += s.logit_rows;
  array_rows_ = std::max<std::size_t>(rows, padded);

  const std::size_t at = ring_.next();
  host_ = static_cast<std::int32_t*>(ring_.data(at));
  used_ = 0;
  const piece ids = take(tokens), slot = take(tokens), positions = take(tokens),
              owner = take(tokens), row_tokens = take(array_rows_), row_slots = take(array_rows_),
              row_positions = take(array_rows_), row_targets = take(array_rows_),
              begin = take(sequences + 1), context = take(sequences), table_rows = take(sequences),
              blocks = take(entries.size(), 2);
  fill_tokens(plan, ids, slot, positions, owner);
  fill_sequences(plan, begin, context, table_rows);
  fill_rows(plan, row_tokens, row_slots, row_positions, row_targets);
  fill_entries(entries, blocks);
  device_->upload_async(memory_.data(), host_, used_ * sizeof(std::int32_t));
  ring_.mark(at);

  const kernels::tensor table =
      kernels::view(table_.data(), kernels::dtype::i32, padding_slot_ + 1, table_width_);
  if (!entries.empty()) device_->ops().put_entries(table, blocks.device);
  batch_ = {static_cast<std::int32_t>(tokens),
            static_cast<std::int32_t>(sequences),
            batch_.decodes,
            positions.device,
            owner.device,
            begin.device,
            context.device,
            table_rows.device,
            table};
  ids_ = ids.device;
  slots_ = slot.device;
  row_tokens_ = row_tokens.device;
  row_slots_ = row_slots.device;
  row_positions_ = row_positions.device;
  row_targets_ = row_targets.device;
}

void step_inputs::fill_tokens(const step_plan& plan, piece ids, piece slots, piece positions,
                              piece owner) {
  std::int64_t t = 0;
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
  for (; t < ids.device.elements(); ++t, ++index) {  // padding
    ids.host[t] = positions.host[t] = 0;
    slots.host[t] = padding_slot_;
    owner.host[t] = index;
  }
}

void step_inputs::fill_sequences(const step_plan& plan, piece begin, piece context,
                                 piece table_rows) {
  std::int32_t token = 0;
  std::size_t i = 0;
  batch_.decodes = 0;
  for (const sequence_step& s : plan.sequences) {
    begin.host[i] = token;
    token += static_cast<std::int32_t>(s.query_count);
    context.host[i] = static_cast<std::int32_t>(s.first_position + s.query_count);
    table_rows.host[i] = static_cast<std::int32_t>(s.slot);
    if (s.query_count == 1 && batch_.decodes == static_cast<std::int32_t>(i)) ++batch_.decodes;
    ++i;
  }
  const auto all = static_cast<std::size_t>(context.device.elements());
  if (i < all) batch_.decodes = static_cast<std::int32_t>(all);  // padding follows decodes alone
  for (; i < all; ++i) {
    begin.host[i] = token++;
    context.host[i] = 0;
    table_rows.host[i] = padding_slot_;
  }
  begin.host[all] = token;
}

void step_inputs::fill_rows(const step_plan& plan, piece tokens, piece slots, piece positions,
                            piece targets) {
  rows_.clear();
  const auto put = [&](std::size_t at, std::uint32_t token, const kernels::sample_row& row) {
    tokens.host[at] = static_cast<std::int32_t>(token);
    slots.host[at] = static_cast<std::int32_t>(row.slot);
    positions.host[at] = static_cast<std::int32_t>(row.position);
    targets.host[at] = row.target;
  };
  std::uint32_t end = 0;
  for (const sequence_step& s : plan.sequences) {
    end += s.query_count;
    for (std::uint32_t i = 0; i < s.logit_rows; ++i) {
      const std::uint32_t back = s.logit_rows - i;  // rows up to the sequence's end
      kernels::sample_row row;
      row.slot = s.slot;
      row.position = std::int64_t{s.first_position} + s.query_count - back + 1;
      if (i < s.targets.size()) row.target = s.targets[i];
      put(rows_.size(), end - back, row);
      rows_.push_back(row);
    }
  }
  for (std::size_t at = rows_.size(); at < array_rows_; ++at)
    put(at, static_cast<std::uint32_t>(at), {static_cast<std::uint32_t>(padding_slot_), 0, -1});
}

void step_inputs::fill_entries(std::span<const table_entry> entries, piece to) const {
  std::int32_t* out = to.host;
  for (const table_entry& e : entries) {
    *out++ = static_cast<std::int32_t>(e.slot * table_width_ + e.index);
    *out++ = e.block;
  }
}

}  // namespace dinfer::runtime

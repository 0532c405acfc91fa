// SPDX-License-Identifier: Apache-2.0
// The index arrays of a step: written on the host from a plan, moved to the device in one copy that
// nothing waits for. Block tables stay on the device, a row a slot; a step brings only the blocks
// that are new. All memory is taken when it is made. Thread: the shard's.
#pragma once

#include "kernels/device.hpp"
#include "kernels/ops.hpp"
#include "runtime/schedule/step.hpp"
#include "runtime/shard/copy_ring.hpp"
#include "runtime/shard/slot_table.hpp"

#include <chrono>
#include <cstdint>
#include <span>
#include <vector>

namespace dinfer::runtime {

class step_inputs {
 public:
  // Steps may be padded to `padded_sequences` sequences.
  step_inputs(kernels::device& device, const shard_limits& limits, std::uint32_t padded_sequences,
              std::chrono::milliseconds timeout);

  // `plan` went through `slots.apply`; it has sequences. With `padded` > 0 every sequence decodes,
  // and sequences of padding follow until there are that many: then arrays of equal `padded` lie at
  // equal addresses in every step. Updates the block tables on the device.
  void build(const step_plan& plan, const slot_table& slots, std::uint32_t padded);

  // Of the last build().
  const kernels::step_batch& batch() const noexcept { return batch_; }
  kernels::tensor ids() const noexcept { return ids_; }      // i32 [T]; -1: the slot's last token
  kernels::tensor slots() const noexcept { return slots_; }  // i32 [T]
  bool unfilled() const noexcept { return unfilled_; }       // some id is -1
  // Logit rows, R of them; padding is in the arrays, but not here.
  std::span<const kernels::sample_row> rows() const noexcept { return rows_; }
  std::size_t array_rows() const noexcept { return array_rows_; }
  kernels::tensor row_tokens(std::size_t first, std::size_t count) const noexcept;  // i32 [count]
  kernels::sample_arrays row_arrays(std::size_t first, std::size_t count) const noexcept;

  std::uint64_t bytes() const noexcept { return memory_.bytes() + table_.bytes(); }

 private:
  // A piece of the arena: the host's copy to fill and the device's to compute on.
  struct piece {
    std::int32_t* host = nullptr;
    kernels::tensor device;
  };
  template <class... Dims>
  piece take(Dims... dims);
  void fill_tokens(const step_plan& plan, piece ids, piece slots, piece positions, piece owner);
  void fill_sequences(const step_plan& plan, piece begin, piece context, piece table_rows);
  void fill_rows(const step_plan& plan, piece tokens, piece slots, piece positions, piece targets);
  void fill_entries(std::span<const table_entry> entries, piece to) const;

  kernels::device* device_;
  std::int32_t padding_slot_;
  std::int64_t table_width_;
  kernels::buffer memory_;  // of the arrays
  kernels::buffer table_;   // i32 [slots + 1, table width]; the last row is for padding
  copy_ring ring_;
  std::int32_t* host_ = nullptr;  // the ring's piece of this step
  std::size_t used_ = 0;          // of both
  std::vector<kernels::sample_row> rows_;
  std::size_t array_rows_ = 0;
  kernels::step_batch batch_;
  kernels::tensor ids_, slots_;
  kernels::tensor row_tokens_, row_slots_, row_positions_, row_targets_;
  bool unfilled_ = false;
};

}  // namespace dinfer::runtime

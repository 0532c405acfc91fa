// SPDX-License-Identifier: Apache-2.0
// The index arrays of a step: written on the host from a plan, moved to the device in one copy.
// All memory is taken when it is made. Thread: the shard's.
#pragma once

#include "kernels/device.hpp"
#include "kernels/ops.hpp"
#include "runtime/schedule/step.hpp"
#include "runtime/shard/slot_table.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace dinfer::runtime {

class step_inputs {
 public:
  step_inputs(kernels::device& device, const shard_limits& limits);

  // `plan` went through `slots.apply`, which also made the block tables current; it has sequences.
  void build(const step_plan& plan, const slot_table& slots);

  // Of the last build().
  const kernels::step_batch& batch() const noexcept { return batch_; }
  kernels::tensor ids() const noexcept { return ids_; }      // i32 [T]; -1: the slot's last token
  kernels::tensor slots() const noexcept { return slots_; }  // i32 [T]
  bool unfilled() const noexcept { return unfilled_; }       // some id is -1
  std::span<const kernels::sample_row> rows() const noexcept { return rows_; }
  kernels::tensor row_tokens(std::size_t first, std::size_t count) const noexcept;  // i32 [count]

  std::uint64_t bytes() const noexcept { return memory_.bytes(); }

 private:
  // A piece of the arena: the host's copy to fill and the device's to compute on.
  struct piece {
    std::int32_t* host = nullptr;
    kernels::tensor device;
  };
  template <class... Dims>
  piece take(Dims... dims);
  void fill_tokens(const step_plan& plan, piece ids, piece slots, piece positions, piece owner);
  void fill_sequences(const step_plan& plan, const slot_table& table, piece begin, piece context,
                      piece blocks);
  void fill_rows(const step_plan& plan, piece rows);

  kernels::device* device_;
  kernels::buffer memory_;
  std::vector<std::int32_t> host_;
  std::size_t used_ = 0;  // of both
  std::vector<kernels::sample_row> rows_;
  kernels::step_batch batch_;
  kernels::tensor ids_, slots_, row_tokens_;
  bool unfilled_ = false;
};

}  // namespace dinfer::runtime

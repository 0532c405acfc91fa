// SPDX-License-Identifier: Apache-2.0
// How the CPU keeps a weight: panels of 16 output rows, so that one vector lane is one output.
// Within a panel K runs in order; quantised types keep their blocks of 32 and their bits:
//
//   f32, f16, bf16   element [k][lane]
//   quantised        per block: d [lane] f16; *_1: m [lane] f16; q5: fifth bits [k] u16, bit =
//   lane;
//                    q4, q5: byte [k / 2][lane], low nibble the even k; q8_0: i8 [k][lane]
//   super-blocks     super_block.hpp
//
// which is as large as the file's layout (q4_k and q5_k: 3 % larger), but for the rows that fill
// the last panel. A slice that cuts through blocks is kept in f32. A gate_up weight alternates gate
// and up panels. Thread: made and used by the device's thread; its workers read.
#pragma once

#include "kernels/cpu/memory.hpp"
#include "kernels/cpu/thread_pool.hpp"
#include "kernels/cpu/vector/kernels.hpp"
#include "kernels/ops.hpp"

#include <memory>
#include <vector>

namespace dinfer::kernels::cpu {

class cpu_weight final : public weight {
 public:
  std::int64_t rows() const noexcept override { return rows_; }
  std::int64_t columns() const noexcept override { return columns_; }
  std::uint64_t bytes() const noexcept override { return bytes_; }

  weight_role role() const noexcept { return role_; }
  std::span<const panel> panels() const noexcept { return panels_; }
  // Role vector: [columns] floats.
  const float* values() const noexcept { return reinterpret_cast<const float*>(data_.get()); }
  // Expands row `row` (not of a vector) to columns() floats.
  void read_row(std::int64_t row, float* out) const;

 private:
  friend std::unique_ptr<cpu_weight> pack(std::span<const weight_slice>, weight_role, bool,
                                          weight_arena&, thread_pool&);
  weight_role role_ = weight_role::matrix;
  std::int64_t rows_ = 0, columns_ = 0;
  std::uint64_t bytes_ = 0;
  std::shared_ptr<std::byte> data_;
  std::vector<panel> panels_;
};

std::unique_ptr<cpu_weight> pack(std::span<const weight_slice> slices, weight_role role,
                                 bool dequantize, weight_arena& arena, thread_pool& pool);

}  // namespace dinfer::kernels::cpu

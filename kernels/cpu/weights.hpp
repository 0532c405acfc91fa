// SPDX-License-Identifier: Apache-2.0
// How the CPU keeps a weight: panels of 16 output rows, so that one vector lane is one output.
// Within a panel K runs in order; quantised types keep their blocks of 32 and their bits:
//
//   f32, f16, bf16   element [k][lane]
//   quantised        per block: d [lane] f16; *_1: m [lane] f16; q5: fifth bits [lane] u32, bit =
//                    k; then quants in words of four bytes, [word][lane][byte], so that a lane
//                    multiplies four by four bytes at once. q4, q5: byte i of word j has k = 8j + i
//                    in its low nibble and 8j + 4 + i in its high one; q8_0: k = 4j + i
//   super-blocks     super_block.hpp
//
// which is as large as the file's layout (q4_k and q5_k: 3 % larger), but for the rows that fill
// the last panel. A slice that cuts through blocks is kept in f32, and so are 8-bit floats. A
// gate_up weight alternates gate and up panels. Thread: made and used by the device's thread; its
// workers read.
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
  // Products may take activations as bytes: quantised in blocks of one scale, all of it.
  bool takes_bytes() const noexcept { return takes_bytes_; }
  std::span<const panel> panels() const noexcept { return panels_; }
  // Role vector: [columns] floats.
  const float* values() const noexcept { return reinterpret_cast<const float*>(data_.get()); }
  // Expands row `row` (not of a vector) to columns() floats.
  void read_row(std::int64_t row, float* out) const;

 private:
  friend std::unique_ptr<cpu_weight> pack(std::span<const weight_slice>, weight_role, bool,
                                          weight_arena&, thread_pool&);
  weight_role role_ = weight_role::matrix;
  bool takes_bytes_ = false;
  std::int64_t rows_ = 0, columns_ = 0;
  std::uint64_t bytes_ = 0;
  std::shared_ptr<std::byte> data_;
  std::vector<panel> panels_;
};

std::unique_ptr<cpu_weight> pack(std::span<const weight_slice> slices, weight_role role,
                                 bool dequantize, weight_arena& arena, thread_pool& pool);

}  // namespace dinfer::kernels::cpu

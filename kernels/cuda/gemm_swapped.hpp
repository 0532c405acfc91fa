// SPDX-License-Identifier: Apache-2.0
// Matrix products of a decoding step's rows on Hopper: out^T = w x^T, with the weights, read once,
// as the tall operand of the tensor cores and up to 128 rows of x as their columns. Host code;
// launches are asynchronous and throw device_error.
#pragma once

#include "kernels/cuda/product.hpp"

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace dinfer::kernels::cuda {

inline constexpr std::int64_t least_swapped_rows = 9, most_swapped_rows = 128;

// How a product is cut: tiles of `height` rows of w, whose depths, one tile after another, are
// dealt out evenly to `blocks` blocks. A tile that several blocks share is added up by the last of
// them to come, from memory, in the order of k: bits depend on the plan alone.
struct swapped_plan {
  std::int32_t height = 0, blocks = 0;

  bool operator==(const swapped_plan&) const = default;
};

// What shared tiles go through, used by one launch at a time: `parts` holds anything, `counters`
// zeros, which every launch leaves zeros again. Both at multiples of 16 bytes.
struct swapped_space {
  void* parts = nullptr;
  std::size_t parts_bytes = 0;
  std::uint32_t* counters = nullptr;
};
inline constexpr std::size_t swapped_counters = 16384;

// 9 to 128 rows of bf16 or f16 (out the same or f32), or of f8_e4m3 (out bf16 or f16, and sums of
// 128 elements as exact as the tensor cores have them); n a multiple of 8, k of 16 bytes, rows of
// x, w and out at multiples of 16 bytes. Memory is of a GPU of compute capability 9.0.
bool swapped_takes(const product& p) noexcept;

// The plans worth a measurement, for one that swapped_takes.
std::vector<swapped_plan> swapped_plans(const product& p, std::int32_t multiprocessors);
// Whether a plan that may come from a file is one, and has the space it needs.
bool swapped_fits(const product& p, const swapped_plan& plan, std::int32_t multiprocessors,
                  std::size_t parts_bytes) noexcept;

void multiply_swapped(const product& p, const swapped_plan& plan, const swapped_space& space,
                      cudaStream_t stream);

// As multiply_skinny_swiglu; n a multiple of 16, 16-bit floats.
void multiply_swapped_swiglu(const product& p, const swapped_plan& plan, const swapped_space& space,
                             cudaStream_t stream);

}  // namespace dinfer::kernels::cuda

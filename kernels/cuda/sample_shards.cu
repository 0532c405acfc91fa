// SPDX-License-Identifier: Apache-2.0
// Rows whose logits lie on several ranks, a part of the vocabulary on each: the best of what the
// ranks found, and rows put together from their parts.
#include "kernels/cuda/sample.cuh"

#include <algorithm>

namespace dinfer::kernels::cuda {

namespace {

constexpr std::int32_t threads = 256;
constexpr std::int32_t most_blocks = 64;  // of one row that is copied

__global__ void __launch_bounds__(threads)
    best_kernel(slot_arrays slots, draw_rows rows, const word64* found, std::int32_t ranks) {
  const auto row = static_cast<std::int32_t>(blockIdx.x * threads + threadIdx.x);
  if (row >= rows.rows) return;
  if (rows.slots[row] == slots.slots) {  // padding
    rows.tokens[row] = 0;
    return;
  }
  word64 best = 0;
  for (std::int32_t rank = 0; rank < ranks; ++rank) {
    const word64 theirs = found[static_cast<std::int64_t>(rank) * rows.rows + row];
    best = theirs > best ? theirs : best;
  }
  take_token(slots, rows, row, best);
}

__global__ void __launch_bounds__(threads)
    copy_kernel(const float* from, std::int64_t from_stride, float* to, std::int64_t to_stride,
                std::int32_t columns) {
  const std::int64_t row = blockIdx.y;
  const auto step = static_cast<std::int32_t>(gridDim.x) * threads;
  for (auto i = static_cast<std::int32_t>(blockIdx.x * threads + threadIdx.x); i < columns;
       i += step) {
    to[row * to_stride + i] = from[row * from_stride + i];
  }
}

unsigned blocks_for(std::int32_t work) {
  return static_cast<unsigned>((work + threads - 1) / threads);
}

}  // namespace

void draw_best(const slot_arrays& slots, const draw_rows& rows, const unsigned long long* found,
               std::int32_t ranks, cudaStream_t stream) {
  launch(best_kernel, dim3(blocks_for(rows.rows)), dim3(threads), 0, stream, slots, rows, found,
         ranks);
}

void copy_columns(const float* from, std::int64_t from_stride, float* to, std::int64_t to_stride,
                  std::int32_t rows, std::int32_t columns, cudaStream_t stream) {
  const dim3 grid(std::min(blocks_for(columns), static_cast<unsigned>(most_blocks)),
                  static_cast<unsigned>(rows));
  launch(copy_kernel, grid, dim3(threads), 0, stream, from, from_stride, to, to_stride, columns);
}

}  // namespace dinfer::kernels::cuda

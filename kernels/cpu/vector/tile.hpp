// SPDX-License-Identifier: Apache-2.0
// The block of a matrix product that linear and attention share: some rows of x against one or two
// panels of 16 columns, all sums in registers. For the sources of this folder alone.
#pragma once

#include "kernels/cpu/vector/lanes.hpp"

namespace dinfer::kernels::cpu::DINFER_ISA {

// sums[row][p][16] += x[row][k] * w[p][k][16], k in order; the first stretch starts from zero.
template <int Rows, int Panels>
inline void tile(const float* const* w, const float* x, std::int64_t x_stride, std::int64_t k_count,
                 bool first, float* sums) {
  lanes acc[Rows][Panels];
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < Panels; ++p) {
      acc[r][p] = first ? splat(0.0F) : load(sums + (r * 2 + p) * 16);
    }
  }
  for (std::int64_t k = 0; k < k_count; ++k) {
    lanes weights[Panels];
#pragma GCC unroll 4
    for (int p = 0; p < Panels; ++p) weights[p] = load(w[p] + 16 * k);
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r) {
      const lanes value = splat(x[r * x_stride + k]);
#pragma GCC unroll 4
      for (int p = 0; p < Panels; ++p) acc[r][p] = fma(weights[p], value, acc[r][p]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < Panels; ++p) store(sums + (r * 2 + p) * 16, acc[r][p]);
  }
}

template <int Rows, int Panels>
inline void tile_of(std::int64_t rows, const float* const* w, const float* x, std::int64_t x_stride,
                    std::int64_t k_count, bool first, float* sums) {
  if (rows == Rows) return tile<Rows, Panels>(w, x, x_stride, k_count, first, sums);
  if constexpr (Rows > 1) tile_of<Rows - 1, Panels>(rows, w, x, x_stride, k_count, first, sums);
}

// Any number of rows, in blocks as equal as they can be.
template <int Panels>
inline void tiles(const float* const* w, const float* x, std::int64_t x_stride, std::int64_t rows,
                  std::int64_t k_count, bool first, float* sums) {
  for (std::int64_t blocks = (rows + tile_rows - 1) / tile_rows; blocks > 0; --blocks) {
    const std::int64_t taken = (rows + blocks - 1) / blocks;
    tile_of<tile_rows, Panels>(taken, w, x, x_stride, k_count, first, sums);
    rows -= taken;
    x += taken * x_stride;
    sums += taken * 32;
  }
}

// Two panels at once where the registers hold them. sums: [rows][2][16].
inline void two_panels(const float* const* w, const float* x, std::int64_t x_stride,
                       std::int64_t rows, std::int64_t k_count, bool first, float* sums) {
  if constexpr (tile_panels == 2) {
    tiles<2>(w, x, x_stride, rows, k_count, first, sums);
  } else {
    tiles<1>(w, x, x_stride, rows, k_count, first, sums);
    tiles<1>(w + 1, x, x_stride, rows, k_count, first, sums + 16);
  }
}

}  // namespace dinfer::kernels::cpu::DINFER_ISA

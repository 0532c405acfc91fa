// SPDX-License-Identifier: Apache-2.0
// Products with a packed matrix (packed_layout.hpp) as it lies: of few rows, which are a matter of
// reading the codes once. Host code; launches are asynchronous and throw device_error.
#pragma once

#include "kernels/cuda/packed_layout.hpp"

#include <cuda_runtime_api.h>

#include <cstdint>

namespace dinfer::kernels::cuda {

// Beyond it, a matrix that is unpacked first and multiplied as any other is expected to be faster.
inline constexpr std::int64_t most_packed_rows = 64;

// out[r][i] = sum over k of x[r][k] * w[i][k]; row-major, without overlap.
struct packed_product {
  const void* x = nullptr;  // [rows, w.columns], at a multiple of 16 bytes
  packed_matrix w;
  void* out = nullptr;  // [rows, w.rows], row r at element r * ldo
  std::int64_t rows = 0, ldo = 0;
  dtype type = dtype::bf16;      // of x: bf16, f16
  dtype out_type = dtype::bf16;  // as `type`, or f32
  // out[r][i] = silu(gate) * up, f32 until it is rounded once, and has half as many columns: w in
  // groups of 16 rows, 8 of gate and then their 8 of up.
  bool swiglu = false;
};

// Any number of rows. Weights are not rounded on their way: products of x and codes are exact, sums
// over a group and over k in f32, in one order that depends on k alone.
void multiply_packed(const packed_product& p, cudaStream_t stream);

}  // namespace dinfer::kernels::cuda

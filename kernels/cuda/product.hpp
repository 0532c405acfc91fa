// SPDX-License-Identifier: Apache-2.0
// A matrix product as every kernel of this folder is given it: a linear layer without its bias and
// activation. Host code; gemm.hpp chooses between the kernels.
#pragma once

#include "kernels/tensor.hpp"

#include <cstdint>

namespace dinfer::kernels::cuda {

// out[r][i] = sum over k of x[r][k] * w[i][k], in f32; all three row-major, without overlap. Of
// f8_e4m3 times x_scales[r] * w_scales[i].
struct product {
  const void* x = nullptr;  // [rows, k], row r at element r * ldx
  const void* w = nullptr;  // [n, k], row i at element i * ldw
  void* out = nullptr;      // [rows, n], row r at element r * ldo
  std::int64_t rows = 0, n = 0, k = 0;
  std::int64_t ldx = 0, ldw = 0, ldo = 0;
  dtype type = dtype::bf16;         // of x and w: f32, bf16, f16, f8_e4m3
  dtype out_type = dtype::bf16;     // of out: as `type`, or f32; of f8_e4m3 any of the others
  const float* x_scales = nullptr;  // [rows], of f8_e4m3
  const float* w_scales = nullptr;  // [n]
  // x and out have at least `padded_rows` rows, and of those past `rows` x may be read and out
  // overwritten: with one row cuBLAS can be slower than with eight.
  bool spare_rows = false;
  // w was written by the kernel before: it may not be asked for before that one is done.
  bool w_is_new = false;
};

inline constexpr std::int64_t padded_rows = 8;

// With rows one after another.
inline product dense_product(const tensor& x, const void* w, std::int64_t n, const tensor& out) {
  product p;
  p.x = x.data;
  p.w = w;
  p.out = out.data;
  p.rows = x.rows();
  p.n = n;
  p.k = x.columns();
  p.ldx = p.ldw = p.k;
  p.ldo = n;
  p.type = x.type;
  p.out_type = out.type;
  return p;
}

}  // namespace dinfer::kernels::cuda

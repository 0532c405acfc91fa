// SPDX-License-Identifier: Apache-2.0
// Matrix products of 8-bit floats by our own kernel: the fastest way for few rows, which are a
// matter of reading the weights once, and the only one for any number of rows where cuBLASLt knows
// none, or where rows must not know of each other. Host code; launches are asynchronous and throw
// device_error.
#pragma once

#include "kernels/cuda/product.hpp"

#include <cuda_runtime_api.h>

namespace dinfer::kernels::cuda {

// Beyond it the weights are read a second time.
inline constexpr std::int64_t few_fp8_rows = 32;

// n and k multiples of 16, rows of x and w at multiples of 16 bytes; out bf16, f16 or f32. Products
// of two elements are exact, sums over k in f32, in one order that depends on k alone; they are
// multiplied by the product of both scales, and rounded once.
void multiply_fp8(const product& p, cudaStream_t stream);

}  // namespace dinfer::kernels::cuda

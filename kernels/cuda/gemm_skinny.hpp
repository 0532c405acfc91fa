// SPDX-License-Identifier: Apache-2.0
// Matrix products of few rows, which are a matter of reading the weights once: bf16 and f16, up to
// 8 rows. Host code; launches are asynchronous and throw device_error.
#pragma once

#include "kernels/cuda/product.hpp"

#include <cuda_runtime_api.h>

namespace dinfer::kernels::cuda {

inline constexpr std::int64_t most_skinny_rows = 8;

// bf16 or f16, 1 to 8 rows, n a multiple of 16, k of 64, rows of x and w at multiples of 16 bytes.
bool skinny_takes(const product& p) noexcept;

// Sums over k in f32, in one order that depends on k alone (it is not that of multiply_exact).
void multiply_skinny(const product& p, cudaStream_t stream);

// out[r][i] = silu(gate) * up, f32 until it is rounded once; w in groups of 16 rows, 8 of gate and
// then their 8 of up. p.n counts the rows of w, out is [rows, n / 2].
void multiply_skinny_swiglu(const product& p, cudaStream_t stream);

}  // namespace dinfer::kernels::cuda

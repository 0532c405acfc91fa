// SPDX-License-Identifier: Apache-2.0
// Matrix products whose rows do not know of each other: every output is summed over k in one order,
// whatever the number of rows. Host code; launches are asynchronous and throw device_error.
//
// In f32 an output is one chain of fused multiply-adds in order of k: relative to the sum of the
// terms' sizes it is off by less than 1e-6 for the sizes of a model. In bf16 and f16 it is a chain
// of tensor core steps of 16 terms each, summed in f32 and rounded once.
#pragma once

#include "kernels/cuda/product.hpp"

#include <cuda_runtime_api.h>

namespace dinfer::kernels::cuda {

// Any shape and alignment. Rows that start at multiples of 16 bytes, in x and in w, are read
// several times faster.
void multiply_exact(const product& p, cudaStream_t stream);

}  // namespace dinfer::kernels::cuda

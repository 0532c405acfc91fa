// SPDX-License-Identifier: Apache-2.0
// Rows of a packed matrix (packed_layout.hpp) as activations' type, each element rounded once. Host
// code; asynchronous on `stream`; throws device_error.
#pragma once

#include "kernels/cuda/packed_layout.hpp"

#include <cuda_runtime_api.h>

#include <cstdint>

namespace dinfer::kernels::cuda {

// Rows first .. first + rows of `from` to out, [rows, from.columns] of `type` (f32, bf16, f16) at a
// multiple of 16 bytes.
void unpack_rows(const packed_matrix& from, std::int64_t first, std::int64_t rows, void* out,
                 dtype type, cudaStream_t stream);

}  // namespace dinfer::kernels::cuda

// SPDX-License-Identifier: Apache-2.0
// Reads device memory for the sake of what that leaves in the L2 cache: a large stretch drives
// everything else out, a small one is there afterwards. Host code; asynchronous on `stream`.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

namespace dinfer::kernels::cuda {

// `data` is 16-byte aligned; of `bytes` whole multiples of 16 are read. `sink` is 4 bytes that may
// be written, so that the compiler cannot leave the reading out.
void read_through(const void* data, std::size_t bytes, void* sink, cudaStream_t stream);

}  // namespace dinfer::kernels::cuda

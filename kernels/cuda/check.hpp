// SPDX-License-Identifier: Apache-2.0
// CUDA's error codes as device_error. Any thread.
#pragma once

#include "kernels/device.hpp"

#include <cuda_runtime_api.h>

#include <string>

namespace dinfer::kernels::cuda {

// Throws device_error: out_of_memory, or internal for everything else; `what` says who failed.
inline void check(cudaError_t code, const char* what) {
  if (code == cudaSuccess) return;
  (void)cudaGetLastError();  // it would come back from the next call otherwise
  throw device_error(code == cudaErrorMemoryAllocation ? errc::out_of_memory : errc::internal,
                     std::string(what) + ": " + cudaGetErrorString(code));
}

}  // namespace dinfer::kernels::cuda

// SPDX-License-Identifier: Apache-2.0
// How every kernel of ours is launched, and its dynamic shared memory declared: one place, so that
// tests can run kernels on the host instead (tests/support/cuda_on_cpu.hpp defines
// DINFER_CUDA_ON_CPU and what it needs). Included by .cu files alone.
#pragma once

#ifdef DINFER_CUDA_ON_CPU
#include "tests/support/cuda_on_cpu.hpp"
#else

#include "kernels/cuda/check.hpp"

#include <cuda_runtime.h>

#include <cstddef>

// Declares `type name[]`, the block's dynamic shared memory; once in a kernel, aligned to 1024.
#define DINFER_SHARED(type, name)                               \
  extern __shared__ __align__(1024) unsigned char name##_raw[]; \
  type* const name = reinterpret_cast<type*>(name##_raw)

namespace dinfer::kernels::cuda {

// The default limit of dynamic shared memory; more is asked for before a launch.
inline constexpr std::size_t plain_shared_bytes = 48 * 1024;

template <class... Params>
void allow_shared(void (*kernel)(Params...), std::size_t bytes) {
  if (bytes <= plain_shared_bytes) return;
  check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                             cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
        "shared memory of a kernel");
}

template <class... Params, class... Args>
void launch(void (*kernel)(Params...), dim3 grid, dim3 block, std::size_t shared_bytes,
            cudaStream_t stream, Args... args) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  allow_shared(kernel, shared_bytes);
  // clang-format off
  kernel<<<grid, block, shared_bytes, stream>>>(static_cast<Params>(args)...);
  // clang-format on
  check(cudaGetLastError(), "kernel launch");
}

}  // namespace dinfer::kernels::cuda

#endif

// SPDX-License-Identifier: Apache-2.0
// Kernels that begin while the one before them still runs: CUDA's programmatic dependent launch, of
// compute capability 9.0 and later; elsewhere they begin when it is done. What such a kernel does
// before wait_for_previous() may touch nothing that changes during steps: it may ask for weights.
// Included by .cu files alone.
#pragma once

#include "kernels/cuda/launch.cuh"

namespace dinfer::kernels::cuda {

#ifdef DINFER_CUDA_ON_CPU

inline void let_next_begin() {}
inline void wait_for_previous() {}
template <class... Params, class... Args>
void launch_overlapped(void (*kernel)(Params...), dim3 grid, dim3 block, std::size_t shared_bytes,
                       cudaStream_t stream, Args... args) {
  launch(kernel, grid, block, shared_bytes, stream, args...);
}

#else

// Once every block has said so or is done, the next kernel's blocks may take what room is left.
__device__ __forceinline__ void let_next_begin() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;\n");
#endif
}

// Until all that was launched before is done, and what it wrote is there.
__device__ __forceinline__ void wait_for_previous() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;\n" ::: "memory");
#endif
}

// launch() of a kernel all of whose threads call wait_for_previous().
template <class... Params, class... Args>
void launch_overlapped(void (*kernel)(Params...), dim3 grid, dim3 block, std::size_t shared_bytes,
                       cudaStream_t stream, Args... args) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  constexpr int first_major = 9;
  allow_shared(kernel, shared_bytes);
  int device = 0, major = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
        "compute capability");
  cudaLaunchAttribute overlapped{};
  overlapped.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlapped.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &overlapped;
  config.numAttrs = major >= first_major ? 1 : 0;
  check(cudaLaunchKernelEx(&config, kernel, static_cast<Params>(args)...), "kernel launch");
}

#endif

}  // namespace dinfer::kernels::cuda

// SPDX-License-Identifier: Apache-2.0
// Kernels of peer sums by the number of ranks: code for 2, 4 and 8, which fewer ranks take too.
// Included by .cu files alone.
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/peer_sum.hpp"

#include <type_traits>

namespace dinfer::kernels::cuda {

// Calls fn(std::integral_constant<int, 2, 4 or 8>{}).
template <class Fn>
auto with_ranks(std::int32_t ranks, Fn&& fn) {
  if (ranks <= 2) return fn(std::integral_constant<int, 2>{});
  if (ranks <= 4) return fn(std::integral_constant<int, 4>{});
  return fn(std::integral_constant<int, most_peers>{});
}

// CUDA loads a kernel when it is asked for.
template <class... Params>
void load_kernel([[maybe_unused]] void (*kernel)(Params...)) {
#ifndef DINFER_CUDA_ON_CPU
  cudaFuncAttributes attributes;
  check(cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(kernel)),
        "loading a kernel");
#endif
}

}  // namespace dinfer::kernels::cuda

// SPDX-License-Identifier: Apache-2.0
// A row and the block that works on it alone: how its threads read it, and maxima and sums over all
// of them. Included by .cu files alone.
#pragma once

#include "kernels/cuda/sample.cuh"

namespace dinfer::kernels::cuda {

inline constexpr std::int32_t row_threads = 1024;

// Shared memory in which warps meet.
struct block_words {
  word64 of_warp[32];
};

// A row as its block reads it.
struct row_view {
  float* logits;
  std::int32_t count;
  bool aligned;

  // take(logit, id) for every token, ids rising within a thread. Loads run two ahead.
  template <class Take>
  __device__ __forceinline__ void each(Take take) const {
    constexpr std::int32_t half = 4 * row_threads;
    std::int32_t i = 4 * static_cast<std::int32_t>(threadIdx.x);
    float4 next_a = load_four(logits, i, count, aligned);
    float4 next_b = load_four(logits, i + half, count, aligned);
    for (; i < count; i += 2 * half) {
      const float4 a = next_a, b = next_b;
      next_a = load_four(logits, i + 2 * half, count, aligned);
      next_b = load_four(logits, i + 3 * half, count, aligned);
      give(a, i, take);
      give(b, i + half, take);
    }
  }

 private:
  template <class Take>
  __device__ __forceinline__ void give(const float4& v, std::int32_t i, Take& take) const {
    if (i < count) take(finite(v.x), i);
    if (i + 1 < count) take(finite(v.y), i + 1);
    if (i + 2 < count) take(finite(v.z), i + 2);
    if (i + 3 < count) take(finite(v.w), i + 3);
  }
};

__device__ inline word64 block_max(block_words& s, word64 v) {
  v = warp_max(v);
  if (threadIdx.x % 32 == 0) s.of_warp[threadIdx.x / 32] = v;
  __syncthreads();
  v = warp_max(s.of_warp[threadIdx.x % 32]);
  __syncthreads();
  return v;
}

// Inclusive sums over the lanes of a warp.
__device__ __forceinline__ word64 warp_scan(word64 v) {
  const int lane = static_cast<int>(threadIdx.x % 32);
#pragma unroll
  for (int by = 1; by < 32; by *= 2) {
    const word64 before = __shfl_up_sync(0xFFFFFFFFU, v, by);
    if (lane >= by) v += before;
  }
  return v;
}

// The sum of v over the threads before this one and itself; `total`: over all.
__device__ inline word64 block_scan(block_words& s, word64 v, word64& total) {
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  v = warp_scan(v);
  if (lane == 31) s.of_warp[warp] = v;
  __syncthreads();
  const word64 sums = warp_scan(s.of_warp[lane]);
  total = __shfl_sync(0xFFFFFFFFU, sums, 31);
  const word64 before = __shfl_sync(0xFFFFFFFFU, sums, (warp + 31) % 32);
  __syncthreads();
  return warp == 0 ? v : v + before;
}

}  // namespace dinfer::kernels::cuda

// SPDX-License-Identifier: Apache-2.0
// How a block turns a row into 8-bit floats and their scale (fp8.hpp). Included by .cu files alone.
#pragma once

#include "kernels/cuda/fp8.hpp"
#include "kernels/cuda/rows.cuh"

#include <cuda_fp8.h>

#include <cstdint>
#include <type_traits>

namespace dinfer::kernels::cuda {

// |v| as bits, which order as numbers do, infinity and NaN above all others.
__device__ __forceinline__ std::uint32_t size_bits(float v) {
  return __float_as_uint(v) & 0x7FFFFFFFU;
}

// The largest over the block's threads, for all of them. `space`: 32 words of shared memory.
__device__ __forceinline__ std::uint32_t block_max(std::uint32_t v, std::uint32_t* space) {
  constexpr unsigned all = 0xFFFFFFFFU;
  v = __reduce_max_sync(all, v);
  const int lane = threadIdx.x % 32, warps = blockDim.x / 32;
  __syncthreads();  // what was there is read
  if (lane == 0) space[threadIdx.x / 32] = v;
  __syncthreads();
  return __reduce_max_sync(all, lane < warps ? space[lane] : 0U);
}

struct f8_scale {
  float scale, inverse;
};
// `largest`: size_bits of a row.
__device__ __forceinline__ f8_scale f8_scale_of(std::uint32_t largest) {
  constexpr float most = 448, least = 0x1p-100F;
  const float size = __uint_as_float(largest);
  if (size < least) return {1, 1};
  return {__fdiv_rn(size, most), __fdiv_rn(most, size)};
}

// Four elements, the first in the lowest byte.
__device__ __forceinline__ std::uint32_t four_f8(float a, float b, float c, float d) {
  const auto low = __nv_cvt_float2_to_fp8x2(make_float2(a, b), __NV_SATFINITE, __NV_E4M3);
  const auto high = __nv_cvt_float2_to_fp8x2(make_float2(c, d), __NV_SATFINITE, __NV_E4M3);
  return static_cast<std::uint32_t>(low) | static_cast<std::uint32_t>(high) << 16;
}

// A row that the block holds in registers: pack i of a thread begins at column
// (i * blockDim.x + threadIdx.x) * pack<T>::count; zeros past the row's end. Writes it to `row`,
// and its scale. `columns` is a multiple of 16.
template <class T, int Packs>
__device__ __forceinline__ void store_f8_row(const pack<T> (&x)[Packs], int columns, void* row,
                                             float* scale, std::uint32_t* space) {
  constexpr int count = pack<T>::count;
  std::uint32_t largest = 0;
#pragma unroll
  for (int i = 0; i < Packs; ++i) {
#pragma unroll
    for (int e = 0; e < count; ++e) largest = max(largest, size_bits(to_float(x[i].v[e])));
  }
  const f8_scale s = f8_scale_of(block_max(largest, space));
#pragma unroll
  for (int i = 0; i < Packs; ++i) {
    const int first = static_cast<int>(i * blockDim.x + threadIdx.x) * count;
    if (first >= columns) continue;
    auto* words = reinterpret_cast<std::uint32_t*>(static_cast<std::uint8_t*>(row) + first);
#pragma unroll
    for (int e = 0; e < count; e += 4) {
      words[e / 4] =
          four_f8(to_float(x[i].v[e]) * s.inverse, to_float(x[i].v[e + 1]) * s.inverse,
                  to_float(x[i].v[e + 2]) * s.inverse, to_float(x[i].v[e + 3]) * s.inverse);
    }
  }
  if (threadIdx.x == 0) *scale = s.scale;
}

// with_row_threads, of as many columns as f8_takes allows.
template <class T, class Fn>
void with_row_packs(std::int64_t columns, Fn&& fn) {
  if (!with_row_threads<T, 4>(columns, fn))
    throw device_error(errc::internal, "a row too wide for 8-bit floats");
}

}  // namespace dinfer::kernels::cuda

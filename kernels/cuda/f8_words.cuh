// SPDX-License-Identifier: Apache-2.0
// 8-bit floats (e4m3) without scales, as pages of keys and values hold them: from and to the types
// that kernels compute in. Every one is exact in f16 and in bf16. Included by .cu files alone.
#pragma once

#include "kernels/cuda/types.cuh"

#include <cuda_fp8.h>

#include <cstdint>

namespace dinfer::kernels::cuda {

using f8 = __nv_fp8_e4m3;

__device__ __forceinline__ float to_float(f8 v) {
  return to_float(f16(__nv_cvt_fp8_to_halfraw(v.__x, __NV_E4M3)));
}

// The lower two, or the upper two (shift 16), of four bytes as f16.
__device__ __forceinline__ std::uint32_t two_halves(std::uint32_t four, int shift) {
  const auto two = static_cast<__nv_fp8x2_storage_t>(four >> shift);
  const __half2_raw halves = __nv_cvt_fp8x2_to_halfraw2(two, __NV_E4M3);
  return static_cast<std::uint32_t>(halves.x) | static_cast<std::uint32_t>(halves.y) << 16;
}

// The same as T.
template <class T>
__device__ __forceinline__ std::uint32_t two_wide(std::uint32_t four, int shift);
template <>
__device__ __forceinline__ std::uint32_t two_wide<f16>(std::uint32_t four, int shift) {
  return two_halves(four, shift);
}
template <>
__device__ __forceinline__ std::uint32_t two_wide<bf16>(std::uint32_t four, int shift) {
  const std::uint32_t halves = two_halves(four, shift);
  const __half2 two = *reinterpret_cast<const __half2*>(&halves);
  // bf16 is the upper half of f32, and nothing is lost.
  return __byte_perm(__float_as_uint(__low2float(two)), __float_as_uint(__high2float(two)), 0x7632);
}

// 16 of them as T, in two pieces of 16 bytes.
template <class T>
__device__ __forceinline__ void widen_16(const uint4& stored, uint4& low, uint4& high) {
  low = {two_wide<T>(stored.x, 0), two_wide<T>(stored.x, 16), two_wide<T>(stored.y, 0),
         two_wide<T>(stored.y, 16)};
  high = {two_wide<T>(stored.z, 0), two_wide<T>(stored.z, 16), two_wide<T>(stored.w, 0),
          two_wide<T>(stored.w, 16)};
}

// Nearest even; what is beyond 448 becomes 448, a NaN stays one.
__device__ __forceinline__ f8 to_f8(float v) {
  f8 out;
  out.__x = __nv_cvt_float_to_fp8(v, __NV_SATFINITE, __NV_E4M3);
  return out;
}

}  // namespace dinfer::kernels::cuda

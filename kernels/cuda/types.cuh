// SPDX-License-Identifier: Apache-2.0
// Element types inside kernels: float, __nv_bfloat16 and __half, turned to float to compute with,
// 16 bytes at a time to move. Included by .cu files alone.
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/tensor.hpp"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace dinfer::kernels::cuda {

using bf16 = __nv_bfloat16;
using f16 = __half;

__device__ __forceinline__ float to_float(float v) { return v; }
__device__ __forceinline__ float to_float(bf16 v) { return __bfloat162float(v); }
__device__ __forceinline__ float to_float(f16 v) { return __half2float(v); }

template <class T>
__device__ __forceinline__ T from_float(float v);
template <>
__device__ __forceinline__ float from_float<float>(float v) {
  return v;
}
template <>
__device__ __forceinline__ bf16 from_float<bf16>(float v) {
  return __float2bfloat16_rn(v);
}
template <>
__device__ __forceinline__ f16 from_float<f16>(float v) {
  return __float2half_rn(v);
}

// 16 bytes of T.
template <class T>
struct alignas(16) pack {
  static constexpr int count = 16 / sizeof(T);
  T v[count];
};

template <class T>
__device__ __forceinline__ pack<T> load_pack(const T* p) {
  return *reinterpret_cast<const pack<T>*>(p);
}
template <class T>
__device__ __forceinline__ void store_pack(T* p, const pack<T>& v) {
  *reinterpret_cast<pack<T>*>(p) = v;
}

// Calls fn(T{}) with the element type of `type`, which is f32, bf16 or f16.
template <class Fn>
void with_type(dtype type, Fn&& fn) {
  switch (type) {
    case dtype::f32:
      return fn(float{});
    case dtype::bf16:
      return fn(bf16{});
    case dtype::f16:
      return fn(f16{});
    default:
      throw device_error(errc::internal, "no kernel for this element type");
  }
}

}  // namespace dinfer::kernels::cuda

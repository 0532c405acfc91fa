// SPDX-License-Identifier: Apache-2.0
// What kernels over rows share: rows in pieces of 16 bytes, whatever their width, and sums over a
// block. A row is `whole` when its bytes and its address are multiples of 16; others are read one
// element at a time by the same kernel. Included by .cu files alone.
#pragma once

#include "kernels/cuda/types.cuh"

#include <cstdint>
#include <initializer_list>
#include <type_traits>

namespace dinfer::kernels::cuda {

// Columns column .. column + pack<T>::count of a row; zeros past its end. column < columns.
template <bool Whole, class T>
__device__ __forceinline__ pack<T> load_part(const T* row, int column, int columns) {
  if constexpr (Whole) {
    return load_pack(row + column);
  } else {
    pack<T> part;
    for (int e = 0; e < pack<T>::count; ++e) {
      part.v[e] = column + e < columns ? row[column + e] : from_float<T>(0.0F);
    }
    return part;
  }
}

template <bool Whole, class T>
__device__ __forceinline__ void store_part(T* row, int column, int columns, const pack<T>& part) {
  if constexpr (Whole) {
    store_pack(row + column, part);
  } else {
    for (int e = 0; e < pack<T>::count; ++e) {
      if (column + e < columns) row[column + e] = part.v[e];
    }
  }
}

template <class T>
__device__ __forceinline__ pack<T> zero_pack() {
  pack<T> part;
#pragma unroll
  for (int e = 0; e < pack<T>::count; ++e) part.v[e] = from_float<T>(0.0F);
  return part;
}

// `Count` (4 or 8) floats of a vector that goes with the columns.
template <bool Whole, int Count>
__device__ __forceinline__ void load_floats(float (&out)[Count], const float* vector, int column,
                                            int columns) {
#pragma unroll
  for (int i = 0; i < Count; i += 4) {
    if (!Whole && column + i >= columns) {
      for (int e = 0; e < 4; ++e) out[i + e] = 0;
      continue;
    }
    const auto part = load_part<Whole>(vector, column + i, columns);
#pragma unroll
    for (int e = 0; e < 4; ++e) out[i + e] = part.v[e];
  }
}

// The sum over the block's threads, for all of them, in one order. `space`: 32 floats of shared
// memory.
__device__ __forceinline__ float block_sum(float v, float* space) {
  constexpr unsigned all = 0xFFFFFFFFU;
  for (int step = 16; step > 0; step /= 2) v += __shfl_xor_sync(all, v, step);
  const int lane = threadIdx.x % 32, warps = blockDim.x / 32;
  __syncthreads();  // the last sum was read
  if (lane == 0) space[threadIdx.x / 32] = v;
  __syncthreads();
  v = lane < warps ? space[lane] : 0.0F;
  for (int step = 16; step > 0; step /= 2) v += __shfl_xor_sync(all, v, step);
  return v;
}

// Calls fn(std::true_type{}) when rows of `columns` elements at all these addresses are whole.
template <class T, class Fn>
void with_whole(std::int64_t columns, std::initializer_list<const void*> addresses, Fn&& fn) {
  bool whole = columns % pack<T>::count == 0;
  for (const void* p : addresses) whole = whole && reinterpret_cast<std::uintptr_t>(p) % 16 == 0;
  whole ? fn(std::true_type{}) : fn(std::false_type{});
}

constexpr std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

inline constexpr int most_row_threads = 1024;

// For a block that holds a row of `columns` in registers: fn(packs of a thread, as an
// integral_constant; threads). False, and fn is not called, where MostPacks a thread are too few.
template <class T, int MostPacks, class Fn>
bool with_row_threads(std::int64_t columns, Fn&& fn) {
  const std::int64_t packs = divide_up(columns, pack<T>::count);
  const auto threads = [&](int each) {
    return static_cast<unsigned>(divide_up(divide_up(packs, each), 32) * 32);
  };
  if (threads(1) <= most_row_threads / 2) {
    fn(std::integral_constant<int, 1>{}, threads(1));
    return true;
  }
  if (threads(2) <= most_row_threads) {
    fn(std::integral_constant<int, 2>{}, threads(2));
    return true;
  }
  if constexpr (MostPacks >= 4) {
    if (threads(4) <= most_row_threads) {
      fn(std::integral_constant<int, 4>{}, threads(4));
      return true;
    }
  }
  return false;
}

// A grid for threads that take `packs` packs each of a row of `columns`: rows along x, stretches of
// a row along y.
struct row_grid {
  dim3 grid, block;
};
template <class T>
row_grid grid_over(std::int64_t rows, std::int64_t columns, int packs) {
  const std::int64_t threads = divide_up(divide_up(columns, pack<T>::count), packs);
  const std::int64_t block = threads >= 256 ? 256 : divide_up(threads, 32) * 32;
  if (block == 0) return {dim3(0), dim3(1)};
  return {dim3(static_cast<unsigned>(rows), static_cast<unsigned>(divide_up(threads, block))),
          dim3(static_cast<unsigned>(block))};
}

// The first column of this thread's pack `i`, for a block of grid_over(..., Packs).
template <class T, int Packs>
__device__ __forceinline__ std::int64_t column_of(int i) {
  const std::int64_t first = (std::int64_t{blockIdx.y} * Packs + i) * blockDim.x + threadIdx.x;
  return first * pack<T>::count;
}

}  // namespace dinfer::kernels::cuda

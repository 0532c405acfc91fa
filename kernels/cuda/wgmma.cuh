// SPDX-License-Identifier: Apache-2.0
// The matrix multiply of Hopper's warpgroups (wgmma; PTX ISA 9.7.15) as words: 128 threads start a
// product together, and later wait for it; it needs code for sm_90a. Included by .cu files alone.
//
// A 128-byte-swizzled tile, as TMA writes it and wgmma reads it: rows of 128 bytes,
// 1024-byte aligned, in which 16-byte chunk c of row r lies at chunk c ^ (r % 8).
#pragma once

#include "kernels/cuda/f8_words.cuh"
#include "kernels/cuda/sm90.cuh"

#include <cstdint>
#include <type_traits>

namespace dinfer::kernels::cuda {

// Byte offset of a 16-byte chunk in a swizzled tile.
__host__ __device__ constexpr std::uint32_t swizzled(std::uint32_t row, std::uint32_t chunk) {
  return row * 128 + ((chunk ^ (row & 7)) << 4);
}

// What wgmma knows of a swizzled operand in shared memory. K-major (rows along M or N, K in the
// row): `stride` is from 8 rows to the next 8, `leading` is not used. MN-major (rows along K):
// `stride` is from 8 rows to the next 8, `leading` from 64 columns to the next 64. Bytes.
__device__ __forceinline__ std::uint64_t matrix_words(std::uint32_t shared, std::uint32_t leading,
                                                      std::uint32_t stride) {
  constexpr std::uint64_t swizzle_128 = std::uint64_t{1} << 62;
  return swizzle_128 | static_cast<std::uint64_t>(stride >> 4) << 32 |
         static_cast<std::uint64_t>(leading >> 4) << 16 | ((shared & 0x3FFFF) >> 4);
}
// The same operand, further on in shared memory.
__device__ __forceinline__ std::uint64_t matrix_at(std::uint64_t words, std::uint32_t bytes) {
  const std::uint32_t low = static_cast<std::uint32_t>(words) + (bytes >> 4);
  return (words & ~std::uint64_t{0xFFFFFFFF}) | low;
}

#ifndef DINFER_CUDA_ON_CPU

// Before the first multiply that reads or adds to registers that other instructions wrote.
__device__ __forceinline__ void multiply_fence() {
  asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory");
}
__device__ __forceinline__ void multiply_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
}
// Waits until at most `Groups` committed groups are still running.
template <int Groups>
__device__ __forceinline__ void multiply_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(Groups) : "memory");
}
// The compiler moves multiply_wait to before arithmetic that could run meanwhile; not to before
// this, which waits for `value`, not negative.
__device__ __forceinline__ void done_before_wait(float value) {
  __syncwarp(value < 0 ? 0U : 0xFFFFFFFFU);
}
// What is done with these registers before this place in the program is done before it, and the
// rest after it; for multiply_wait, which does not name the registers it is about.
template <int N>
__device__ __forceinline__ void pin(float (&r)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) asm volatile("" : "+f"(r[i])::"memory");
}

#define DINFER_SUMS_8(d, i)                                                                   \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define DINFER_SUMS_32(d, i) \
  DINFER_SUMS_8(d, i), DINFER_SUMS_8(d, i + 8), DINFER_SUMS_8(d, i + 16), DINFER_SUMS_8(d, i + 24)
#define DINFER_NAMES_32                                                         \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, " \
  "%17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define DINFER_NAMES_64                                                                \
  DINFER_NAMES_32                                                                      \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"

#define DINFER_NAMES_16 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"

// d (64 x N) = a (64 x K) b^T (N x K) [+ d], both in shared memory, K-major; K is 16, or 32 of f8;
// N is 32, 64 or 128. Of d a thread holds, for columns 8 j .. 8 j + 7, two of row g and two of row
// g + 8, as mma_16x8x16 does: warp w of the warpgroup has rows 16 w .. 16 w + 15.
template <class T, int Sums>
__device__ __forceinline__ void multiply_shared(float (&d)[Sums], std::uint64_t a, std::uint64_t b,
                                                bool add) {
  static_assert(Sums == 16 || Sums == 32 || Sums == 64);
#define DINFER_MULTIPLY(shape, type, names, a_at, b_at, add_at, ends, ...)               \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " add_at                                \
               ", 0;\n"                                                                  \
               "wgmma.mma_async.sync.aligned.m64" shape ".f32." type "." type " {" names \
               "}, " a_at ", " b_at ", p, 1, 1" ends ";\n}\n"                            \
               : __VA_ARGS__                                                             \
               : "l"(a), "l"(b), "r"(static_cast<int>(add)))
#define DINFER_MULTIPLY_N(depth, type, ends)                                        \
  if constexpr (Sums == 64)                                                         \
    DINFER_MULTIPLY("n128" depth, type, DINFER_NAMES_64, "%64", "%65", "%66", ends, \
                    DINFER_SUMS_32(d, 0), DINFER_SUMS_32(d, 32));                   \
  else if constexpr (Sums == 32)                                                    \
    DINFER_MULTIPLY("n64" depth, type, DINFER_NAMES_32, "%32", "%33", "%34", ends,  \
                    DINFER_SUMS_32(d, 0));                                          \
  else                                                                              \
    DINFER_MULTIPLY("n32" depth, type, DINFER_NAMES_16, "%16", "%17", "%18", ends,  \
                    DINFER_SUMS_8(d, 0), DINFER_SUMS_8(d, 8))
  if constexpr (std::is_same_v<T, bf16>) {
    DINFER_MULTIPLY_N("k16", "bf16", ", 0, 0");
  } else if constexpr (std::is_same_v<T, f16>) {
    DINFER_MULTIPLY_N("k16", "f16", ", 0, 0");
  } else {
    DINFER_MULTIPLY_N("k32", "e4m3", "");
  }
#undef DINFER_MULTIPLY_N
#undef DINFER_MULTIPLY
}

// d (64 x N) += a (64 x 16) b (16 x N): a in registers, laid out as mma_16x8x16's; b in shared
// memory, MN-major. N is 128 or 64.
template <class T>
__device__ __forceinline__ void multiply_registers(float (&d)[64], const std::uint32_t* a,
                                                   std::uint64_t b) {
#define DINFER_MULTIPLY(type)                                                           \
  asm volatile(                                                                         \
      "{\n.reg .pred p;\nsetp.eq.u32 p, 0, 0;\n"                                        \
      "wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type " {" DINFER_NAMES_64 \
      "}, {%64, %65, %66, %67}, %68, p, 1, 1, 1;\n}\n"                                  \
      : DINFER_SUMS_32(d, 0), DINFER_SUMS_32(d, 32)                                     \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))
  if constexpr (std::is_same_v<T, bf16>) DINFER_MULTIPLY("bf16");
  else DINFER_MULTIPLY("f16");
#undef DINFER_MULTIPLY
}
template <class T>
__device__ __forceinline__ void multiply_registers(float (&d)[32], const std::uint32_t* a,
                                                   std::uint64_t b) {
#define DINFER_MULTIPLY(type)                                                          \
  asm volatile(                                                                        \
      "{\n.reg .pred p;\nsetp.eq.u32 p, 0, 0;\n"                                       \
      "wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type " {" DINFER_NAMES_32 \
      "}, {%32, %33, %34, %35}, %36, p, 1, 1, 1;\n}\n"                                 \
      : DINFER_SUMS_32(d, 0)                                                           \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))
  if constexpr (std::is_same_v<T, bf16>) DINFER_MULTIPLY("bf16");
  else DINFER_MULTIPLY("f16");
#undef DINFER_MULTIPLY
}

#endif  // on the host these come from tests/support/cuda_on_cpu_sm90.hpp

}  // namespace dinfer::kernels::cuda

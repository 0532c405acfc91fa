// SPDX-License-Identifier: Apache-2.0
// Products of up to 8 rows at the speed of memory. A block has 16 rows of w; its warps take turns
// over k in spans of 64 columns, and add up their sums at the end. On the tensor cores the weights
// are the operand of 16 rows and x, padded with zeros, the one of 8 columns. Weights go from memory
// straight to registers, two spans ahead: with three blocks on a multiprocessor 48 to 96 KB are on
// their way, several times what the latency of memory asks for, so that the ends of one block pass
// unnoticed under the others.
//
// In a span, thread (g, t) of a warp (g = lane / 4, t = lane % 4) reads the 16-byte words t and
// t + 4 of rows g and g + 8 of w and of row g of x: four neighbours read 64 bytes. A tensor core
// step adds up 16 columns in any order, if it is the same for both operands: a word's first four
// elements serve as the columns 2t, 2t + 1, 2t + 8 and 2t + 9 of one step, the others of the next.
#include "kernels/cuda/gemm_skinny.hpp"

#include "kernels/cuda/ptx.cuh"

namespace dinfer::kernels::cuda {

namespace {

constexpr int warps = 8, tile = 16, span = 64, columns = 8, words = 2;
static_assert(columns == most_skinny_rows);

struct skinny_args {
  const void* x;
  const void* w;
  void* out;
  std::int64_t ldx, ldw, ldo;
  std::int32_t rows, spans;
  bool float_out;
};

struct fragments {
  uint4 low[words], high[words];  // of rows g and g + 8 of w
  uint4 x[words];
};

template <class T>
__device__ __forceinline__ void load(fragments& f, const T* low, const T* high, const T* x,
                                     std::int32_t at, bool has_x) {
#pragma unroll
  for (int i = 0; i < words; ++i) {
    const std::int64_t word = static_cast<std::int64_t>(at) * (span / 8) + 4 * i;
    f.low[i] = __ldcs(reinterpret_cast<const uint4*>(low) + word);  // read once by all blocks
    f.high[i] = __ldcs(reinterpret_cast<const uint4*>(high) + word);
    f.x[i] = has_x ? reinterpret_cast<const uint4*>(x)[word] : make_uint4(0, 0, 0, 0);
  }
}

template <class T>
__device__ __forceinline__ void multiply(float (&sum)[4], const fragments& f) {
#pragma unroll
  for (int i = 0; i < words; ++i) {
    const std::uint32_t first[4] = {f.low[i].x, f.high[i].x, f.low[i].y, f.high[i].y};
    const std::uint32_t first_x[2] = {f.x[i].x, f.x[i].y};
    mma_16x8x16<T>(sum, first, first_x);
    const std::uint32_t second[4] = {f.low[i].z, f.high[i].z, f.low[i].w, f.high[i].w};
    const std::uint32_t second_x[2] = {f.x[i].z, f.x[i].w};
    mma_16x8x16<T>(sum, second, second_x);
  }
}

// Sum `row` of the tile for row `column` of x, over the warps in order.
__device__ __forceinline__ float total(const float* parts, int row, int column) {
  float sum = 0;
  for (int i = 0; i < warps; ++i) sum += parts[(i * tile + row) * columns + column];
  return sum;
}

template <class T>
__device__ __forceinline__ void finish(const skinny_args& p, const float* parts, bool swiglu) {
  const int height = swiglu ? tile / 2 : tile;
  const int row = static_cast<int>(threadIdx.x) % height;
  const int column = static_cast<int>(threadIdx.x) / height;
  if (column >= p.rows) return;
  float sum = total(parts, row, column);
  if (swiglu) {
    const float up = total(parts, row + tile / 2, column);
    sum = sum / (1.0F + expf(-sum)) * up;
  }
  const std::int64_t at = column * p.ldo + static_cast<std::int64_t>(blockIdx.x) * height + row;
  if (p.float_out) {
    static_cast<float*>(p.out)[at] = sum;
  } else {
    static_cast<T*>(p.out)[at] = from_float<T>(sum);
  }
}

template <class T, bool SWIGLU>
__global__ void __launch_bounds__(warps * 32, 3) multiply_few(const skinny_args p) {
  constexpr int ahead = 2;
  DINFER_SHARED(float, parts);  // [warps][tile][columns]
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int g = lane / 4, t = lane % 4;
  const bool has_x = g < p.rows;
  const T* low = static_cast<const T*>(p.w) +
                 (static_cast<std::int64_t>(blockIdx.x) * tile + g) * p.ldw + t * 8;
  const T* high = low + 8 * p.ldw;
  const T* x = static_cast<const T*>(p.x) + (has_x ? g * p.ldx : 0) + t * 8;

  fragments f[ahead];
  float sum[4] = {};
#pragma unroll
  for (int i = 0; i < ahead; ++i) {
    const std::int32_t at = warp + i * warps;
    if (at < p.spans) load(f[i], low, high, x, at, has_x);
  }
  for (std::int32_t at = warp; at < p.spans;) {
#pragma unroll
    for (int i = 0; i < ahead; ++i) {
      if (at < p.spans) {
        multiply<T>(sum, f[i]);
        if (at + ahead * warps < p.spans) load(f[i], low, high, x, at + ahead * warps, has_x);
      }
      at += warps;
    }
  }

  // The thread's sums: rows g and g + 8 of the tile, for rows 2t and 2t + 1 of x.
  float* part = parts + (warp * tile + g) * columns + 2 * t;
  part[0] = sum[0];
  part[1] = sum[1];
  part[8 * columns] = sum[2];
  part[8 * columns + 1] = sum[3];
  __syncthreads();
  finish<T>(p, parts, SWIGLU);
}

template <bool SWIGLU>
void launch_few(const product& p, cudaStream_t stream) {
  skinny_args a{};
  a.x = p.x;
  a.w = p.w;
  a.out = p.out;
  a.ldx = p.ldx;
  a.ldw = p.ldw;
  a.ldo = p.ldo;
  a.rows = static_cast<std::int32_t>(p.rows);
  a.spans = static_cast<std::int32_t>(p.k / span);
  a.float_out = p.out_type == dtype::f32;
  const auto kernel =
      p.type == dtype::bf16 ? multiply_few<bf16, SWIGLU> : multiply_few<f16, SWIGLU>;
  launch(kernel, dim3(static_cast<unsigned>(p.n / tile)), dim3(warps * 32),
         sizeof(float) * warps * tile * columns, stream, a);
}

bool aligned(const void* data, std::int64_t stride) {
  return reinterpret_cast<std::uintptr_t>(data) % 16 == 0 && stride % 8 == 0;
}

}  // namespace

bool skinny_takes(const product& p) noexcept {
  return (p.type == dtype::bf16 || p.type == dtype::f16) && p.rows >= 1 &&
         p.rows <= most_skinny_rows && p.n % tile == 0 && p.k % span == 0 && aligned(p.x, p.ldx) &&
         aligned(p.w, p.ldw);
}

void multiply_skinny(const product& p, cudaStream_t stream) { launch_few<false>(p, stream); }

void multiply_skinny_swiglu(const product& p, cudaStream_t stream) { launch_few<true>(p, stream); }

}  // namespace dinfer::kernels::cuda

// SPDX-License-Identifier: Apache-2.0
// Products of 8-bit floats at the speed of memory; see gemm_skinny.cu, whose plan this is with half
// the bytes. A block has 16 rows of w and up to 32 of x; its warps take turns over k in spans of
// 128 columns, and add up their sums at the end.
//
// Elements become f16 on their way into the tensor cores: Hopper's mma of 8-bit floats does the
// same, and f16 keeps products exact and sums in f32 on every GPU. In a span, thread (g, t) of a
// warp (g = lane / 4, t = lane % 4) reads the 16-byte words t and t + 4 of rows g and g + 8 of w
// and of row g of each eight of x. A step of the tensor cores adds up 16 columns in any order, if
// it is the same for both operands: a word's four bytes 4 s .. 4 s + 3 serve as the columns 2t, 2t
// + 1, 2t + 8 and 2t + 9 of step s.
#include "kernels/cuda/gemm_fp8.hpp"

#include "kernels/cuda/f8_words.cuh"
#include "kernels/cuda/overlap.cuh"
#include "kernels/cuda/ptx.cuh"

namespace dinfer::kernels::cuda {

namespace {

constexpr int warps = 8, tile = 16, span = 128, words = 2, word_bytes = 16, eight = 8;

struct fp8_args {
  const std::uint8_t* x;
  const std::uint8_t* w;
  void* out;
  const float* x_scales;
  const float* w_scales;
  std::int64_t ldx, ldw, ldo;
  std::int32_t rows, k_words, spans;
};

// Where a thread reads; x[e] is null where there is no such row. `Eights`: rows of x, in eights.
template <int Eights>
struct sources {
  const uint4* low;
  const uint4* high;
  const uint4* x[Eights];
  std::int32_t t, k_words;

  // The thread's word i of span `at`; past the row's end there is none.
  __device__ __forceinline__ std::int32_t word(std::int32_t at, int i) const {
    return at * (span / word_bytes) + 4 * i + t;
  }
};

// Of one span: rows g and g + 8 of w, and of x.
struct w_part {
  uint4 low[words], high[words];

  template <int Eights>
  __device__ __forceinline__ void load(const sources<Eights>& from, std::int32_t at) {
#pragma unroll
    for (int i = 0; i < words; ++i) {
      const std::int32_t word = from.word(at, i);
      const bool inside = word < from.k_words;
      low[i] =
          inside ? __ldcs(from.low + word) : make_uint4(0, 0, 0, 0);  // read once by all blocks
      high[i] = inside ? __ldcs(from.high + word) : make_uint4(0, 0, 0, 0);
    }
  }
};
template <int Eights>
struct x_part {
  uint4 x[Eights][words];

  __device__ __forceinline__ void load(const sources<Eights>& from, std::int32_t at) {
#pragma unroll
    for (int i = 0; i < words; ++i) {
      const std::int32_t word = from.word(at, i);
#pragma unroll
      for (int e = 0; e < Eights; ++e) {
        const bool inside = word < from.k_words && from.x[e] != nullptr;
        x[e][i] = inside ? from.x[e][word] : make_uint4(0, 0, 0, 0);
      }
    }
  }
};

template <int Eights>
__device__ __forceinline__ void multiply(float (&sum)[Eights][4], const w_part& w,
                                         const x_part<Eights>& rows) {
#pragma unroll
  for (int i = 0; i < words; ++i) {
    const std::uint32_t low[4] = {w.low[i].x, w.low[i].y, w.low[i].z, w.low[i].w};
    const std::uint32_t high[4] = {w.high[i].x, w.high[i].y, w.high[i].z, w.high[i].w};
#pragma unroll
    for (int s = 0; s < 4; ++s) {
      const std::uint32_t a[4] = {two_halves(low[s], 0), two_halves(high[s], 0),
                                  two_halves(low[s], 16), two_halves(high[s], 16)};
#pragma unroll
      for (int e = 0; e < Eights; ++e) {
        const uint4& x = rows.x[e][i];
        const std::uint32_t four = s == 0 ? x.x : s == 1 ? x.y : s == 2 ? x.z : x.w;
        const std::uint32_t b[2] = {two_halves(four, 0), two_halves(four, 16)};
        mma_16x8x16<f16>(sum[e], a, b);
      }
    }
  }
}

// The block's outputs, from its warps' sums [warps][tile][columns], added in order.
template <class Out, int Eights>
__device__ __forceinline__ void finish(const fp8_args& p, const float* parts) {
  constexpr int columns = Eights * eight;
  const std::int32_t first = static_cast<std::int32_t>(blockIdx.y) * columns;
  for (int i = static_cast<int>(threadIdx.x); i < tile * columns; i += warps * 32) {
    const int row = i % tile, column = i / tile;
    if (first + column >= p.rows) break;
    float sum = 0;
    for (int warp = 0; warp < warps; ++warp) sum += parts[(warp * tile + row) * columns + column];
    const std::int64_t n = static_cast<std::int64_t>(blockIdx.x) * tile + row;
    sum *= p.x_scales[first + column] * p.w_scales[n];
    static_cast<Out*>(p.out)[(first + column) * p.ldo + n] = from_float<Out>(sum);
  }
}

// `Ahead`: spans of w that are asked for at once, XAhead of x, which comes from the cache;
// `Blocks`: of a multiprocessor. The first weights are on their way before x is there.
template <class Out, int Eights, int Ahead, int XAhead, int Blocks>
__global__ void __launch_bounds__(warps * 32, Blocks) multiply_fp8_kernel(const fp8_args p) {
  constexpr int columns = Eights * eight;
  DINFER_SHARED(float, parts);  // [warps][tile][columns]
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int g = lane / 4, t = lane % 4;
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * tile + g;
  sources<Eights> from;
  from.low = reinterpret_cast<const uint4*>(p.w + row * p.ldw);
  from.high = reinterpret_cast<const uint4*>(p.w + (row + tile / 2) * p.ldw);
  from.t = t;
  from.k_words = p.k_words;
#pragma unroll
  for (int e = 0; e < Eights; ++e) {
    const std::int32_t r = (static_cast<std::int32_t>(blockIdx.y) * Eights + e) * eight + g;
    from.x[e] = r < p.rows ? reinterpret_cast<const uint4*>(p.x + r * p.ldx) : nullptr;
  }

  w_part w[Ahead];
  x_part<Eights> x[XAhead];
  float sum[Eights][4] = {};
#pragma unroll
  for (int i = 0; i < Ahead; ++i) {
    if (warp + i * warps < p.spans) w[i].load(from, warp + i * warps);
  }
  wait_for_previous();
#pragma unroll
  for (int i = 0; i < XAhead; ++i) {
    if (warp + i * warps < p.spans) x[i].load(from, warp + i * warps);
  }
  for (std::int32_t at = warp; at < p.spans;) {
#pragma unroll
    for (int i = 0; i < Ahead; ++i) {
      if (at < p.spans) {
        multiply(sum, w[i], x[i % XAhead]);
        const std::int32_t next = at + Ahead * warps, next_x = at + XAhead * warps;
        if (next < p.spans) w[i].load(from, next);
        if (next_x < p.spans) x[i % XAhead].load(from, next_x);
      }
      at += warps;
    }
  }

  // The thread's sums: rows g and g + 8 of the tile, for rows 2t and 2t + 1 of each eight of x.
#pragma unroll
  for (int e = 0; e < Eights; ++e) {
    float* part = parts + (warp * tile + g) * columns + e * eight + 2 * t;
    part[0] = sum[e][0];
    part[1] = sum[e][1];
    part[tile / 2 * columns] = sum[e][2];
    part[tile / 2 * columns + 1] = sum[e][3];
  }
  __syncthreads();
  finish<Out, Eights>(p, parts);
}

template <class Out, int Eights, int Ahead, int XAhead, int Blocks>
void launch_fp8(const product& p, cudaStream_t stream) {
  constexpr std::int64_t columns = Eights * eight;
  fp8_args a{};
  a.x = static_cast<const std::uint8_t*>(p.x);
  a.w = static_cast<const std::uint8_t*>(p.w);
  a.out = p.out;
  a.x_scales = p.x_scales;
  a.w_scales = p.w_scales;
  a.ldx = p.ldx;
  a.ldw = p.ldw;
  a.ldo = p.ldo;
  a.rows = static_cast<std::int32_t>(p.rows);
  a.k_words = static_cast<std::int32_t>(p.k / word_bytes);
  a.spans = static_cast<std::int32_t>((p.k + span - 1) / span);
  const dim3 grid(static_cast<unsigned>(p.n / tile),
                  static_cast<unsigned>((p.rows + columns - 1) / columns));
  launch_overlapped(multiply_fp8_kernel<Out, Eights, Ahead, XAhead, Blocks>, grid, dim3(warps * 32),
                    sizeof(float) * warps * tile * columns, stream, a);
}

}  // namespace

void multiply_fp8(const product& p, cudaStream_t stream) {
  if (p.rows <= 0 || p.n <= 0) return;
  with_type(p.out_type, [&](auto zero) {
    using Out = decltype(zero);
    if (p.rows <= 8) return launch_fp8<Out, 1, 2, 2, 3>(p, stream);
    if (p.rows <= 16) return launch_fp8<Out, 2, 2, 2, 2>(p, stream);
    launch_fp8<Out, 4, 2, 1, 2>(p, stream);
  });
}

}  // namespace dinfer::kernels::cuda

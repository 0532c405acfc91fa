// SPDX-License-Identifier: Apache-2.0
// Products with codes as they lie; see gemm_skinny.cu, whose plan this is with a third of the
// bytes. A block of threads has 16 to 64 rows of w and up to 32 of x; its warps take turns over k
// in spans of 64 columns, and add up their sums at the end. The more rows of x there are, the more
// of w it has: what all blocks read of x, out of the cache, would else take longer than w.
//
// Codes become 16-bit floats by their bits, exactly, and meet x in the tensor cores; what comes out
// for a group of columns is then multiplied by the group's scale, in f32. Its minimum times the sum
// of x over the group is added; the tensor cores make that sum too, as a product with ones. A code
// of 4 bits is put into the fraction of 16, which gives 16 + code without an instruction to take
// the 16 off again: it is taken off the minimum.
//
// A step of the tensor cores adds up 16 columns in any order, if it is the same for both operands:
// thread (g, t)'s four columns 4 t .. 4 t + 3 serve as 2t, 2t + 1, 2t + 8 and 2t + 9.
#include "kernels/cuda/gemm_packed.hpp"

#include "kernels/cuda/overlap.cuh"
#include "kernels/cuda/packed.cuh"
#include "kernels/cuda/ptx.cuh"

namespace dinfer::kernels::cuda {

namespace {

constexpr int warps = 8, eight = 8, steps = packed_span / packed_step, groups = 2;
constexpr int most_finished = 2;  // tiles at once, for which there is shared memory

struct packed_args {
  const void* x;
  const std::uint8_t* w;
  void* out;
  std::int64_t columns, ldo, n;
  std::int32_t rows, spans, tiles;
  bool float_out, swiglu;
};

// 16 as T, and where its four highest bits of fraction begin.
template <class T>
struct sixteen;
template <>
struct sixteen<bf16> {
  static constexpr std::uint32_t two = 0x41804180U, fraction = 0x00780078U, ones = 0x3F803F80U;
  static constexpr int first_bit = 3;
};
template <>
struct sixteen<f16> {
  static constexpr std::uint32_t two = 0x4C004C00U, fraction = 0x03C003C0U, ones = 0x3C003C00U;
  static constexpr int first_bit = 6;
};

// Elements 2 * pair and 2 * pair + 1 of a thread's four of a step: codes, of 4 bits 16 more.
template <class T, packed_kind Kind>
__device__ __forceinline__ std::uint32_t two_codes(std::uint32_t word, int step, int pair) {
  if constexpr (Kind == packed_kind::four) {
    const int by = packed_code_bit(Kind, step, 2 * pair) - sixteen<T>::first_bit;
    const std::uint32_t there = by < 0 ? word << -by : word >> by;
    return (there & sixteen<T>::fraction) | sixteen<T>::two;
  } else {
    // A byte in the fraction of 2^23.
    constexpr std::uint32_t large = 0x4B000000U;
    constexpr float offset = 0x1p23F + 128;
    const std::uint32_t select = 0x7440U + 2 * static_cast<std::uint32_t>(pair);
    const float first = __uint_as_float(__byte_perm(word, large, select)) - offset;
    const float second = __uint_as_float(__byte_perm(word, large, select + 1)) - offset;
    if constexpr (std::is_same_v<T, bf16>) {  // their upper halves have all of it
      return __byte_perm(__float_as_uint(first), __float_as_uint(second), 0x7632U);
    } else {
      return pack_two<T>(first, second);
    }
  }
}

// Rows of x in eights: a thread's four columns of each step of a span, of row g of each eight.
template <int Eights>
struct x_part {
  uint2 x[Eights][steps];
};
template <int Eights>
struct x_source {
  const uint2* rows[Eights];  // null where there is no such row
  std::int32_t k_steps;

  __device__ __forceinline__ void load(x_part<Eights>& part, std::int32_t span) const {
#pragma unroll
    for (int step = 0; step < steps; ++step) {
      const std::int32_t at = span * steps + step;
#pragma unroll
      for (int e = 0; e < Eights; ++e) {
        const bool inside = at < k_steps && rows[e] != nullptr;
        part.x[e][step] = inside ? rows[e][at * (packed_step / 4)] : make_uint2(0, 0);
      }
    }
  }
};

// sum += scale * part of rows g (the first two) and g + 8.
__device__ __forceinline__ void add_scaled(float (&sum)[4], const float (&part)[4], float low,
                                           float high) {
  sum[0] = __fmaf_rn(low, part[0], sum[0]);
  sum[1] = __fmaf_rn(low, part[1], sum[1]);
  sum[2] = __fmaf_rn(high, part[2], sum[2]);
  sum[3] = __fmaf_rn(high, part[3], sum[3]);
}

// One group of 32 columns, steps 2 * group and 2 * group + 1, for 16 rows of w.
template <class T, packed_kind Kind, int Eights>
__device__ __forceinline__ void multiply_group(float (&sum)[Eights][4], const packed_part<Kind>& w,
                                               const x_part<Eights>& x,
                                               const float (&x_sum)[Eights][4], int group) {
  std::uint32_t a[2][4];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int step = 2 * group + i;
    a[i][0] = two_codes<T, Kind>(w.word(0, step), step, 0);
    a[i][1] = two_codes<T, Kind>(w.word(1, step), step, 0);
    a[i][2] = two_codes<T, Kind>(w.word(0, step), step, 1);
    a[i][3] = two_codes<T, Kind>(w.word(1, step), step, 1);
  }
  const int first = 2 * group;
  float scale[2] = {w.scale(0, first), w.scale(1, first)}, minimum[2] = {};
  if constexpr (has_minimum(Kind)) {
    const float offset = Kind == packed_kind::four ? -16.0F : 0.0F;
    minimum[0] = __fmaf_rn(offset, scale[0], w.minimum(0, first));
    minimum[1] = __fmaf_rn(offset, scale[1], w.minimum(1, first));
  }
#pragma unroll
  for (int e = 0; e < Eights; ++e) {
    const std::uint32_t b[2][2] = {{x.x[e][first].x, x.x[e][first].y},
                                   {x.x[e][first + 1].x, x.x[e][first + 1].y}};
    float part[4] = {};
    mma_16x8x16<T>(part, a[0], b[0]);
    if constexpr (Kind == packed_kind::eight_halves) {
      add_scaled(sum[e], part, scale[0], scale[1]);
      float second[4] = {};
      mma_16x8x16<T>(second, a[1], b[1]);
      add_scaled(sum[e], second, w.scale(0, first + 1), w.scale(1, first + 1));
    } else {
      mma_16x8x16<T>(part, a[1], b[1]);
      add_scaled(sum[e], part, scale[0], scale[1]);
    }
    if constexpr (has_minimum(Kind)) add_scaled(sum[e], x_sum[e], minimum[0], minimum[1]);
  }
}

template <class T, packed_kind Kind, int Eights, int Tiles>
__device__ __forceinline__ void multiply_span(float (&sum)[Tiles][Eights][4],
                                              const packed_part<Kind> (&w)[Tiles],
                                              const x_part<Eights>& x) {
#pragma unroll
  for (int group = 0; group < groups; ++group) {
    float x_sum[Eights][4] = {};
    if constexpr (has_minimum(Kind)) {
      constexpr std::uint32_t one = sixteen<T>::ones;
      const std::uint32_t ones[4] = {one, one, one, one};
#pragma unroll
      for (int i = 0; i < 2; ++i) {
#pragma unroll
        for (int e = 0; e < Eights; ++e) {
          const uint2& four = x.x[e][2 * group + i];
          const std::uint32_t b[2] = {four.x, four.y};
          mma_16x8x16<T>(x_sum[e], ones, b);
        }
      }
    }
#pragma unroll
    for (int tile = 0; tile < Tiles; ++tile)
      multiply_group<T, Kind, Eights>(sum[tile], w[tile], x, x_sum, group);
  }
}

// A thread's sums of a tile: rows g and g + 8, for rows 2t and 2t + 1 of each eight of x.
template <int Eights>
__device__ __forceinline__ void store_sums(float* to, const float (&sum)[Eights][4]) {
  constexpr int lower = packed_tile / 2 * Eights * eight;
#pragma unroll
  for (int e = 0; e < Eights; ++e) {
    to[e * eight] = sum[e][0];
    to[e * eight + 1] = sum[e][1];
    to[lower + e * eight] = sum[e][2];
    to[lower + e * eight + 1] = sum[e][3];
  }
}

// Outputs of some tiles, from the block's warps' sums [warps][height][columns], added in order.
template <class T, int Eights, int Tiles>
__device__ __forceinline__ void finish(const packed_args& p, const float* parts,
                                       std::int64_t first_tile) {
  constexpr int columns = Eights * eight, height = Tiles * packed_tile;
  const auto total = [&](int row, int column) {
    float sum = 0;
    for (int i = 0; i < warps; ++i) sum += parts[(i * height + row) * columns + column];
    return sum;
  };
  const int tile_outputs = p.swiglu ? packed_tile / 2 : packed_tile;
  const int outputs = Tiles * tile_outputs;
  const std::int64_t n = p.swiglu ? p.n / 2 : p.n;
  const std::int32_t first = static_cast<std::int32_t>(blockIdx.y) * columns;
  for (int i = static_cast<int>(threadIdx.x); i < outputs * columns; i += warps * 32) {
    const int output = i % outputs, column = i / outputs;
    const std::int64_t at = first_tile * tile_outputs + output;
    if (first + column >= p.rows) break;
    if (at >= n) continue;
    float sum;
    if (p.swiglu) {
      const int row = output / eight * packed_tile + output % eight;
      const float gate = total(row, column);
      sum = gate / (1.0F + expf(-gate)) * total(row + eight, column);
    } else {
      sum = total(output, column);
    }
    const std::int64_t to = (first + column) * p.ldo + at;
    if (p.float_out) {
      static_cast<float*>(p.out)[to] = sum;
    } else {
      static_cast<T*>(p.out)[to] = from_float<T>(sum);
    }
  }
}

// `Ahead`: spans of w that are asked for at once; `XAhead`: of x, which comes from the cache;
// `Blocks`: of a multiprocessor. The first weights are on their way before x is there.
template <class T, packed_kind Kind, int Eights, int Tiles, int Ahead, int XAhead, int Blocks>
__global__ void __launch_bounds__(warps * 32, Blocks) multiply_packed_kernel(const packed_args p) {
  static_assert(Ahead % XAhead == 0);
  constexpr int columns = Eights * eight;
  constexpr int at_once = Tiles < most_finished ? Tiles : most_finished;
  DINFER_SHARED(float, parts);  // [warps][at_once * 16][columns]
  const int warp = static_cast<int>(threadIdx.x) / 32, thread = static_cast<int>(threadIdx.x) % 32;
  const int g = thread / 4, t = thread % 4;
  const std::uint8_t* tiles[Tiles];
#pragma unroll
  for (int i = 0; i < Tiles; ++i) {  // the last block of threads may have one tile twice
    const std::int64_t tile = min(static_cast<std::int32_t>(blockIdx.x) * Tiles + i, p.tiles - 1);
    tiles[i] = p.w + tile * p.spans * packed_block_bytes(Kind);
  }
  x_source<Eights> source;
  source.k_steps = static_cast<std::int32_t>(p.columns / packed_step);
#pragma unroll
  for (int e = 0; e < Eights; ++e) {
    const std::int32_t row = static_cast<std::int32_t>(blockIdx.y) * columns + e * eight + g;
    source.rows[e] =
        row < p.rows
            ? reinterpret_cast<const uint2*>(static_cast<const T*>(p.x) + row * p.columns) + t
            : nullptr;
  }
  packed_part<Kind> w[Ahead][Tiles];
  const auto load = [&](packed_part<Kind>(&part)[Tiles], std::int32_t span) {
#pragma unroll
    for (int i = 0; i < Tiles; ++i)
      part[i].load(tiles[i] + static_cast<std::int64_t>(span) * packed_block_bytes(Kind), thread);
  };
#pragma unroll
  for (int i = 0; i < Ahead; ++i) {
    if (warp + i * warps < p.spans) load(w[i], warp + i * warps);
  }
  wait_for_previous();
  x_part<Eights> x[XAhead];
#pragma unroll
  for (int i = 0; i < XAhead; ++i) {
    if (warp + i * warps < p.spans) source.load(x[i], warp + i * warps);
  }
  float sum[Tiles][Eights][4] = {};
  for (std::int32_t at = warp; at < p.spans;) {
#pragma unroll
    for (int i = 0; i < Ahead; ++i) {
      if (at < p.spans) {
        multiply_span<T, Kind, Eights, Tiles>(sum, w[i], x[i % XAhead]);
        const std::int32_t next = at + Ahead * warps, next_x = at + XAhead * warps;
        if (next < p.spans) load(w[i], next);
        if (next_x < p.spans) source.load(x[i % XAhead], next_x);
      }
      at += warps;
    }
  }
#pragma unroll
  for (int first = 0; first < Tiles; first += at_once) {
    if (first > 0) __syncthreads();
#pragma unroll
    for (int tile = 0; tile < at_once; ++tile)
      store_sums(parts + ((warp * at_once + tile) * packed_tile + g) * columns + 2 * t,
                 sum[first + tile]);
    __syncthreads();
    finish<T, Eights, at_once>(p, parts, static_cast<std::int64_t>(blockIdx.x) * Tiles + first);
  }
}

template <class T, packed_kind Kind, int Eights, int Tiles, int Ahead, int XAhead, int Blocks>
void launch_packed(const packed_args& a, cudaStream_t stream) {
  constexpr int columns = Eights * eight;
  const dim3 grid(static_cast<unsigned>((a.tiles + Tiles - 1) / Tiles),
                  static_cast<unsigned>((a.rows + columns - 1) / columns));
  launch_overlapped(multiply_packed_kernel<T, Kind, Eights, Tiles, Ahead, XAhead, Blocks>, grid,
                    dim3(warps * 32),
                    sizeof(float) * warps * (Tiles < most_finished ? Tiles : most_finished) *
                        packed_tile * columns,
                    stream, a);
}

constexpr std::int32_t many_tiles = 1024;

template <class T, packed_kind Kind>
void launch_rows(const packed_args& a, cudaStream_t stream) {
  constexpr int ahead = Kind == packed_kind::four ? 4 : 2;
  if (a.rows <= 8) return launch_packed < T, Kind, 1, 1, ahead, ahead == 4 ? 1 : 2, 3 > (a, stream);
  if (a.rows <= 16) return launch_packed<T, Kind, 2, 1, ahead, 2, 2>(a, stream);
  // Blocks for all multiprocessors of a large GPU, and some more.
  if (a.tiles < many_tiles)
    return launch_packed < T, Kind, 4, 2, ahead, has_minimum(Kind) ? 1 : 2, 1 > (a, stream);
  launch_packed<T, Kind, 4, 4, ahead / 2, 1, 1>(a, stream);
}

}  // namespace

void multiply_packed(const packed_product& p, cudaStream_t stream) {
  if (p.rows <= 0 || p.w.rows <= 0) return;
  packed_args a{};
  a.x = p.x;
  a.w = reinterpret_cast<const std::uint8_t*>(p.w.data);
  a.out = p.out;
  a.columns = p.w.columns;
  a.ldo = p.ldo;
  a.n = p.w.rows;
  a.rows = static_cast<std::int32_t>(p.rows);
  a.spans = static_cast<std::int32_t>(packed_spans(p.w.columns));
  a.tiles = static_cast<std::int32_t>((p.w.rows + packed_tile - 1) / packed_tile);
  a.float_out = p.out_type == dtype::f32;
  a.swiglu = p.swiglu;
  with_kind(p.w.kind, [&](auto kind) {
    constexpr packed_kind of = decltype(kind)::value;
    p.type == dtype::bf16 ? launch_rows<bf16, of>(a, stream) : launch_rows<f16, of>(a, stream);
  });
}

}  // namespace dinfer::kernels::cuda

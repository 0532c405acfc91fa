// SPDX-License-Identifier: Apache-2.0
// How gemm_swapped.cu lays out a block: one warp that fetches, then one or two warpgroups that
// multiply 64 or 128 rows of w each; a ring of stages in shared memory; and which part of the work
// is whose. Included by .cu files alone.
#pragma once

#include "kernels/cuda/wgmma.cuh"

#include <algorithm>
#include <cstdint>

namespace dinfer::kernels::cuda {

struct swapped_args {
  void* out;
  const float* x_scales;  // null for 16-bit floats
  const float* w_scales;
  float4* parts;
  std::uint32_t* counters;
  std::int64_t ldo;
  std::int32_t rows, outputs;  // of x, columns of out
  std::int32_t tiles, depth;   // units of a tile: stretches of 128 bytes along k
  dtype out_type;
  bool swiglu;
};

inline constexpr int group_threads = 128, unit_bytes = 128, strip = 32, strip_stride = 64 + 4;
inline constexpr int most_stages = 16;
// Less than a block may have: kernels of little shared memory run beside it.
inline constexpr int ring_and_all_bytes = 220 * 1024;

// T: of the operands; Columns: rows of x at most; Groups: warpgroups; Blocks: of 64 rows each has.
template <class T, int Columns, int Groups, int Blocks>
struct swapped_shape {
  using element = T;
  static constexpr bool f8_sums = sizeof(T) == 1;
  static constexpr int columns = Columns, groups = Groups, blocks = Blocks;
  static constexpr int height = 64 * Groups * Blocks;
  static constexpr int threads = Groups * group_threads + 32;
  static constexpr int elements = unit_bytes / static_cast<int>(sizeof(T));  // of a unit
  static constexpr int x_at = height * unit_bytes;                           // in a stage, after w
  static constexpr int stage_bytes = x_at + Columns * unit_bytes;
  static constexpr int strip_floats = strip * strip_stride;  // of a group
  static constexpr int after_ring =
      Groups * strip_floats * 4 + 2 * most_stages * 8 + Groups * static_cast<int>(sizeof(int));
  static constexpr int stages =
      std::min(most_stages, (ring_and_all_bytes - after_ring) / stage_bytes);
  // Units that are asked for together: neighbours along k, so that memory reads longer stretches.
  static constexpr int burst = stages >= 8 ? 4 : stages >= 5 ? 2 : 1;
  static constexpr int strips_at = stages * stage_bytes;
  static constexpr int barriers_at = strips_at + Groups * strip_floats * 4;
  static constexpr int flags_at = barriers_at + 2 * most_stages * 8;
  static constexpr int shared_bytes = strips_at + after_ring;
  // Four sums of a thread, as they go through memory: of a group's tile, of a whole one.
  static constexpr int group_fours = Blocks * Columns / 8 * group_threads;
  static constexpr int tile_fours = Groups * group_fours;
  static_assert(stages >= 3 && shared_bytes <= 227 * 1024);
};

// Of a warpgroup: sums[b] is the product of its rows 64 b .. 64 b + 63 of the tile, laid out as
// multiply_shared leaves it.
template <class Shape>
struct tile_sums {
  float v[Shape::blocks][Shape::columns / 2];
};

// The units of all tiles, one tile after another, in equal shares.
struct unit_shares {
  std::int64_t units, blocks;

  __device__ __forceinline__ std::int32_t begin(std::int32_t block) const {
    return static_cast<std::int32_t>(block * units / blocks);
  }
  __device__ __forceinline__ std::int32_t owner(std::int32_t unit) const {
    return static_cast<std::int32_t>(((unit + std::int64_t{1}) * blocks - 1) / units);
  }
};

// The units of one block, in the order in which it takes them: first those of tiles that it shares,
// whose sums then go through memory while it is busy with tiles of its own.
struct block_units {
  std::int32_t begin, end;   // all
  std::int32_t first, last;  // tiles of its own lie between

  __device__ __forceinline__ block_units(const unit_shares& shares, std::int32_t block,
                                         std::int32_t depth)
      : begin(shares.begin(block)),
        end(shares.begin(block + 1)),
        first(min(end, (begin + depth - 1) / depth * depth)),
        last(max(first, end / depth * depth)) {}

  __device__ __forceinline__ std::int32_t count() const { return end - begin; }
  // The unit that comes after i others.
  __device__ __forceinline__ std::int32_t at(std::int32_t i) const {
    if (i < first - begin) return begin + i;
    i -= first - begin;
    return i < end - last ? last + i : first + i - (end - last);
  }
  // How many of a tile are taken together, from `unit`.
  __device__ __forceinline__ std::int32_t together(std::int32_t unit, std::int32_t depth) const {
    if (unit < first) return first - unit;
    return unit < last ? depth : end - unit;
  }
};

struct ring_barriers {
  std::uint64_t full[most_stages], empty[most_stages];
};

// Place in the ring; the parity is that of its phase.
template <int Stages>
struct ring_place {
  int stage = 0;
  std::uint32_t parity = 0;

  __device__ __forceinline__ void step() {
    if (++stage < Stages) return;
    stage = 0;
    parity ^= 1U;
  }
};

// Eight outputs one after another.
template <class Out>
__device__ __forceinline__ void store_eight(void* out, std::int64_t at, const float (&v)[8]) {
#pragma unroll
  for (int first = 0; first < 8; first += pack<Out>::count) {
    pack<Out> some;
#pragma unroll
    for (int e = 0; e < pack<Out>::count; ++e) some.v[e] = from_float<Out>(v[first + e]);
    store_pack(static_cast<Out*>(out) + at + first, some);
  }
}
__device__ __forceinline__ void store_eight(const swapped_args& a, std::int64_t at,
                                            const float (&v)[8]) {
  if (a.out_type == dtype::f32) return store_eight<float>(a.out, at, v);
  if (a.out_type == dtype::bf16) return store_eight<bf16>(a.out, at, v);
  store_eight<f16>(a.out, at, v);
}

}  // namespace dinfer::kernels::cuda

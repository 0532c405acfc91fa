// SPDX-License-Identifier: Apache-2.0
// What a warpgroup of gemm_swapped.cu does with a tile: adds up units from the ring, shares a tile
// that is cut with other blocks, and writes out^T the right way round. Included by .cu files alone.
#pragma once

#include "kernels/cuda/swapped.cuh"

#include <cstdint>

namespace dinfer::kernels::cuda {

// sums = w x^T, or += where `add`, of the unit in a stage; both are done with it afterwards.
template <class Shape>
__device__ __forceinline__ void multiply_unit(float (&sums)[Shape::blocks][Shape::columns / 2],
                                              std::uint64_t w, std::uint64_t x, bool add) {
  constexpr int steps = unit_bytes / 32;
  multiply_fence();
#pragma unroll
  for (int k = 0; k < steps; ++k) {
#pragma unroll
    for (int b = 0; b < Shape::blocks; ++b) {
      multiply_shared<typename Shape::element>(sums[b], matrix_at(w, b * 64 * unit_bytes + k * 32),
                                               matrix_at(x, k * 32), add || k > 0);
    }
  }
  multiply_commit();
  multiply_wait<0>();
#pragma unroll
  for (int b = 0; b < Shape::blocks; ++b) pin(sums[b]);
}

// Adds up `count` units from the ring.
template <class Shape>
__device__ __forceinline__ void add_units(tile_sums<Shape>& sums, std::int32_t count,
                                          std::uint64_t w, std::uint64_t x, ring_barriers& barriers,
                                          ring_place<Shape::stages>& place) {
  sums = {};
  for (std::int32_t i = 0; i < count; ++i) {
    barrier_wait(barriers.full + place.stage, place.parity);
    const int offset = place.stage * Shape::stage_bytes;
    if constexpr (Shape::f8_sums) {
      tile_sums<Shape> some{};
      multiply_unit<Shape>(some.v, matrix_at(w, offset), matrix_at(x, offset), false);
#pragma unroll
      for (int b = 0; b < Shape::blocks; ++b) {
#pragma unroll
        for (int e = 0; e < Shape::columns / 2; ++e) sums.v[b][e] += some.v[b][e];
      }
    } else {
      multiply_unit<Shape>(sums.v, matrix_at(w, offset), matrix_at(x, offset), i > 0);
    }
    if (threadIdx.x % 32 == 0) barrier_arrive(barriers.empty + place.stage);
    place.step();
  }
}

// Where a thread's fours of sums lie in memory, which holds fours one thread after another.
template <class Shape>
struct tile_parts {
  static constexpr int fours = Shape::blocks * Shape::columns / 8;
  // Of a part, and parts, that are asked for at a time, as registers allow.
  static constexpr int some = fours <= 16 ? fours : 8, ahead = some < 16 ? 16 / some : 1;
  std::int32_t first, last;  // blocks that share the tile
  bool first_begins;         // the first one's share begins with this tile
  float4* thread_parts;

  __device__ __forceinline__ tile_parts(const swapped_args& a, const unit_shares& shares,
                                        std::int32_t tile, int group, int thread)
      : first(shares.owner(tile * a.depth)),
        last(shares.owner((tile + 1) * a.depth - 1)),
        first_begins(shares.begin(first) == tile * a.depth),
        thread_parts(a.parts + group * Shape::group_fours + thread) {}

  // A block has two parts at most: of the tile that it begins with, and of the one it ends with.
  __device__ __forceinline__ float4* of(std::int32_t block) const {
    const int which = block > first || first_begins ? 0 : 1;
    return thread_parts + (std::int64_t{2} * block + which) * Shape::tile_fours;
  }
  __device__ __forceinline__ void put(const tile_sums<Shape>& sums, std::int32_t block) const {
    const float* v = &sums.v[0][0];
#pragma unroll
    for (int i = 0; i < fours; ++i) {
      __stcg(of(block) + i * group_threads,
             make_float4(v[4 * i], v[4 * i + 1], v[4 * i + 2], v[4 * i + 3]));
    }
  }
  // All parts, in the order of k.
  __device__ __forceinline__ void add_up(tile_sums<Shape>& sums) const {
    sums = {};
    float* const sum = &sums.v[0][0];
#pragma unroll
    for (int begin = 0; begin < fours; begin += some) {
#pragma unroll ahead
      for (std::int32_t block = first; block <= last; ++block) {
        float4 v[some];
#pragma unroll
        for (int i = 0; i < some; ++i) v[i] = __ldcg(of(block) + (begin + i) * group_threads);
#pragma unroll
        for (int i = 0; i < some; ++i) {
          float* const four = sum + 4 * (begin + i);
          four[0] += v[i].x;
          four[1] += v[i].y;
          four[2] += v[i].z;
          four[3] += v[i].w;
        }
      }
    }
  }
};

// A part of a tile to memory. True for all threads of the group whose part was the last to come:
// then the sums are those of the whole tile.
template <class Shape>
__device__ __forceinline__ bool share_tile(const swapped_args& a, const tile_parts<Shape>& parts,
                                           std::int32_t tile, int group, int thread,
                                           tile_sums<Shape>& sums, volatile int* flag) {
  parts.put(sums, static_cast<std::int32_t>(blockIdx.x));
  group_sync(1 + group, group_threads);  // what the group wrote is covered by one thread's fence
  if (thread == 0) {
    __threadfence();
    std::uint32_t* const counter = a.counters + tile * Shape::groups + group;
    const auto others = static_cast<std::uint32_t>(parts.last - parts.first);
    const bool all = atomicAdd(counter, 1U) == others;
    if (all) *counter = 0;  // for the next launch
    *flag = all ? 1 : 0;
  }
  group_sync(1 + group, group_threads);
  if (*flag == 0) return false;
  __threadfence();
  parts.add_up(sums);
  return true;
}

// A thread's four sums of columns 8 j .. 8 j + 7 to their places in a strip, which has a row for
// each row of x.
__device__ __forceinline__ void turn(const float* v, bool swiglu, int j, int thread, float* to) {
  const int g = thread % 32 / 4, row = j % (strip / 8) * 8 + thread % 4 * 2, warp = thread / 32;
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    float* const at = to + (row + e) * strip_stride;
    if (swiglu) {
      const float gate = v[e];
      at[warp * 8 + g] = gate / (1.0F + expf(-gate)) * v[2 + e];
    } else {
      at[warp * 16 + g] = v[e];
      at[warp * 16 + g + 8] = v[2 + e];
    }
  }
}

// A strip to out: rows first_row .. first_row + 31, columns from `column`.
__device__ __forceinline__ void store_strip(const swapped_args& a, int first_row,
                                            std::int32_t column, int thread, const float* from) {
  const int chunks = a.swiglu ? 4 : 8;  // of 8 columns
  for (int item = thread; item < strip * chunks; item += group_threads) {
    const int row = item / chunks, chunk = item % chunks;
    const std::int32_t first = column + chunk * 8;
    if (first_row + row >= a.rows || first >= a.outputs) continue;
    float v[8];
    const float4* words = reinterpret_cast<const float4*>(from + row * strip_stride + chunk * 8);
    const float4 low = words[0], high = words[1];
    v[0] = low.x, v[1] = low.y, v[2] = low.z, v[3] = low.w;
    v[4] = high.x, v[5] = high.y, v[6] = high.z, v[7] = high.w;
    if (a.w_scales != nullptr) {
      const float scale = a.x_scales[first_row + row];
#pragma unroll
      for (int e = 0; e < 8; ++e) v[e] *= scale * __ldg(a.w_scales + first + e);
    }
    store_eight(a, (first_row + row) * a.ldo + first, v);
  }
}

template <class Shape>
__device__ __forceinline__ void store_tile(const swapped_args& a, std::int32_t tile, int group,
                                           int thread, const tile_sums<Shape>& sums, float* space) {
  const int block_columns = a.swiglu ? 32 : 64;
#pragma unroll
  for (int b = 0; b < Shape::blocks; ++b) {
    const std::int32_t column =
        (tile * (Shape::height / 64) + group * Shape::blocks + b) * block_columns;
#pragma unroll
    for (int s = 0; s < Shape::columns / strip; ++s) {
      if (s * strip >= a.rows) continue;
#pragma unroll
      for (int j = s * (strip / 8); j < (s + 1) * (strip / 8); ++j) {
        turn(sums.v[b] + 4 * j, a.swiglu, j, thread, space);
      }
      group_sync(1 + group, group_threads);
      store_strip(a, s * strip, column, thread, space);
      group_sync(1 + group, group_threads);
    }
  }
}

}  // namespace dinfer::kernels::cuda

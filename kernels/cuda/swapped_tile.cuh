// SPDX-License-Identifier: Apache-2.0
// What a warpgroup of gemm_swapped.cu does with a tile: adds up units from the ring, shares a tile
// that is cut with other blocks, and writes out^T the right way round. Included by .cu files alone.
#pragma once

#include "kernels/cuda/swapped.cuh"

#include <cstdint>

namespace dinfer::kernels::cuda {

// Of a warpgroup: sums[b] is the product of its rows 64 b .. 64 b + 63 of the tile, laid out as
// multiply_shared leaves it.
template <class Shape>
struct tile_sums {
  float v[Shape::blocks][Shape::columns / 2];
};

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

// fn(b, j, four) for the thread's fours of sums: block b, columns 8 j .. 8 j + 7. Columns that x
// has no rows for are left out.
template <class Shape, class Fn>
__device__ __forceinline__ void for_fours(const swapped_args& a, Fn&& fn) {
#pragma unroll
  for (int b = 0; b < Shape::blocks; ++b) {
#pragma unroll
    for (int j = 0; j < Shape::columns / 8; ++j) {
      if (8 * j < a.rows) fn(b, j, (b * (Shape::columns / 8) + j) * group_threads);
    }
  }
}

// A part of a tile to memory. True for all threads of the group whose part was the last to come:
// then the sums are those of the whole tile.
template <class Shape>
__device__ __forceinline__ bool share_tile(const swapped_args& a, const unit_shares& shares,
                                           std::int32_t tile, int group, int thread,
                                           tile_sums<Shape>& sums, volatile int* flag) {
  const std::int32_t first = shares.owner(tile * a.depth);
  const std::int32_t last = shares.owner((tile + 1) * a.depth - 1);
  // A block has two parts at most: of the tile that it begins with, and of the one it ends with.
  const auto part_of = [&](std::int32_t block) {
    const int which = shares.begin(block) / a.depth == tile ? 0 : 1;
    return a.parts + (std::int64_t{2} * block + which) * Shape::tile_fours +
           group * Shape::group_fours + thread;
  };
  float4* const own = part_of(static_cast<std::int32_t>(blockIdx.x));
  for_fours<Shape>(a, [&](int b, int j, int four) {
    const float* v = sums.v[b] + 4 * j;
    __stcg(own + four, make_float4(v[0], v[1], v[2], v[3]));
  });
  group_sync(1 + group, group_threads);  // what the group wrote is covered by one thread's fence
  if (thread == 0) {
    __threadfence();
    std::uint32_t* const counter = a.counters + tile * Shape::groups + group;
    const bool all = atomicAdd(counter, 1U) == static_cast<std::uint32_t>(last - first);
    if (all) *counter = 0;  // for the next launch
    *flag = all ? 1 : 0;
  }
  group_sync(1 + group, group_threads);
  if (*flag == 0) return false;
  __threadfence();
  sums = {};
#pragma unroll Shape::merge_ahead
  for (std::int32_t block = first; block <= last; ++block) {
    const float4* const part = part_of(block);
    for_fours<Shape>(a, [&](int b, int j, int four) {
      const float4 v = __ldcg(part + four);
      float* const sum = sums.v[b] + 4 * j;
      sum[0] += v.x;
      sum[1] += v.y;
      sum[2] += v.z;
      sum[3] += v.w;
    });
  }
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

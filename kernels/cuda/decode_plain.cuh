// SPDX-License-Identifier: Apache-2.0
// One tile of decode attention in plain f32 arithmetic, for f32 and for head sizes that
// decode_mma.cuh does not have: each warp takes a quarter of the tile's keys, 32, or 64 of 8-bit
// floats, 8 at a time. Included by .cu files alone.
#pragma once

#include "kernels/cuda/decode_tile.cuh"
#include "kernels/cuda/f8_words.cuh"

namespace dinfer::kernels::cuda {

template <class T, class Stored>
struct decode_plain {
  using element = T;
  using stored = Stored;
  using rows_type = any_rows;
  static constexpr int stored_piece = 16 / sizeof(Stored);  // elements
  static constexpr int tile_shift = sizeof(Stored) == 1 ? 6 : 5, tile_keys = 1 << tile_shift;
  static constexpr int warp_keys = tile_keys / decode_warps;
  static constexpr int query_rows = 8, most_rows = 8;
  static constexpr int largest_head_dim = 256;
  static constexpr int most_stages = 2;
  static constexpr int blocks_per_multiprocessor = 1;
  static constexpr int wide = largest_head_dim / 4 / 32;  // fours of columns of a lane

  float peak[most_rows], mass[most_rows];  // mass: of the lane's key in each tile
  float4 sum[most_rows][wide];             // columns 4 (lane + 32 c) + {0, 1, 2, 3}

  static __host__ __device__ rows_type rows_of_queries(const rows_type& rows) {
    return rows_type(rows.count * static_cast<int>(sizeof(T) / sizeof(Stored)));
  }

  __device__ void clear() {
#pragma unroll
    for (int r = 0; r < most_rows; ++r) {
      peak[r] = minus_infinity;
      mass[r] = 0;
      for (auto& s : sum[r]) s = make_float4(0, 0, 0, 0);
    }
  }

  template <class E>
  static __device__ __forceinline__ float4 load_four(const rows_type& rows,
                                                     const unsigned char* tile, int row, int four) {
    constexpr int piece = 16 / sizeof(E);
    const int at = four * 4;
    const E* from =
        reinterpret_cast<const E*>(tile) + rows.at(row, at / piece) * piece + at % piece;
    struct alignas(4 * sizeof(E)) four_of {
      E v[4];
    };
    const four_of f = *reinterpret_cast<const four_of*>(from);
    return make_float4(to_float(f.v[0]), to_float(f.v[1]), to_float(f.v[2]), to_float(f.v[3]));
  }

  __device__ void add_tile(const rows_type& rows, const unsigned char* keys,
                           const unsigned char* values, const unsigned char* queries,
                           const tile_note& note, float scale_log2, int heads) {
    const int first = static_cast<int>(threadIdx.x) / 32 * warp_keys;
#pragma unroll 1
    for (int row = first; row < first + warp_keys; row += 8)
      add_eight(rows, row, keys, values, queries, note, scale_log2, heads);
  }

  // Four lanes share a key: lane 4 k + part sums every fourth four of its columns.
  __device__ __forceinline__ void add_eight(const rows_type& rows, int first_row,
                                            const unsigned char* keys, const unsigned char* values,
                                            const unsigned char* queries, const tile_note& note,
                                            float scale_log2, int heads) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int fours = rows.count * stored_piece / 4, row = first_row + lane / 4;
    const rows_type own_rows = rows_of_queries(rows);
    float score[most_rows] = {};
    for (int f = lane % 4; f < fours; f += 4) {
      const float4 k = load_four<Stored>(rows, keys, row, f);
#pragma unroll
      for (int r = 0; r < most_rows; ++r) {
        if (r >= heads) break;
        const float4 q = load_four<T>(own_rows, queries, r, f);
        score[r] = fmaf(q.x, k.x, fmaf(q.y, k.y, fmaf(q.z, k.z, fmaf(q.w, k.w, score[r]))));
      }
    }
    const int key = note.first_tile_key + row;
    const bool seen = key >= note.first_key && key < note.context;
#pragma unroll
    for (int r = 0; r < most_rows; ++r) {
      score[r] += __shfl_xor_sync(0xFFFFFFFFU, score[r], 1);
      score[r] += __shfl_xor_sync(0xFFFFFFFFU, score[r], 2);
      score[r] = seen ? score[r] * scale_log2 : minus_infinity;
      float top = score[r];
      for (int lanes = 4; lanes < 32; lanes *= 2) {
        top = fmaxf(top, __shfl_xor_sync(0xFFFFFFFFU, top, lanes));
      }
      top = fmaxf(top, peak[r]);
      const float from = top == minus_infinity ? 0.0F : top;  // inf - inf is no number
      const float keep = exp2_fast(peak[r] - from);
      peak[r] = top;
      score[r] = exp2_fast(score[r] - from);
      mass[r] = fmaf(mass[r], keep, score[r]);
      for (auto& s : sum[r]) s = make_float4(s.x * keep, s.y * keep, s.z * keep, s.w * keep);
    }
    add_values(rows, first_row, values, score, heads);
  }

  __device__ void add_values(const rows_type& rows, int first_row, const unsigned char* values,
                             const float (&score)[most_rows], int heads) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int fours = rows.count * stored_piece / 4;
    for (int k = 0; k < 8; ++k) {
      float4 v[wide];
#pragma unroll
      for (int c = 0; c < wide; ++c) {
        const int four = lane + 32 * c;
        v[c] = four < fours ? load_four<Stored>(rows, values, first_row + k, four)
                            : make_float4(0, 0, 0, 0);
      }
#pragma unroll
      for (int r = 0; r < most_rows; ++r) {
        if (r >= heads) break;
        const float p = __shfl_sync(0xFFFFFFFFU, score[r], 4 * k);
#pragma unroll
        for (int c = 0; c < wide; ++c) {
          float4& s = sum[r][c];
          s = make_float4(fmaf(p, v[c].x, s.x), fmaf(p, v[c].y, s.y), fmaf(p, v[c].z, s.z),
                          fmaf(p, v[c].w, s.w));
        }
      }
    }
  }

  // Writes the warp's part: sums [heads][head_dim] at `sums`, and its peaks.
  __device__ void put(float* sums, float2* peaks, int head_dim, int heads) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int r = 0; r < most_rows; ++r) {
      for (int lanes = 4; lanes < 32; lanes *= 2) {
        mass[r] += __shfl_xor_sync(0xFFFFFFFFU, mass[r], lanes);
      }
      if (r >= heads) continue;
      if (lane == 0) peaks[r] = make_float2(peak[r], mass[r]);
#pragma unroll
      for (int c = 0; c < wide; ++c) {
        const int four = lane + 32 * c;
        if (four < head_dim / 4) {
          *reinterpret_cast<float4*>(sums + sum_at(r, four, head_dim)) = sum[r][c];
        }
      }
    }
  }

  // Where four columns of a row stand in what put() wrote.
  static __device__ __forceinline__ int sum_at(int row, int four, int head_dim) {
    return row * head_dim + four * 4;
  }
};

}  // namespace dinfer::kernels::cuda

// SPDX-License-Identifier: Apache-2.0
// One tile of decode attention on tensor cores: a bundle's query heads are the 16 rows of
// mma.m16n8k16, each warp takes 16 of the tile's 64 keys and keeps sums of its own (online softmax,
// Milakov & Gimelshein 2018) until the chunk ends. Included by .cu files alone.
#pragma once

#include "kernels/cuda/decode_tile.cuh"

namespace dinfer::kernels::cuda {

template <class T, int HeadDim>
struct decode_mma {
  using element = T;
  using rows_type = fixed_rows<HeadDim / 8>;
  static constexpr int piece_elements = 8;
  static constexpr int tile_shift = 6, tile_keys = 1 << tile_shift;
  static constexpr int query_rows = 16;
  static constexpr int most_rows = HeadDim > 128 ? 8 : 16;  // of these: registers are few
  static constexpr int largest_head_dim = HeadDim;
  static constexpr int most_stages = HeadDim > 128 ? 2 : 3;
  static constexpr int blocks_per_multiprocessor = most_decode_blocks(HeadDim);

  // Lane 4 g + t holds rows g (0) and g + 8 (1), of the sums columns 8 j + 2 t + {0, 1}.
  float peak[2], mass[2];  // mass: this lane's keys only
  float sum[HeadDim / 8][4];

  __device__ void clear() {
    peak[0] = peak[1] = minus_infinity;
    mass[0] = mass[1] = 0;
    for (auto& s : sum) s[0] = s[1] = s[2] = s[3] = 0;
  }

  // Scores of 16 keys: score[n][c] is of key 8 n + 2 t + c % 2, row g + c / 2 * 8.
  static __device__ void scores_of(const rows_type& rows, const unsigned char* keys,
                                   const unsigned char* queries, float (&score)[2][4]) {
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    const int key = warp * 16 + (lane & 7) + (lane >> 4) * 8, key_piece = (lane >> 3) & 1;
    const int query = lane & 15, query_piece = lane >> 4;
#pragma unroll
    for (int k = 0; k < HeadDim / 16; ++k) {
      std::uint32_t a[4], b[4];
      load_matrix_x4(a, queries + rows.at(query, 2 * k + query_piece) * 16);
      load_matrix_x4(b, keys + rows.at(key, 2 * k + key_piece) * 16);
      mma_16x8x16<T>(score[0], a, {b[0], b[1]});
      mma_16x8x16<T>(score[1], a, {b[2], b[3]});
    }
  }

  __device__ void add_tile(const rows_type& rows, const unsigned char* keys,
                           const unsigned char* values, const unsigned char* queries,
                           const tile_note& note, float scale_log2, int /*heads*/) {
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    float score[2][4] = {};
    scores_of(rows, keys, queries, score);
    const int first = note.first_tile_key + warp * 16 + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int key = first + i / 4 * 8 + i % 2;
      const bool seen = key >= note.first_key && key < note.context;
      score[i / 4][i % 4] = seen ? score[i / 4][i % 4] * scale_log2 : minus_infinity;
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float* const a = score[0] + 2 * r;
      float* const b = score[1] + 2 * r;
      float top = fmaxf(fmaxf(a[0], a[1]), fmaxf(b[0], b[1]));
      top = fmaxf(top, __shfl_xor_sync(0xFFFFFFFFU, top, 1));
      top = fmaxf(fmaxf(top, __shfl_xor_sync(0xFFFFFFFFU, top, 2)), peak[r]);
      const float from = top == minus_infinity ? 0.0F : top;  // inf - inf is no number
      const float keep = exp2_fast(peak[r] - from);
      peak[r] = top;
      for (float* s : {a, b}) {
        s[0] = exp2_fast(s[0] - from);
        s[1] = exp2_fast(s[1] - from);
      }
      mass[r] = fmaf(mass[r], keep, (a[0] + a[1]) + (b[0] + b[1]));
#pragma unroll
      for (auto& s : sum) {
        s[2 * r] *= keep;
        s[2 * r + 1] *= keep;
      }
    }
    add_values(rows, values, score);
  }

  // sum += score values.
  __device__ void add_values(const rows_type& rows, const unsigned char* values,
                             const float (&score)[2][4]) {
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    const std::uint32_t a[4] = {
        pack_two<T>(score[0][0], score[0][1]), pack_two<T>(score[0][2], score[0][3]),
        pack_two<T>(score[1][0], score[1][1]), pack_two<T>(score[1][2], score[1][3])};
    const int key = warp * 16 + (lane & 15), piece = lane >> 4;
#pragma unroll
    for (int j = 0; j < HeadDim / 16; ++j) {
      std::uint32_t b[4];
      load_matrix_x4_transposed(b, values + rows.at(key, 2 * j + piece) * 16);
      mma_16x8x16<T>(sum[2 * j], a, {b[0], b[1]});
      mma_16x8x16<T>(sum[2 * j + 1], a, {b[2], b[3]});
    }
  }

  // Writes the warp's part: sums [heads][HeadDim] at `sums`, and its peaks.
  __device__ void put(float* sums, float2* peaks, int head_dim, int heads) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      mass[r] += __shfl_xor_sync(0xFFFFFFFFU, mass[r], 1);
      mass[r] += __shfl_xor_sync(0xFFFFFFFFU, mass[r], 2);
      const int row = lane / 4 + 8 * r;
      if (row >= heads) continue;
      if (lane % 4 == 0) peaks[row] = make_float2(peak[r], mass[r]);
#pragma unroll
      for (int j = 0; j < HeadDim / 8; ++j) {
        float* const to = sums + sum_at(row, 2 * j + lane % 4 / 2, head_dim) + lane % 2 * 2;
        *reinterpret_cast<float2*>(to) = make_float2(sum[j][2 * r], sum[j][2 * r + 1]);
      }
    }
  }

  // Where four columns of a row stand in what put() wrote.
  static __device__ __forceinline__ int sum_at(int row, int four, int /*head_dim*/) {
    return row * HeadDim + (HeadDim % 32 == 0 ? four ^ ((row & 3) << 1) : four) * 4;
  }
};

}  // namespace dinfer::kernels::cuda

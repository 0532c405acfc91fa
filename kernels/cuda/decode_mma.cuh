// SPDX-License-Identifier: Apache-2.0
// One tile of decode attention on tensor cores: a bundle's query heads are the 16 rows of
// mma.m16n8k16, each warp takes a quarter of the tile's keys and keeps sums of its own (online
// softmax, Milakov & Gimelshein 2018) until the chunk ends. Included by .cu files alone.
//
// A tile has 64 keys, or 128 of 8-bit floats: about the same bytes. Those become T in registers
// only, in an order that needs no exchange: the product's inner index runs through 16 columns as 0,
// 1, 4, 5, .. 2, 3, 6, 7, .., and columns of sums are dealt by turns to two tiles of the product.
#pragma once

#include "kernels/cuda/decode_tile.cuh"
#include "kernels/cuda/f8_words.cuh"

#include <type_traits>

namespace dinfer::kernels::cuda {

template <class T, int HeadDim, class Stored>
struct decode_mma {
  using element = T;
  using stored = Stored;
  static constexpr bool narrow = sizeof(Stored) < sizeof(T);
  static constexpr int stored_piece = 16 / sizeof(Stored);  // elements
  using rows_type = fixed_rows<HeadDim / stored_piece>;
  using query_rows_type =
      std::conditional_t<narrow, paired_rows<HeadDim / 8>, fixed_rows<HeadDim / 8>>;
  static constexpr int tile_shift = narrow ? 7 : 6, tile_keys = 1 << tile_shift;
  static constexpr int warp_keys = tile_keys / decode_warps;
  static constexpr int eights = warp_keys / 8;
  static constexpr int query_rows = 16;
  static constexpr int most_rows = HeadDim > 128 ? 8 : 16;  // of these: registers are few
  static constexpr int largest_head_dim = HeadDim;
  static constexpr int most_stages = HeadDim > 128 ? 2 : 3;
  static constexpr int blocks_per_multiprocessor = most_decode_blocks(HeadDim);

  static __host__ __device__ query_rows_type rows_of_queries(const rows_type& /*rows*/) {
    return query_rows_type(HeadDim / 8);
  }

  // Lane 4 g + t holds rows g (0) and g + 8 (1), of the sums columns 8 j + 2 t + {0, 1}; where
  // narrow, of sums 2 j and 2 j + 1 columns 16 j + 4 t + {0, 2} and {1, 3}.
  float peak[2], mass[2];  // mass: this lane's keys only
  float sum[HeadDim / 8][4];

  __device__ void clear() {
    peak[0] = peak[1] = minus_infinity;
    mass[0] = mass[1] = 0;
    for (auto& s : sum) s[0] = s[1] = s[2] = s[3] = 0;
  }

  // Scores of the warp's keys: score[n][c] is of key 8 n + 2 t + c % 2, row g + c / 2 * 8.
  static __device__ void scores_of(const rows_type& rows, const unsigned char* keys,
                                   const unsigned char* queries, float (&score)[eights][4]) {
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    if constexpr (narrow) {
      const unsigned char* const query = queries + lane % 2 * 8;
#pragma unroll
      for (int k = 0; k < HeadDim / 16; ++k) {
        std::uint32_t b[4];
        load_matrix_x4(b, keys + rows.at(static_cast<int>(threadIdx.x), k) * 16);  // a key each
        const int piece = 2 * k + lane % 4 / 2;
        const auto low =
            *reinterpret_cast<const uint2*>(query + query_rows_type::at(lane / 4, piece) * 16);
        const auto high =
            *reinterpret_cast<const uint2*>(query + query_rows_type::at(lane / 4 + 8, piece) * 16);
        const std::uint32_t a[4] = {low.x, high.x, low.y, high.y};
#pragma unroll
        for (int n = 0; n < eights; ++n) {
          mma_16x8x16<T>(score[n], a, {two_wide<T>(b[n], 0), two_wide<T>(b[n], 16)});
        }
      }
    } else {
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
  }

  __device__ void add_tile(const rows_type& rows, const unsigned char* keys,
                           const unsigned char* values, const unsigned char* queries,
                           const tile_note& note, float scale_log2, int /*heads*/) {
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    float score[eights][4] = {};
    scores_of(rows, keys, queries, score);
    const int first = note.first_tile_key + warp * warp_keys + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < 4 * eights; ++i) {
      const int key = first + i / 4 * 8 + i % 2;
      const bool seen = key >= note.first_key && key < note.context;
      score[i / 4][i % 4] = seen ? score[i / 4][i % 4] * scale_log2 : minus_infinity;
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float top = fmaxf(score[0][2 * r], score[0][2 * r + 1]);
#pragma unroll
      for (int n = 1; n < eights; ++n) {
        top = fmaxf(top, fmaxf(score[n][2 * r], score[n][2 * r + 1]));
      }
      top = fmaxf(top, __shfl_xor_sync(0xFFFFFFFFU, top, 1));
      top = fmaxf(fmaxf(top, __shfl_xor_sync(0xFFFFFFFFU, top, 2)), peak[r]);
      const float from = top == minus_infinity ? 0.0F : top;  // inf - inf is no number
      const float keep = exp2_fast(peak[r] - from);
      peak[r] = top;
      float more = 0;
#pragma unroll
      for (int n = 0; n < eights; ++n) {
        float* const s = score[n] + 2 * r;
        s[0] = exp2_fast(s[0] - from);
        s[1] = exp2_fast(s[1] - from);
        more = n == 0 ? s[0] + s[1] : more + (s[0] + s[1]);
      }
      mass[r] = fmaf(mass[r], keep, more);
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
                             const float (&score)[eights][4]) {
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    std::uint32_t a[eights / 2][4];
#pragma unroll
    for (int n = 0; n < eights; ++n) {
      a[n / 2][n % 2 * 2] = pack_two<T>(score[n][0], score[n][1]);
      a[n / 2][n % 2 * 2 + 1] = pack_two<T>(score[n][2], score[n][3]);
    }
#pragma unroll
    for (int j = 0; j < HeadDim / 16; ++j) {
      std::uint32_t b[4];
      if constexpr (narrow) {
        load_matrix_x4_transposed(b, values + rows.at(static_cast<int>(threadIdx.x), j) * 16);
        std::uint32_t even[4], odd[4];  // columns: of two keys each
#pragma unroll
        for (int n = 0; n < eights; ++n) {
          const std::uint32_t columns = __byte_perm(b[n], 0, 0x3120);
          even[n] = two_wide<T>(columns, 0);
          odd[n] = two_wide<T>(columns, 16);
        }
#pragma unroll
        for (int n = 0; n < eights; n += 2) {
          mma_16x8x16<T>(sum[2 * j], a[n / 2], {even[n], even[n + 1]});
          mma_16x8x16<T>(sum[2 * j + 1], a[n / 2], {odd[n], odd[n + 1]});
        }
      } else {
        const int key = warp * 16 + (lane & 15), piece = lane >> 4;
        load_matrix_x4_transposed(b, values + rows.at(key, 2 * j + piece) * 16);
        mma_16x8x16<T>(sum[2 * j], a[0], {b[0], b[1]});
        mma_16x8x16<T>(sum[2 * j + 1], a[0], {b[2], b[3]});
      }
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
      for (int j = 0; j < HeadDim / 8; j += narrow ? 2 : 1) {
        if constexpr (narrow) {
          float* const to = sums + sum_at(row, 2 * j + lane % 4, head_dim);
          *reinterpret_cast<float4*>(to) = make_float4(sum[j][2 * r], sum[j + 1][2 * r],
                                                       sum[j][2 * r + 1], sum[j + 1][2 * r + 1]);
        } else {
          float* const to = sums + sum_at(row, 2 * j + lane % 4 / 2, head_dim) + lane % 2 * 2;
          *reinterpret_cast<float2*>(to) = make_float2(sum[j][2 * r], sum[j][2 * r + 1]);
        }
      }
    }
  }

  // Where four columns of a row stand in what put() wrote.
  static __device__ __forceinline__ int sum_at(int row, int four, int /*head_dim*/) {
    const int swap = narrow ? (row & 1) << 2 : (row & 3) << 1;
    return row * HeadDim + (HeadDim % 32 == 0 ? four ^ swap : four) * 4;
  }
};

}  // namespace dinfer::kernels::cuda

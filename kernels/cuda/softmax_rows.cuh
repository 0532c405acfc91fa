// SPDX-License-Identifier: Apache-2.0
// The online softmax (Milakov & Gimelshein 2018) of scores that lie in wgmma's registers. Included
// by .cu files alone.
#pragma once

#include "kernels/cuda/attention_tiles.cuh"
#include "kernels/cuda/ptx.cuh"

#include <cmath>
#include <cstdint>

namespace dinfer::kernels::cuda {

// Two rows of a thread, 8 apart: the running softmax. Element i of scores or out is of row
// (i / 2) % 2, and of column 8 * (i / 4) + i % 2 from the thread's first.
struct softmax_rows {
  float scale;  // of scores, times log2(e)
  int position[2];
  float most[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};
  float factor[2] = {0, 0};  // what sums and out from before the last tile are worth after it

  __device__ __forceinline__ softmax_rows(float of_scores, int first, int second)
      : scale(of_scores * 1.4426950408889634F), position{first, second} {}

  __device__ __forceinline__ void mask(float (&scores)[64], int first_key, int window) const {
#pragma unroll
    for (int i = 0; i < 64; ++i) {
      // Negative, and so a large number, where the key comes after the row.
      const auto behind =
          static_cast<unsigned>(position[i / 2 % 2] - first_key - (8 * (i / 4) + i % 2));
      if (behind >= static_cast<unsigned>(window)) scores[i] = -INFINITY;
    }
  }

  // Scores become weights.
  __device__ __forceinline__ void add(float (&scores)[64]) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float tops[2] = {most[r], most[r]};
#pragma unroll
      for (int i = 0; i < 64; i += 4) {
        tops[0] = fmaxf(tops[0], scores[i + 2 * r]);
        tops[1] = fmaxf(tops[1], scores[i + 2 * r + 1]);
      }
      float top = fmaxf(tops[0], tops[1]);
      top = fmaxf(top, __shfl_xor_sync(whole_warp, top, 1));
      top = fmaxf(top, __shfl_xor_sync(whole_warp, top, 2));
      const float base = top == -INFINITY ? 0.0F : top;  // nothing seen yet: weights are zeros
      factor[r] = exp2_fast((most[r] - base) * scale);
      most[r] = top;
      const float offset = -base * scale;
      float sums[2] = {0, 0};
#pragma unroll
      for (int i = 0; i < 64; i += 4) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float& s = scores[i + 2 * r + e];
          s = exp2_fast(fmaf(s, scale, offset));
          sums[e] += s;
        }
      }
      sum[r] = fmaf(sum[r], factor[r], sums[0] + sums[1]);
    }
  }

  template <int Half>
  __device__ __forceinline__ void rescale(float (&out)[Half]) const {
#pragma unroll
    for (int i = 0; i < Half; ++i) out[i] *= factor[i / 2 % 2];
  }

  // What out is multiplied with at last.
  __device__ __forceinline__ float inverse_sum(int r) const {
    float all = sum[r] + __shfl_xor_sync(whole_warp, sum[r], 1);
    all += __shfl_xor_sync(whole_warp, all, 2);
    return all > 0 ? 1.0F / all : 0.0F;
  }
};

// Weights as the registers of the product with the values.
template <class T>
__device__ __forceinline__ void pack_weights(const float (&scores)[64],
                                             std::uint32_t (&weights)[32]) {
#pragma unroll
  for (int i = 0; i < 32; ++i) weights[i] = pack_two<T>(scores[2 * i], scores[2 * i + 1]);
}

}  // namespace dinfer::kernels::cuda

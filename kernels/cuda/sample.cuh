// SPDX-License-Identifier: Apache-2.0
// What the kernels that draw share: logits made finite, an order of candidates, and noise. The same
// numbers as on the CPU (kernels/cpu/vector/draw.cpp): one Philox4x32-10 block per token (Salmon et
// al. 2011), counter (token, position low, position high, 0), key = seed. Included by .cu files
// alone.
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/sample.hpp"

#include <cstdint>

namespace dinfer::kernels::cuda {

using word64 = unsigned long long;  // what atomics take

inline constexpr float large_logit = 1e38F;  // the most that a logit may be
inline constexpr float most_noise = 23;      // no Gumbel number is larger: -log(2^-33) = 22.9

__device__ __forceinline__ float minus_infinity() { return __int_as_float(0xFF800000); }

// NaN becomes -infinity, +infinity a large number, and -0 becomes 0.
__device__ __forceinline__ float finite(float v) {
  const float bounded = v < large_logit ? v : v >= large_logit ? large_logit : minus_infinity();
  return bounded == 0 ? 0.0F : bounded;
}

// Candidates as words: the larger is the better one, larger values first, then lower ids. No two
// tokens of a row have the same. 0 stands for none.
__device__ __forceinline__ std::uint32_t ordered(float v) {
  const auto bits = static_cast<std::uint32_t>(__float_as_int(v == 0 ? 0.0F : v));
  return bits & 0x80000000U ? ~bits : bits | 0x80000000U;
}
__device__ __forceinline__ word64 candidate(float v, std::int32_t token) {
  return static_cast<word64>(ordered(v)) << 32 | ~static_cast<std::uint32_t>(token);
}
__device__ __forceinline__ std::int32_t token_of(word64 c) {
  return static_cast<std::int32_t>(~static_cast<std::uint32_t>(c));
}
__device__ __forceinline__ float value_of(word64 c) {
  const auto order = static_cast<std::uint32_t>(c >> 32);
  const std::uint32_t bits = order & 0x80000000U ? order & 0x7FFFFFFFU : ~order;
  return __int_as_float(static_cast<int>(bits));
}

// A row's noise.
struct row_noise {
  float scale = 1;  // of its logits
  std::uint64_t position = 0, seed = 0;
};

// The uniform number in (0, 1) of a token: (word + 1/2) / 2^32, rounded to a float.
__device__ __forceinline__ float uniform(std::uint32_t token, const row_noise& key) {
  std::uint32_t c0 = token, c1 = static_cast<std::uint32_t>(key.position),
                c2 = static_cast<std::uint32_t>(key.position >> 32), c3 = 0;
  auto k0 = static_cast<std::uint32_t>(key.seed), k1 = static_cast<std::uint32_t>(key.seed >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const word64 a = static_cast<word64>(0xD2511F53U) * c0;
    const word64 b = static_cast<word64>(0xCD9E8D57U) * c2;
    c0 = static_cast<std::uint32_t>(b >> 32) ^ c1 ^ k0;
    c1 = static_cast<std::uint32_t>(b);
    c2 = static_cast<std::uint32_t>(a >> 32) ^ c3 ^ k1;
    c3 = static_cast<std::uint32_t>(a);
    k0 += 0x9E3779B9U;
    k1 += 0xBB67AE85U;
  }
  const float low = static_cast<float>(c0 & 511U) * 0x1p-32F + 0x1p-33F;  // exact
  return fminf(fmaf(static_cast<float>(c0 >> 9), 0x1p-23F, low), 1 - 0x1p-24F);
}

// The best candidate that one thread has seen; ids must come in rising order.
struct thread_best {
  float value = minus_infinity();
  std::int32_t token = -1;

  __device__ __forceinline__ void take(float v, std::int32_t id) {
    if (v > value) value = v, token = id;
  }
  // The same with a Gumbel number, -log(-log(1 - u)), added to the scaled logit. `bar` is a value
  // that some token of the row has. Most tokens cannot reach it, and nothing is computed for them
  // that is not needed to know that: noise above x has u < e^-x. The slack is more than all
  // roundings together.
  __device__ __forceinline__ void take_noisy(float v, std::int32_t id, const row_noise& noise,
                                             float bar) {
    const float ahead = fmaf(v, noise.scale, fmaf(fabsf(bar), 1e-6F, 0.01F)) - bar;
    if (ahead < -most_noise) return;
    const float u = uniform(static_cast<std::uint32_t>(id), noise);
    if (u > __expf(ahead)) return;
    take(fmaf(v, noise.scale, -logf(-log1pf(-u))), id);
  }
  __device__ __forceinline__ word64 word() const { return token < 0 ? 0 : candidate(value, token); }
};

// The best candidate of a simple row becomes its token.
__device__ __forceinline__ void take_token(const slot_arrays& slots, const draw_rows& rows,
                                           std::int32_t row, word64 best) {
  const std::int32_t slot = rows.slots[row];
  const std::int32_t token = best == 0 ? 0 : token_of(best);
  rows.tokens[row] = token;
  slots.last[slot] = token;
  ++slots.drawn[slot];
}

__device__ __forceinline__ word64 warp_max(word64 v) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    const word64 other = __shfl_xor_sync(0xFFFFFFFFU, v, lanes);
    v = other > v ? other : v;
  }
  return v;
}

// Logits i .. i + 3 of a row, i a multiple of 4; -infinity from `end` on.
__device__ __forceinline__ float4 load_four(const float* row, std::int32_t i, std::int32_t end,
                                            bool aligned) {
  if (aligned && i + 4 <= end) return *reinterpret_cast<const float4*>(row + i);
  const float none = minus_infinity();
  return {i < end ? row[i] : none, i + 1 < end ? row[i + 1] : none, i + 2 < end ? row[i + 2] : none,
          i + 3 < end ? row[i + 3] : none};
}

// Whether every row may be read 16 bytes at a time.
inline bool rows_aligned(const draw_rows& rows, std::int32_t vocabulary) {
  return vocabulary % 4 == 0 && reinterpret_cast<std::uintptr_t>(rows.logits) % 16 == 0;
}

}  // namespace dinfer::kernels::cuda

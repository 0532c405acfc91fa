// SPDX-License-Identifier: Apache-2.0
// Inside of a packed block (packed_layout.hpp): where codes and scales lie, one at a time or all of
// a thread. Included by .cu files alone.
#pragma once

#include "kernels/cuda/packed_layout.hpp"
#include "kernels/cuda/types.cuh"

#include <cstdint>

namespace dinfer::kernels::cuda {

// The block that row and column are in.
__device__ __forceinline__ std::int64_t packed_block_at(packed_kind kind, std::int64_t row,
                                                        std::int64_t column, std::int64_t columns) {
  const std::int64_t block = row / packed_tile * packed_spans(columns) + column / packed_span;
  return block * packed_block_bytes(kind);
}

// Four elements of a row that a thread has of a step.
struct packed_place {
  int thread, half, step;  // half 1: row g + 8

  __device__ __forceinline__ packed_place(std::int64_t row, std::int64_t column)
      : thread(static_cast<int>(row % 8 * 4 + column % packed_step / 4)),
        half(static_cast<int>(row % packed_tile / 8)),
        step(static_cast<int>(column % packed_span / packed_step)) {}

  // Of the word that has their codes.
  __device__ __forceinline__ int word_byte(packed_kind kind) const {
    if (kind == packed_kind::four) return thread * 16 + half * 8 + step / 2 * 4;
    return half * 512 + thread * 16 + step * 4;
  }
};

// The bit at which the code of element i of a step begins in its word.
__device__ __forceinline__ constexpr int packed_code_bit(packed_kind kind, int step, int i) {
  return kind == packed_kind::four ? step % 2 * 8 + i / 2 * 4 + i % 2 * 16 : 8 * i;
}
__device__ __forceinline__ int packed_code(packed_kind kind, std::uint32_t word, int step, int i) {
  const std::uint32_t code = word >> packed_code_bit(kind, step, i);
  if (kind == packed_kind::four) return static_cast<int>(code & 15U);
  return static_cast<int>(code & 255U) - 128;
}

// Which of the floats of rows g and g + 8 is the scale of a step; a minimum follows it.
__device__ __forceinline__ constexpr int packed_scale_index(packed_kind kind, int half, int step) {
  if (kind == packed_kind::eight) return 2 * half + step / 2;
  if (kind == packed_kind::eight_halves) return 4 * half + step;
  return 4 * half + step / 2 * 2;
}

__device__ __forceinline__ float half_of(std::uint32_t two, int upper) {
  __half_raw raw;
  raw.x = static_cast<unsigned short>(two >> (16 * upper));
  return to_float(f16(raw));
}

// What a thread has of a block: the codes of rows g and g + 8, and their scales.
template <packed_kind Kind>
struct packed_part {
  static constexpr int words = Kind == packed_kind::four ? 2 : 4;  // of a row
  std::uint32_t codes[2][words];
  std::uint32_t scales[packed_scale_bytes(Kind) / 4];

  __device__ __forceinline__ void load(const std::uint8_t* block, int thread) {
    const auto* at = reinterpret_cast<const uint4*>(block) + thread;
    if constexpr (Kind == packed_kind::four) {
      const uint4 all = __ldcs(at);
      codes[0][0] = all.x, codes[0][1] = all.y, codes[1][0] = all.z, codes[1][1] = all.w;
    } else {
      const uint4 low = __ldcs(at), high = __ldcs(at + 32);
      codes[0][0] = low.x, codes[0][1] = low.y, codes[0][2] = low.z, codes[0][3] = low.w;
      codes[1][0] = high.x, codes[1][1] = high.y, codes[1][2] = high.z, codes[1][3] = high.w;
    }
    const std::uint8_t* group =
        block + packed_code_bytes(Kind) + thread / 4 * packed_scale_bytes(Kind);
    if constexpr (Kind == packed_kind::eight) {
      const uint2 two = __ldcs(reinterpret_cast<const uint2*>(group));
      scales[0] = two.x, scales[1] = two.y;
    } else {
      const uint4 all = __ldcs(reinterpret_cast<const uint4*>(group));
      scales[0] = all.x, scales[1] = all.y, scales[2] = all.z, scales[3] = all.w;
    }
  }

  __device__ __forceinline__ std::uint32_t word(int half, int step) const {
    return codes[half][Kind == packed_kind::four ? step / 2 : step];
  }
  __device__ __forceinline__ float scale(int half, int step) const {
    const int index = packed_scale_index(Kind, half, step);
    return half_of(scales[index / 2], index % 2);
  }
  __device__ __forceinline__ float minimum(int half, int step) const {
    const int index = packed_scale_index(Kind, half, step) + 1;
    return has_minimum(Kind) ? half_of(scales[index / 2], index % 2) : -0.0F;
  }
};

// As two roundings, like the expansion of what is stored.
__device__ __forceinline__ float packed_value(float scale, int code, float minimum) {
  return __fadd_rn(__fmul_rn(scale, static_cast<float>(code)), minimum);
}

// Elements column .. column + 3 of a row, column a multiple of 4.
__device__ __forceinline__ void packed_four(float (&out)[4], const packed_matrix& from,
                                            std::int64_t row, std::int64_t column) {
  const packed_kind kind = from.kind;
  const auto* block = reinterpret_cast<const std::uint8_t*>(from.data) +
                      packed_block_at(kind, row, column, from.columns);
  const packed_place place(row, column);
  const auto word = *reinterpret_cast<const std::uint32_t*>(block + place.word_byte(kind));
  const auto* scales = reinterpret_cast<const f16*>(block + packed_code_bytes(kind) +
                                                    place.thread / 4 * packed_scale_bytes(kind)) +
                       packed_scale_index(kind, place.half, place.step);
  const float scale = to_float(scales[0]),
              minimum = has_minimum(kind) ? to_float(scales[1]) : -0.0F;
  for (int i = 0; i < 4; ++i)
    out[i] = packed_value(scale, packed_code(kind, word, place.step, i), minimum);
}

// Calls fn(std::integral_constant of the kind).
template <class Fn>
void with_kind(packed_kind kind, Fn&& fn) {
  using enum packed_kind;
  switch (kind) {
    case four:
      return fn(std::integral_constant<packed_kind, four>{});
    case eight:
      return fn(std::integral_constant<packed_kind, eight>{});
    case eight_halves:
      return fn(std::integral_constant<packed_kind, eight_halves>{});
    case eight_minimum:
      return fn(std::integral_constant<packed_kind, eight_minimum>{});
    default:
      throw device_error(errc::internal, "a packed matrix of no kind");
  }
}

}  // namespace dinfer::kernels::cuda

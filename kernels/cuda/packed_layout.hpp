// SPDX-License-Identifier: Apache-2.0
// How a GPU keeps a matrix that was stored quantised: small whole numbers, codes, in groups along a
// row, with 16-bit floats for each group. An element is scale * code + minimum. Two layouts, of 4
// and of 8 bits, the latter with three kinds of scales:
//
//   four           q4_0, q4_1, q4_k    codes 0..15; scale and minimum for 32 columns: 5 bits
//   eight          q5_0, q8_0          codes -128..127; a scale for 32: 8.5 bits
//   eight_halves   q6_k                codes as before; a scale for 16: 9 bits
//   eight_minimum  q5_1, q5_k          codes as before; scale and minimum for 32: 9 bits
//
// Scales and minima are f16. Those of q4_0, q4_1, q5_0, q5_1 and q8_0 are the file's (q4_0's
// minimum is -8 scales), so elements are as well. Those of q4_k, q5_k and q6_k are products of an
// f16 and a whole number and are rounded once, by 2^-11 of themselves at most; bf16, to which an
// expanded element is rounded, is four times as coarse. What is beyond 65504 becomes infinite.
//
// A block has 16 rows and 64 columns, in the order in which the threads of a warp hand it to the
// tensor cores (gemm_packed.cu); blocks of 16 rows follow each other along columns. Thread 4 g + t
// has of rows g and g + 8 the columns 4 t .. 4 t + 3 of each 16, of which a step is made. In a
// block come
//
//   codes   four: 16 bytes a thread, two words of row g, two of g + 8. Word i has steps 2 i and
//           2 i + 1: columns 0, 2, 0, 2 in its lower half, 1, 3, 1, 3 in the upper one
//           eight: code + 128, 16 bytes a thread of row g, then as many of g + 8; a word a step
//   scales  for every g those of row g, then of g + 8: of each group scale and minimum, or the
//           scale alone
//
// What fills a matrix up to whole blocks has scales and minima of 0. Knows nothing of CUDA: plans
// of memory ask for sizes. Any thread.
#pragma once

#include "kernels/weight.hpp"

#include <cstddef>
#include <cstdint>

namespace dinfer::kernels::cuda {

enum class packed_kind : std::uint8_t { none, four, eight, eight_halves, eight_minimum };

inline constexpr int packed_tile = 16, packed_span = 64, packed_group = 32, packed_step = 16;

constexpr packed_kind packed_kind_of(dtype stored) noexcept {
  switch (stored) {
    case dtype::q4_0:
    case dtype::q4_1:
    case dtype::q4_k:
      return packed_kind::four;
    case dtype::q5_0:
    case dtype::q8_0:
      return packed_kind::eight;
    case dtype::q6_k:
      return packed_kind::eight_halves;
    case dtype::q5_1:
    case dtype::q5_k:
      return packed_kind::eight_minimum;
    default:
      return packed_kind::none;
  }
}

// Of the memory into which a matrix is unpacked for products of many rows, as much at a time.
inline constexpr std::int64_t most_unpacked_bytes = std::int64_t{64} << 20;

// Whether rows of so many columns, from `first` of the stored ones on, are kept so.
constexpr bool packed_takes(std::int64_t first, std::int64_t columns) noexcept {
  constexpr std::int64_t most = 65536;
  return columns > 0 && columns <= most && columns % packed_group == 0 && first % packed_group == 0;
}

DINFER_HOST_DEVICE constexpr bool has_minimum(packed_kind kind) noexcept {
  return kind == packed_kind::four || kind == packed_kind::eight_minimum;
}
// Of a block.
DINFER_HOST_DEVICE constexpr int packed_code_bytes(packed_kind kind) noexcept {
  return packed_tile * packed_span / (kind == packed_kind::four ? 2 : 1);
}
// Of rows g and g + 8 of a block.
DINFER_HOST_DEVICE constexpr int packed_scale_bytes(packed_kind kind) noexcept {
  return kind == packed_kind::eight ? 8 : 16;
}
DINFER_HOST_DEVICE constexpr int packed_block_bytes(packed_kind kind) noexcept {
  return packed_code_bytes(kind) + packed_tile / 2 * packed_scale_bytes(kind);
}
DINFER_HOST_DEVICE constexpr std::int64_t packed_spans(std::int64_t columns) noexcept {
  return (columns + packed_span - 1) / packed_span;
}
// Of a whole matrix.
constexpr std::int64_t packed_bytes(packed_kind kind, std::int64_t rows,
                                    std::int64_t columns) noexcept {
  return (rows + packed_tile - 1) / packed_tile * packed_spans(columns) * packed_block_bytes(kind);
}

// A matrix in device memory, at a multiple of 16 bytes.
struct packed_matrix {
  const std::byte* data = nullptr;
  packed_kind kind = packed_kind::none;
  std::int64_t rows = 0, columns = 0;
};

}  // namespace dinfer::kernels::cuda

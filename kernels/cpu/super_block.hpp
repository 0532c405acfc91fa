// SPDX-License-Identifier: Apache-2.0
// GGUF's K-quants: super-blocks of 256 elements in blocks of 32 (q6_k: of two groups of 16), each
// with a small whole number as its scale, under one or two 16-bit floats that all share. Here they
// are taken apart, and put into panels of 16 rows, eight blocks behind their common head:
//
//   head         d [lane] f16; q4_k, q5_k: m [lane] f16
//   each block   q4_k, q5_k: scales [lane] u8, minima [lane] u8; q6_k: scales [2][lane] i8;
//                q5_k: fifth bits [lane] u32, bit = k; q6_k: upper bits [word][lane][byte], byte i
//                of word j has those of k = 16j + 4c + i from bit 2c on; then nibbles
//                [word][lane][byte], k = 8j + i low and 8j + 4 + i high
//
// Used by this folder alone; any thread.
#pragma once

#include "kernels/tensor.hpp"

#include <array>
#include <cstddef>
#include <cstdint>

namespace dinfer::kernels::cpu {

inline constexpr std::int32_t super_block_elements = 256;

// Where element k of a block lies among the packed words of 16 lanes: bytes, nibbles, upper bits.
constexpr std::int32_t byte_place(std::int32_t k, std::int32_t lane) noexcept {
  return k / 4 * 64 + lane * 4 + k % 4;
}
constexpr std::int32_t nibble_place(std::int32_t k, std::int32_t lane) noexcept {
  return k / 8 * 64 + lane * 4 + k % 4;
}
constexpr std::int32_t nibble_shift(std::int32_t k) noexcept { return k % 8 / 4 * 4; }
constexpr std::int32_t upper_place(std::int32_t k, std::int32_t lane) noexcept {
  return k / 16 * 64 + lane * 4 + k % 4;
}
constexpr std::int32_t upper_shift(std::int32_t k) noexcept { return k % 16 / 4 * 2; }

constexpr bool has_super_blocks(dtype type) noexcept {
  return info(type).block_elements == super_block_elements;
}

// Element k is d * scales[k / 16] * quants[k] - m * minima[k / 16].
struct super_block {
  std::uint16_t d = 0, m = 0;  // f16
  std::array<std::int8_t, 16> scales{}, minima{};
  std::array<std::int8_t, super_block_elements> quants{};
};

super_block take_apart(dtype type, const std::byte* in) noexcept;
void expand(const super_block& block, float* out) noexcept;

// Of 16 rows.
constexpr std::int64_t packed_super_block_bytes(dtype type) noexcept {
  if (type == dtype::q4_k) return 64 + 8 * (32 + 256);
  if (type == dtype::q5_k) return 64 + 8 * (32 + 64 + 256);
  return 32 + 8 * (32 + 128 + 256);
}

// Into lane `lane` of a packed super-block, which starts as zeros.
void pack_super_block(dtype type, const std::byte* in, std::int32_t lane, std::byte* out) noexcept;
// Element k of that lane.
float packed_element(dtype type, const std::byte* packed, std::int32_t k,
                     std::int32_t lane) noexcept;

}  // namespace dinfer::kernels::cpu

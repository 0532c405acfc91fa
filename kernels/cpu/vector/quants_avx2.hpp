// SPDX-License-Identifier: Apache-2.0
// Whole numbers of a few bits for lanes_avx2.hpp, on their way from memory to floats. Included by
// lanes.hpp alone.
#pragma once

#include "kernels/cpu/vector/lanes_avx2.hpp"

namespace dinfer::kernels::cpu::DINFER_ISA {

// Integers on their way to floats.
struct quants {
  __m256i a, b;
};
// Bytes of two quants each.
struct nibbles {
  __m256i a, b;
};
inline nibbles load_nibbles(const std::byte* p) {
  const auto x = load_128(p);
  return {_mm256_cvtepu8_epi32(x), _mm256_cvtepu8_epi32(_mm_srli_si128(x, 8))};
}
inline quants low(nibbles n) {
  const auto mask = _mm256_set1_epi32(15);
  return {_mm256_and_si256(n.a, mask), _mm256_and_si256(n.b, mask)};
}
inline quants high(nibbles n) { return {_mm256_srli_epi32(n.a, 4), _mm256_srli_epi32(n.b, 4)}; }
// Adds 16 where the lane's bit of the 16 at p is set.
inline quants add_fifth_bit(quants q, const std::byte* p) {
  std::uint16_t bits;
  __builtin_memcpy(&bits, p, 2);
  const auto all = _mm256_set1_epi32(bits);
  const auto sixteen = _mm256_set1_epi32(16);
  const auto to_a = _mm256_sllv_epi32(all, _mm256_set_epi32(-1, -1, -1, 0, 1, 2, 3, 4));
  const auto low =
      _mm256_or_si256(to_a, _mm256_srlv_epi32(all, _mm256_set_epi32(3, 2, 1, 32, 32, 32, 32, 32)));
  const auto high = _mm256_srlv_epi32(all, _mm256_set_epi32(11, 10, 9, 8, 7, 6, 5, 4));
  return {_mm256_add_epi32(q.a, _mm256_and_si256(low, sixteen)),
          _mm256_add_epi32(q.b, _mm256_and_si256(high, sixteen))};
}
// Adds 16 times the two bits of each byte that begin at bit `shift`.
inline quants add_upper_bits(quants q, nibbles n, int shift) {
  const auto mask = _mm256_set1_epi32(3);
  const auto upper = [&](__m256i x) {
    return _mm256_slli_epi32(_mm256_and_si256(_mm256_srli_epi32(x, shift), mask), 4);
  };
  return {_mm256_add_epi32(q.a, upper(n.a)), _mm256_add_epi32(q.b, upper(n.b))};
}
inline lanes to_float(quants q) { return {_mm256_cvtepi32_ps(q.a), _mm256_cvtepi32_ps(q.b)}; }
inline lanes low_to_float(nibbles n) { return to_float(low(n)); }

}  // namespace dinfer::kernels::cpu::DINFER_ISA

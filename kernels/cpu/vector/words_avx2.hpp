// SPDX-License-Identifier: Apache-2.0
// The rest of lanes_avx2.hpp: 32-bit words for random numbers.
#pragma once

#include "kernels/cpu/vector/lanes_avx2.hpp"

namespace dinfer::kernels::cpu::DINFER_ISA {

// Philox needs 32-bit words: low and high half of a * b.
struct words {
  __m256i a, b;
};
inline words splat_word(std::uint32_t x) {
  return {_mm256_set1_epi32(static_cast<int>(x)), _mm256_set1_epi32(static_cast<int>(x))};
}
inline words count_from(std::uint32_t x) {
  const auto steps = _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0);
  return {_mm256_add_epi32(_mm256_set1_epi32(static_cast<int>(x)), steps),
          _mm256_add_epi32(_mm256_set1_epi32(static_cast<int>(x + 8)), steps)};
}
inline words operator^(words x, words y) {
  return {_mm256_xor_si256(x.a, y.a), _mm256_xor_si256(x.b, y.b)};
}
inline void multiply(__m256i x, std::uint32_t y, __m256i& low, __m256i& high) {
  const auto factor = _mm256_set1_epi32(static_cast<int>(y));
  const auto even = _mm256_mul_epu32(x, factor);
  const auto odd = _mm256_mul_epu32(_mm256_srli_epi64(x, 32), factor);
  low = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA);
  high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
}
inline void multiply(words x, std::uint32_t y, words& low, words& high) {
  multiply(x.a, y, low.a, high.a);
  multiply(x.b, y, low.b, high.b);
}
inline __m256 to_unit(__m256i w) {
  const auto top = _mm256_cvtepi32_ps(_mm256_srli_epi32(w, 9));
  const auto rest = _mm256_cvtepi32_ps(_mm256_and_si256(w, _mm256_set1_epi32(511)));
  const auto low = _mm256_fmadd_ps(rest, _mm256_set1_ps(0x1p-32F), _mm256_set1_ps(0x1p-33F));
  const auto all = _mm256_fmadd_ps(top, _mm256_set1_ps(0x1p-23F), low);
  return _mm256_min_ps(all, _mm256_set1_ps(1 - 0x1p-24F));
}
// (bits + 1/2) / 2^32, rounded to a float but never to 1; small ones keep all their bits.
inline lanes to_unit(words w) { return {to_unit(w.a), to_unit(w.b)}; }

}  // namespace dinfer::kernels::cpu::DINFER_ISA

// SPDX-License-Identifier: Apache-2.0
// Whole numbers for lanes_avx2.hpp: 32 bits, or four bytes each. Included by lanes.hpp alone.
#pragma once

#include "kernels/cpu/vector/lanes_avx2.hpp"

namespace dinfer::kernels::cpu::DINFER_ISA {

struct quants {
  __m256i a, b;
};
inline quants load_quants(const std::byte* p) {
  const auto* words = reinterpret_cast<const __m256i*>(p);
  return {_mm256_loadu_si256(words), _mm256_loadu_si256(words + 1)};
}
inline quants operator&(quants q, std::int32_t mask) {
  const auto all = _mm256_set1_epi32(mask);
  return {_mm256_and_si256(q.a, all), _mm256_and_si256(q.b, all)};
}
inline quants operator+(quants x, quants y) {
  return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)};
}
inline quants operator>>(quants q, int n) {  // zeros come in
  return {_mm256_srli_epi32(q.a, n), _mm256_srli_epi32(q.b, n)};
}
inline quants operator<<(quants q, int n) {
  return {_mm256_slli_epi32(q.a, n), _mm256_slli_epi32(q.b, n)};
}
// Byte `i` of each word, with its sign.
inline quants signed_byte(quants q, int i) {
  const quants up = q << (24 - 8 * i);
  return {_mm256_srai_epi32(up.a, 24), _mm256_srai_epi32(up.b, 24)};
}
inline lanes to_float(quants q) { return {_mm256_cvtepi32_ps(q.a), _mm256_cvtepi32_ps(q.b)}; }

}  // namespace dinfer::kernels::cpu::DINFER_ISA

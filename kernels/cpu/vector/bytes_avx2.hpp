// SPDX-License-Identifier: Apache-2.0
// Products of bytes in AVX2. Included by dot.cpp alone.
#pragma once

#include "kernels/cpu/vector/lanes.hpp"

namespace dinfer::kernels::cpu::DINFER_ISA {

inline constexpr int dot_rows = 4;  // of activations that run over a panel together
inline constexpr int unrolled = 8;  // at most

// Four bytes, in every lane.
struct four_bytes {
  __m256i v;
};
inline four_bytes splat_four(const std::int8_t* p) {
  std::int32_t word;
  __builtin_memcpy(&word, p, 4);
  return {_mm256_set1_epi32(word)};
}

// Two sums of 16 bits a lane.
struct half_sums {
  __m256i a, b;
};
inline void add(half_sums& to, __m256i a, __m256i b) {
  to.a = _mm256_add_epi16(to.a, a);
  to.b = _mm256_add_epi16(to.b, b);
  // Keeps gcc from making all products first and their sums later, for which registers are too few.
  asm("" : "+x"(to.a), "+x"(to.b));
}
// w is not negative.
inline void multiply_add(half_sums& to, quants w, four_bytes x) {
  add(to, _mm256_maddubs_epi16(w.a, x.v), _mm256_maddubs_epi16(w.b, x.v));
}
// |x| <= 127, so that no pair's sum leaves 16 bits whatever w is.
inline void multiply_add_signed(half_sums& to, quants w, four_bytes x) {
  add(to, _mm256_maddubs_epi16(_mm256_abs_epi8(w.a), _mm256_sign_epi8(x.v, w.a)),
      _mm256_maddubs_epi16(_mm256_abs_epi8(w.b), _mm256_sign_epi8(x.v, w.b)));
}
inline quants sum_halves(half_sums x) {
  const auto ones = _mm256_set1_epi16(1);
  return {_mm256_madd_epi16(x.a, ones), _mm256_madd_epi16(x.b, ones)};
}

inline void store_quants(std::byte* p, quants q) {
  auto* words = reinterpret_cast<__m256i*>(p);
  _mm256_storeu_si256(words, q.a);
  _mm256_storeu_si256(words + 1, q.b);
}

}  // namespace dinfer::kernels::cpu::DINFER_ISA

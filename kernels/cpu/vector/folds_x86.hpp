// SPDX-License-Identifier: Apache-2.0
// Eight floats folded in halves to one, in registers: the order that lanes.hpp asks of sum and
// largest. For lanes_avx2.hpp and lanes_avx512.hpp.
#pragma once

#include <immintrin.h>

namespace dinfer::kernels::cpu::DINFER_ISA {

inline float sum(__m256 x) {
  const auto four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const auto two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

inline float largest(__m256 x) {
  const auto four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const auto two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

}  // namespace dinfer::kernels::cpu::DINFER_ISA

// SPDX-License-Identifier: Apache-2.0
// lanes.hpp in AVX2, FMA and F16C: two registers.
#pragma once

#include "kernels/cpu/vector/folds_x86.hpp"

namespace dinfer::kernels::cpu::DINFER_ISA {

// A block of a matrix product holds: 12 sums in 16 registers.
inline constexpr int tile_rows = 6, tile_panels = 1;

struct lanes {
  __m256 a, b;
};

inline lanes load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void store(float* p, lanes x) {
  _mm256_storeu_ps(p, x.a);
  _mm256_storeu_ps(p + 8, x.b);
}
inline lanes splat(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline lanes operator+(lanes x, lanes y) {
  return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)};
}
inline lanes operator-(lanes x, lanes y) {
  return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)};
}
inline lanes operator*(lanes x, lanes y) {
  return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)};
}
inline lanes operator/(lanes x, lanes y) {
  return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)};
}
inline lanes fma(lanes x, lanes y, lanes z) {
  return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
// NaN in y is kept.
inline lanes max(lanes x, lanes y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
inline lanes min(lanes x, lanes y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
inline lanes round(lanes x) {
  constexpr int mode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(x.a, mode), _mm256_round_ps(x.b, mode)};
}

inline float sum(lanes x) { return sum(_mm256_add_ps(x.a, x.b)); }
inline float largest(lanes x) { return largest(_mm256_max_ps(x.a, x.b)); }

// 2^n in two factors: n may be 128 or below -126.
inline __m256 times_power_of_two(__m256 x, __m256 n) {
  const auto power = _mm256_cvtps_epi32(n);
  const auto half = _mm256_srai_epi32(power, 1);
  const auto rest = _mm256_sub_epi32(power, half);
  const auto bias = _mm256_set1_epi32(127);
  const auto p = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
  const auto q = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));
  return _mm256_mul_ps(_mm256_mul_ps(x, p), q);
}
inline lanes times_power_of_two(lanes x, lanes n) {
  return {times_power_of_two(x.a, n.a), times_power_of_two(x.b, n.b)};
}

inline void split_exponent(__m256 x, __m256& m, __m256& n) {
  const auto bits = _mm256_castps_si256(x);
  const auto one = _mm256_set1_epi32(0x3F800000);
  const auto fraction = _mm256_and_si256(bits, _mm256_set1_epi32(0x007FFFFF));
  m = _mm256_castsi256_ps(_mm256_or_si256(fraction, one));
  n = _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_srli_epi32(bits, 23), _mm256_set1_epi32(127)));
}
inline void split_exponent(lanes x, lanes& m, lanes& n) {
  split_exponent(x.a, m.a, n.a);
  split_exponent(x.b, m.b, n.b);
}

// x < y ? yes : no
inline lanes where_less(lanes x, lanes y, lanes yes, lanes no) {
  return {_mm256_blendv_ps(no.a, yes.a, _mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ)),
          _mm256_blendv_ps(no.b, yes.b, _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ))};
}

// Eight rows and columns.
inline void transpose(const __m256 (&in)[8], __m256 (&out)[8]) {
  __m256 halves[2][4];
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    const auto pairs = [](__m256 x) { return _mm256_castps_pd(x); };
    const auto a = pairs(_mm256_unpacklo_ps(in[4 * i], in[4 * i + 1]));
    const auto b = pairs(_mm256_unpackhi_ps(in[4 * i], in[4 * i + 1]));
    const auto c = pairs(_mm256_unpacklo_ps(in[4 * i + 2], in[4 * i + 3]));
    const auto d = pairs(_mm256_unpackhi_ps(in[4 * i + 2], in[4 * i + 3]));
    halves[i][0] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, c));
    halves[i][1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, c));
    halves[i][2] = _mm256_castpd_ps(_mm256_unpacklo_pd(b, d));
    halves[i][3] = _mm256_castpd_ps(_mm256_unpackhi_pd(b, d));
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    out[j] = _mm256_permute2f128_ps(halves[0][j], halves[1][j], 0x20);
    out[4 + j] = _mm256_permute2f128_ps(halves[0][j], halves[1][j], 0x31);
  }
}

// Columns become rows.
inline void transpose(const lanes (&in)[16], lanes (&out)[16]) {
  for (int half = 0; half < 2; ++half) {
    __m256 left[8], right[8], turned[8];
    for (int i = 0; i < 8; ++i) {
      left[i] = in[8 * half + i].a;
      right[i] = in[8 * half + i].b;
    }
    transpose(left, turned);
    for (int i = 0; i < 8; ++i) (half == 0 ? out[i].a : out[i].b) = turned[i];
    transpose(right, turned);
    for (int i = 0; i < 8; ++i) (half == 0 ? out[8 + i].a : out[8 + i].b) = turned[i];
  }
}

inline __m128i load_128(const std::byte* p) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}
inline lanes load_f16(const std::byte* p) {
  return {_mm256_cvtph_ps(load_128(p)), _mm256_cvtph_ps(load_128(p + 16))};
}
inline lanes load_bf16(const std::byte* p) {
  const auto widen = [](__m128i x) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
  };
  return {widen(load_128(p)), widen(load_128(p + 16))};
}
inline lanes load_i8(const std::byte* p) {
  const auto x = load_128(p);
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(x)),
          _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(x, 8)))};
}
// Whole numbers from -128 to 127.
inline void store_i8(std::int8_t* p, lanes x) {
  // Packing works on each half of a register: words come as a0 b0 a1 b1, in fours.
  const auto mixed = _mm256_packs_epi32(_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b));
  const auto words = _mm256_permute4x64_epi64(mixed, 0b11'01'10'00);
  const auto bytes =
      _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
}

}  // namespace dinfer::kernels::cpu::DINFER_ISA

// SPDX-License-Identifier: Apache-2.0
// lanes.hpp in AVX-512 (F, BW, DQ, VL): one register.
#pragma once

#include "kernels/cpu/vector/folds_x86.hpp"

namespace dinfer::kernels::cpu::DINFER_ISA {

// A block of a matrix product holds: 24 sums in 32 registers.
inline constexpr int tile_rows = 12, tile_panels = 2;

struct lanes {
  __m512 v;
};

inline lanes load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline void store(float* p, lanes a) { _mm512_storeu_ps(p, a.v); }
inline lanes splat(float x) { return {_mm512_set1_ps(x)}; }
inline lanes operator+(lanes a, lanes b) { return {_mm512_add_ps(a.v, b.v)}; }
inline lanes operator-(lanes a, lanes b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline lanes operator*(lanes a, lanes b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline lanes operator/(lanes a, lanes b) { return {_mm512_div_ps(a.v, b.v)}; }
inline lanes fma(lanes a, lanes b, lanes c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
// NaN in b is kept.
inline lanes max(lanes a, lanes b) { return {_mm512_max_ps(a.v, b.v)}; }
inline lanes min(lanes a, lanes b) { return {_mm512_min_ps(a.v, b.v)}; }
inline lanes round(lanes a) {
  return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
inline float sum(lanes a) {
  return sum(_mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1)));
}
inline float largest(lanes a) {
  return largest(_mm256_max_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1)));
}
inline lanes times_power_of_two(lanes a, lanes n) { return {_mm512_scalef_ps(a.v, n.v)}; }
inline void split_exponent(lanes x, lanes& m, lanes& n) {
  m.v = _mm512_getmant_ps(x.v, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_src);
  n.v = _mm512_getexp_ps(x.v);
}
// a < b ? yes : no
inline lanes where_less(lanes a, lanes b, lanes yes, lanes no) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), no.v, yes.v)};
}

// Columns become rows: four rows at a time within quarters, then quarters among them.
inline void transpose(const lanes (&in)[16], lanes (&out)[16]) {
  __m512 quads[4][4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const auto pairs = [](__m512 x) { return _mm512_castps_pd(x); };
    const auto a = pairs(_mm512_unpacklo_ps(in[4 * i].v, in[4 * i + 1].v));
    const auto b = pairs(_mm512_unpackhi_ps(in[4 * i].v, in[4 * i + 1].v));
    const auto c = pairs(_mm512_unpacklo_ps(in[4 * i + 2].v, in[4 * i + 3].v));
    const auto d = pairs(_mm512_unpackhi_ps(in[4 * i + 2].v, in[4 * i + 3].v));
    quads[i][0] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
    quads[i][1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
    quads[i][2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
    quads[i][3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const auto a = _mm512_shuffle_f32x4(quads[0][j], quads[1][j], 0x44);
    const auto b = _mm512_shuffle_f32x4(quads[0][j], quads[1][j], 0xEE);
    const auto c = _mm512_shuffle_f32x4(quads[2][j], quads[3][j], 0x44);
    const auto d = _mm512_shuffle_f32x4(quads[2][j], quads[3][j], 0xEE);
    out[j].v = _mm512_shuffle_f32x4(a, c, 0x88);
    out[4 + j].v = _mm512_shuffle_f32x4(a, c, 0xDD);
    out[8 + j].v = _mm512_shuffle_f32x4(b, d, 0x88);
    out[12 + j].v = _mm512_shuffle_f32x4(b, d, 0xDD);
  }
}

inline lanes load_f16(const std::byte* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
inline lanes load_bf16(const std::byte* p) {
  const auto wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16))};
}
inline lanes load_i8(const std::byte* p) {
  const auto bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))};
}
// Whole numbers from -128 to 127.
inline void store_i8(std::int8_t* p, lanes x) {
  const auto bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x.v));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
}

// Whole numbers of 32 bits, or four bytes each.
struct quants {
  __m512i v;
};
inline quants load_quants(const std::byte* p) { return {_mm512_loadu_si512(p)}; }
inline quants operator&(quants q, std::int32_t mask) {
  return {_mm512_and_si512(q.v, _mm512_set1_epi32(mask))};
}
inline quants operator+(quants x, quants y) { return {_mm512_add_epi32(x.v, y.v)}; }
inline quants operator>>(quants q, int n) {  // zeros come in
  return {_mm512_srl_epi32(q.v, _mm_cvtsi32_si128(n))};
}
inline quants operator<<(quants q, int n) { return {_mm512_sll_epi32(q.v, _mm_cvtsi32_si128(n))}; }
// Byte `i` of each word, with its sign.
inline quants signed_byte(quants q, int i) {
  return {_mm512_srai_epi32((q << (24 - 8 * i)).v, 24)};
}
inline lanes to_float(quants q) { return {_mm512_cvtepi32_ps(q.v)}; }

// Philox needs 32-bit words: low and high half of a * b.
struct words {
  __m512i v;
};
inline words splat_word(std::uint32_t x) { return {_mm512_set1_epi32(static_cast<int>(x))}; }
inline words count_from(std::uint32_t x) {
  const auto steps = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  return {_mm512_add_epi32(_mm512_set1_epi32(static_cast<int>(x)), steps)};
}
inline words operator^(words a, words b) { return {_mm512_xor_si512(a.v, b.v)}; }
inline void multiply(words a, std::uint32_t b, words& low, words& high) {
  const auto factor = _mm512_set1_epi32(static_cast<int>(b));
  const auto even = _mm512_mul_epu32(a.v, factor);
  const auto odd = _mm512_mul_epu32(_mm512_srli_epi64(a.v, 32), factor);
  low.v = _mm512_mask_blend_epi32(0xAAAA, even, _mm512_slli_epi64(odd, 32));
  high.v = _mm512_mask_blend_epi32(0xAAAA, _mm512_srli_epi64(even, 32), odd);
}
// (bits + 1/2) / 2^32, rounded to a float but never to 1; small ones keep all their bits.
inline lanes to_unit(words w) {
  const auto top = _mm512_cvtepi32_ps(_mm512_srli_epi32(w.v, 9));
  const auto rest = _mm512_cvtepi32_ps(_mm512_and_si512(w.v, _mm512_set1_epi32(511)));
  const auto low = _mm512_fmadd_ps(rest, _mm512_set1_ps(0x1p-32F), _mm512_set1_ps(0x1p-33F));
  const auto all = _mm512_fmadd_ps(top, _mm512_set1_ps(0x1p-23F), low);
  return {_mm512_min_ps(all, _mm512_set1_ps(1 - 0x1p-24F))};
}

}  // namespace dinfer::kernels::cpu::DINFER_ISA

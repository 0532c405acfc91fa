// SPDX-License-Identifier: Apache-2.0
// Sixteen floats, `lanes`, and the few operations that the inner loops are written in. One
// implementation per instruction set, chosen by the flags that the source is compiled with;
// DINFER_ISA names the namespace. sum and largest fold in halves, eight of sixteen first, whatever
// the hardware. For the sources of this folder alone.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#include "kernels/cpu/vector/lanes_avx512.hpp"
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "kernels/cpu/vector/lanes_avx2.hpp"
#include "kernels/cpu/vector/quants_avx2.hpp"
#include "kernels/cpu/vector/words_avx2.hpp"
#else
#include "kernels/cpu/vector/lanes_portable.hpp"
#include "kernels/cpu/vector/words_portable.hpp"
#endif

namespace dinfer::kernels::cpu::DINFER_ISA {

// The first `count` floats of p, then `fill`.
inline lanes load_partial(const float* p, std::int64_t count, float fill) {
  if (count >= 16) return load(p);
  alignas(64) float padded[16];
  for (std::int64_t i = 0; i < 16; ++i) padded[i] = i < count ? p[i] : fill;
  return load(padded);
}

inline void store_partial(float* p, std::int64_t count, lanes v) {
  if (count >= 16) return store(p, v);
  alignas(64) float padded[16];
  store(padded, v);
  for (std::int64_t i = 0; i < count; ++i) p[i] = padded[i];
}

// e^x to about an ulp; exactly 1 at 0 and 0 below -87.3; infinity above 88.7. Reduction by ln 2 in
// two parts, then the Taylor polynomial of degree 7 on |r| <= ln 2 / 2.
inline lanes exp(lanes x) {
  const lanes bounded = max(splat(-90.0F), min(splat(89.0F), x));
  const lanes n = round(bounded * splat(1.44269504F));
  lanes r = fma(n, splat(-0.693359375F), bounded);
  r = fma(n, splat(2.12194440e-4F), r);
  lanes p = splat(1.0F / 5040);
  p = fma(p, r, splat(1.0F / 720));
  p = fma(p, r, splat(1.0F / 120));
  p = fma(p, r, splat(1.0F / 24));
  p = fma(p, r, splat(1.0F / 6));
  p = fma(p, r, splat(0.5F));
  p = fma(p, r, splat(1.0F));
  p = fma(p, r, splat(1.0F));
  return where_less(x, splat(-87.3F), splat(0.0F), times_power_of_two(p, n));
}

// 2 atanh(s) = log((1 + s) / (1 - s)), |s| < 0.18: the odd series to s^11.
inline lanes log_ratio(lanes s) {
  const lanes z = s * s;
  lanes p = splat(2.0F / 11);
  p = fma(p, z, splat(2.0F / 9));
  p = fma(p, z, splat(2.0F / 7));
  p = fma(p, z, splat(2.0F / 5));
  p = fma(p, z, splat(2.0F / 3));
  return fma(p * z, s, s + s);
}

// Natural logarithm of normal, positive x = m 2^n, m in [sqrt(1/2), sqrt(2)], to a few ulps.
inline lanes log(lanes x) {
  lanes n, m;
  split_exponent(x, m, n);
  const lanes big = splat(1.41421356F);
  n = where_less(m, big, n, n + splat(1.0F));
  m = where_less(m, big, m, m * splat(0.5F));
  const lanes p = log_ratio((m - splat(1.0F)) / (m + splat(1.0F)));
  return fma(n, splat(0.693359375F), fma(n, splat(-2.12194440e-4F), p));
}

// log(1 - u), 0 < u < 1, as exact for tiny u as for others.
inline lanes log_one_minus(lanes u) {
  const lanes small = log_ratio((splat(0.0F) - u) / (splat(2.0F) - u));
  return where_less(u, splat(0.25F), small, log(splat(1.0F) - u));
}

}  // namespace dinfer::kernels::cpu::DINFER_ISA

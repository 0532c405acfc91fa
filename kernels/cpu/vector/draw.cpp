// SPDX-License-Identifier: Apache-2.0
// Loops over a vocabulary: the maximum, the sum of exponentials, and the noise of a draw. Noise is
// one Philox4x32-10 block per token (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2,
// 3"), counter (token, position low, position high, 0), key = seed; its first word makes a uniform
// u, and -log(-log(1 - u)) is the Gumbel number.
#include "kernels/cpu/vector/kernels.hpp"
#include "kernels/cpu/vector/lanes.hpp"
#include "kernels/cpu/vector/variant.inc"

namespace dinfer::kernels::cpu::DINFER_ISA {

namespace {

words philox(words counter, const noise_key& key) {
  constexpr int rounds = 10;
  words c0 = counter;
  words c1 = splat_word(static_cast<std::uint32_t>(key.position));
  words c2 = splat_word(static_cast<std::uint32_t>(key.position >> 32));
  words c3 = splat_word(0);
  auto k0 = static_cast<std::uint32_t>(key.seed);
  auto k1 = static_cast<std::uint32_t>(key.seed >> 32);
  for (int i = 0; i < rounds; ++i) {
    words low0, high0, low1, high1;
    multiply(c0, 0xD2511F53U, low0, high0);
    multiply(c2, 0xCD9E8D57U, low1, high1);
    c0 = high1 ^ c1 ^ splat_word(k0);
    c1 = low1;
    c2 = high0 ^ c3 ^ splat_word(k1);
    c3 = low0;
    k0 += 0x9E3779B9U;
    k1 += 0xBB67AE85U;
  }
  return c0;
}

}  // namespace

void find_max(const float* x, std::int64_t n, float* value, std::int64_t* index) {
  const lanes lowest = splat(-__builtin_inff());
  lanes best = lowest;
  for (std::int64_t i = 0; i < n; i += 16) {
    const lanes v = load_partial(x + i, n - i, -__builtin_inff());
    best = where_less(best, v, v, best);  // false for NaN
  }
  *value = largest(best);
  *index = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    if (x[i] == *value) {
      *index = i;
      return;
    }
  }
}

void add_gumbel(float* x, std::int64_t n, float scale, const noise_key& key) {
  const lanes zero = splat(0.0F);
  for (std::int64_t i = 0; i < n; i += 16) {
    const words counter = count_from(key.first_token + static_cast<std::uint32_t>(i));
    const lanes u = to_unit(philox(counter, key));
    const lanes gumbel = zero - log(zero - log_one_minus(u));
    const lanes v = load_partial(x + i, n - i, 0.0F);
    store_partial(x + i, n - i, fma(v, splat(scale), gumbel));
  }
}

double sum_exp(const float* x, std::int64_t n, float shift, float scale) {
  constexpr std::int64_t stretch = 512;  // summed in f32 before it joins the double
  double total = 0;
  for (std::int64_t begin = 0; begin < n; begin += stretch) {
    const std::int64_t end = begin + stretch < n ? begin + stretch : n;
    lanes part = splat(0.0F);
    for (std::int64_t i = begin; i < end; i += 16) {
      const lanes v = load_partial(x + i, end - i, -__builtin_inff());
      part = part + exp((v - splat(shift)) * splat(scale));
    }
    total += static_cast<double>(sum(part));
  }
  return total;
}

}  // namespace dinfer::kernels::cpu::DINFER_ISA

// SPDX-License-Identifier: Apache-2.0
// Words of 32 bits for lanes_portable.hpp: what counter-based noise is made of. Included by
// lanes.hpp alone.
#pragma once

#include "kernels/cpu/vector/lanes_portable.hpp"

namespace dinfer::kernels::cpu::DINFER_ISA {

// Philox needs 32-bit words: low and high half of a * b.
struct words {
  std::uint32_t v[16];
};
inline words splat_word(std::uint32_t x) {
  words r;
  for (auto& w : r.v) w = x;
  return r;
}
inline words count_from(std::uint32_t x) {
  words r;
  for (auto& w : r.v) w = x++;
  return r;
}
inline words operator^(words a, const words& b) {
  for (int i = 0; i < 16; ++i) a.v[i] ^= b.v[i];
  return a;
}
inline void multiply(const words& a, std::uint32_t b, words& low, words& high) {
  for (int i = 0; i < 16; ++i) {
    const auto product = static_cast<std::uint64_t>(a.v[i]) * b;
    low.v[i] = static_cast<std::uint32_t>(product);
    high.v[i] = static_cast<std::uint32_t>(product >> 32);
  }
}
// (bits + 1/2) / 2^32, rounded to a float but never to 1; small ones keep all their bits.
inline lanes to_unit(const words& w) {
  return each([&](int i) {
    const float low = static_cast<float>(w.v[i] & 511U) * 0x1p-32F + 0x1p-33F;
    const float all = static_cast<float>(w.v[i] >> 9) * 0x1p-23F + low;
    return all < 1 ? all : 1 - 0x1p-24F;
  });
}

}  // namespace dinfer::kernels::cpu::DINFER_ISA

// SPDX-License-Identifier: Apache-2.0
// Products of bytes in plain loops. Included by dot.cpp alone.
#pragma once

#include "kernels/cpu/vector/lanes.hpp"

namespace dinfer::kernels::cpu::DINFER_ISA {

inline constexpr int dot_rows = 2;  // of activations that run over a panel together
inline constexpr int unrolled = 1;  // the loops within are long enough

// Four bytes, in every lane.
struct four_bytes {
  std::int8_t v[4];
};
inline four_bytes splat_four(const std::int8_t* p) {
  four_bytes x;
  __builtin_memcpy(x.v, p, 4);
  return x;
}

// The sum of each lane; the name is that of machines with two sums of 16 bits a lane.
struct half_sums {
  std::int32_t v[16];
};
inline void multiply_add_signed(half_sums& to, const quants& w, const four_bytes& x) {
  std::int8_t bytes[64];
  __builtin_memcpy(bytes, w.v, sizeof bytes);
  for (int i = 0; i < 16; ++i) {
    to.v[i] += bytes[4 * i] * x.v[0] + bytes[4 * i + 1] * x.v[1] + bytes[4 * i + 2] * x.v[2] +
               bytes[4 * i + 3] * x.v[3];
  }
}
inline void multiply_add(half_sums& to, const quants& w, const four_bytes& x) {
  multiply_add_signed(to, w, x);
}
inline quants sum_halves(const half_sums& x) {
  quants r;
  for (int i = 0; i < 16; ++i) r.v[i] = x.v[i];
  return r;
}

inline void store_quants(std::byte* p, const quants& q) { __builtin_memcpy(p, q.v, sizeof q.v); }

}  // namespace dinfer::kernels::cpu::DINFER_ISA

// SPDX-License-Identifier: Apache-2.0
// lanes.hpp in plain loops, which compilers turn into whatever the machine has. `fma` rounds twice:
// a fused one in software would be far slower, and results need to agree on one machine only.
#pragma once

#include "kernels/cpu/half.hpp"

namespace dinfer::kernels::cpu::DINFER_ISA {

// A block of a matrix product holds: 8 sums in 16 registers of 128 bits.
inline constexpr int tile_rows = 2, tile_panels = 1;

struct lanes {
  alignas(16) float v[16];
};

template <class F>
inline lanes each(F&& f) {
  lanes r;
  for (int i = 0; i < 16; ++i) r.v[i] = f(i);
  return r;
}

inline lanes load(const float* p) {
  lanes r;
  __builtin_memcpy(r.v, p, sizeof r.v);
  return r;
}
inline void store(float* p, const lanes& a) { __builtin_memcpy(p, a.v, sizeof a.v); }
inline lanes splat(float x) {
  return each([&](int) { return x; });
}
inline lanes operator+(const lanes& a, const lanes& b) {
  return each([&](int i) { return a.v[i] + b.v[i]; });
}
inline lanes operator-(const lanes& a, const lanes& b) {
  return each([&](int i) { return a.v[i] - b.v[i]; });
}
inline lanes operator*(const lanes& a, const lanes& b) {
  return each([&](int i) { return a.v[i] * b.v[i]; });
}
inline lanes operator/(const lanes& a, const lanes& b) {
  return each([&](int i) { return a.v[i] / b.v[i]; });
}
inline lanes fma(const lanes& a, const lanes& b, const lanes& c) {
  return each([&](int i) { return a.v[i] * b.v[i] + c.v[i]; });
}
// NaN in b is kept.
inline lanes max(const lanes& a, const lanes& b) {
  return each([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
inline lanes min(const lanes& a, const lanes& b) {
  return each([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
inline lanes round(const lanes& a) {  // |a| < 2^22: adding 1.5 * 2^23 drops the fraction
  return each([&](int i) { return (a.v[i] + 0x1.8p23F) - 0x1.8p23F; });
}
inline lanes times_power_of_two(const lanes& a, const lanes& n) {
  return each([&](int i) {
    const auto power = static_cast<std::int32_t>(n.v[i]);
    const auto half = power / 2;
    const auto p = static_cast<std::uint32_t>(half + 127) << 23;
    const auto q = static_cast<std::uint32_t>(power - half + 127) << 23;
    return a.v[i] * __builtin_bit_cast(float, p) * __builtin_bit_cast(float, q);
  });
}
inline void split_exponent(const lanes& x, lanes& m, lanes& n) {
  for (int i = 0; i < 16; ++i) {
    const auto bits = __builtin_bit_cast(std::uint32_t, x.v[i]);
    m.v[i] = __builtin_bit_cast(float, (bits & 0x007FFFFFU) | 0x3F800000U);
    n.v[i] = static_cast<float>(static_cast<std::int32_t>(bits >> 23) - 127);
  }
}
// a < b ? yes : no
inline lanes where_less(const lanes& a, const lanes& b, const lanes& yes, const lanes& no) {
  return each([&](int i) { return a.v[i] < b.v[i] ? yes.v[i] : no.v[i]; });
}

// Columns become rows.
inline void transpose(const lanes (&in)[16], lanes (&out)[16]) {
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 16; ++j) out[j].v[i] = in[i].v[j];
  }
}

inline std::uint16_t read_u16(const std::byte* p) {
  std::uint16_t x;
  __builtin_memcpy(&x, p, 2);
  return x;
}
inline lanes load_f16(const std::byte* p) {
  return each([&](int i) { return from_f16(read_u16(p + 2 * i)); });
}
inline lanes load_bf16(const std::byte* p) {
  return each([&](int i) { return from_bf16(read_u16(p + 2 * i)); });
}
inline lanes load_i8(const std::byte* p) {
  return each([&](int i) { return static_cast<float>(static_cast<std::int8_t>(p[i])); });
}
// Whole numbers from -128 to 127.
inline void store_i8(std::int8_t* p, lanes x) {
  for (int i = 0; i < 16; ++i) p[i] = static_cast<std::int8_t>(x.v[i]);
}

// Whole numbers of 32 bits, or four bytes each.
struct quants {
  std::int32_t v[16];
};
template <class F>
inline quants each_word(F&& f) {
  quants r;
  for (int i = 0; i < 16; ++i) r.v[i] = static_cast<std::int32_t>(f(i));
  return r;
}
inline quants load_quants(const std::byte* p) {
  quants q;
  __builtin_memcpy(q.v, p, sizeof q.v);
  return q;
}
inline quants operator&(const quants& q, std::int32_t mask) {
  return each_word([&](int i) { return q.v[i] & mask; });
}
inline quants operator+(const quants& x, const quants& y) {
  return each_word([&](int i) { return x.v[i] + y.v[i]; });
}
inline quants operator>>(const quants& q, int n) {  // zeros come in
  return each_word([&](int i) { return static_cast<std::uint32_t>(q.v[i]) >> n; });
}
inline quants operator<<(const quants& q, int n) {
  return each_word([&](int i) { return static_cast<std::uint32_t>(q.v[i]) << n; });
}
// Byte `i` of each word, with its sign.
inline quants signed_byte(const quants& q, int i) {
  return each_word([&](int n) { return static_cast<std::int8_t>(q.v[n] >> (8 * i)); });
}
inline lanes to_float(const quants& q) {
  return each([&](int i) { return static_cast<float>(q.v[i]); });
}

inline float sum(lanes v) {
  for (int width = 8; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) v.v[i] += v.v[i + width];
  }
  return v.v[0];
}

inline float largest(lanes v) {
  for (int width = 8; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) v.v[i] = v.v[i] > v.v[i + width] ? v.v[i] : v.v[i + width];
  }
  return v.v[0];
}

}  // namespace dinfer::kernels::cpu::DINFER_ISA

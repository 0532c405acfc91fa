// SPDX-License-Identifier: Apache-2.0
// Where GGUF keeps the parts of a super-block: q4_k and q5_k: d, m, twelve bytes of 6-bit scales
// and minima, q5_k's fifth bits, nibbles; q6_k: nibbles, upper bits, scales, d. All products of d,
// scale and quant are exact in f32 (11 + 8 + 6 bits at most), so a value is rounded once.
#include "kernels/cpu/super_block.hpp"

#include "kernels/cpu/half.hpp"

#include <cstring>

namespace dinfer::kernels::cpu {

namespace {

constexpr std::int32_t block = 32, lanes = 16;

int at(const std::byte* p, std::int32_t i) noexcept { return std::to_integer<int>(p[i]); }

std::uint16_t half_at(const std::byte* p) noexcept {
  std::uint16_t h;
  std::memcpy(&h, p, sizeof h);
  return h;
}

// Scales and minima of eight blocks; the last four have their upper two bits with the first four.
void read_scales(const std::byte* in, super_block& out) noexcept {
  for (std::int32_t j = 0; j < 8; ++j) {
    int scale = at(in, j) & 63, minimum = at(in, (j + 4) % 8) & 63;
    if (j >= 4) {
      scale = (at(in, j + 4) & 15) | (at(in, j - 4) >> 6) << 4;
      minimum = at(in, j + 4) >> 4 | (at(in, j) >> 6) << 4;
    }
    for (const auto i : {2 * j, 2 * j + 1}) {
      out.scales[static_cast<std::size_t>(i)] = static_cast<std::int8_t>(scale);
      out.minima[static_cast<std::size_t>(i)] = static_cast<std::int8_t>(minimum);
    }
  }
}

// q4_k, q5_k: 64 elements share 32 bytes of nibbles, the first half in the low ones.
void read_k45(dtype type, const std::byte* in, super_block& out) noexcept {
  out.d = half_at(in);
  out.m = half_at(in + 2);
  read_scales(in + 4, out);
  const std::byte* fifth = in + 16;
  const std::byte* nibbles = type == dtype::q5_k ? fifth + 32 : fifth;
  for (std::int32_t k = 0; k < super_block_elements; ++k) {
    int q = at(nibbles, k / 64 * 32 + k % 32) >> (k / 32 % 2 * 4) & 15;
    if (type == dtype::q5_k) q |= (at(fifth, k % 32) >> (k / 32) & 1) << 4;
    out.quants[static_cast<std::size_t>(k)] = static_cast<std::int8_t>(q);
  }
}

// q6_k: 128 elements share 64 bytes of nibbles and 32 bytes of upper bits.
void read_k6(const std::byte* in, super_block& out) noexcept {
  const std::byte* upper = in + 128;
  const std::byte* scales = in + 192;
  out.d = half_at(in + 208);
  std::memcpy(out.scales.data(), scales, out.scales.size());
  for (std::int32_t k = 0; k < super_block_elements; ++k) {
    const std::int32_t half = k / 128, quarter = k / 32 % 4, i = k % 32;
    const int low = at(in, 64 * half + quarter % 2 * 32 + i) >> (quarter / 2 * 4) & 15;
    const int high = at(upper, 32 * half + i) >> (2 * quarter) & 3;
    out.quants[static_cast<std::size_t>(k)] = static_cast<std::int8_t>((low | high << 4) - 32);
  }
}

struct packed_layout {
  std::int32_t head, upper, nibbles, bytes;  // of the head; within a block; of a block
};
constexpr packed_layout layout_of(dtype type) noexcept {
  if (type == dtype::q4_k) return {64, 32, 32, 288};
  if (type == dtype::q5_k) return {64, 32, 96, 352};
  return {32, 32, 160, 416};
}

void put(std::byte* to, int bits) noexcept { *to |= static_cast<std::byte>(bits); }

}  // namespace

super_block take_apart(dtype type, const std::byte* in) noexcept {
  super_block out;
  if (type == dtype::q6_k) {
    read_k6(in, out);
  } else {
    read_k45(type, in, out);
  }
  return out;
}

void expand(const super_block& from, float* out) noexcept {
  const float d = from_f16(from.d), m = from_f16(from.m);
  for (std::size_t k = 0; k < super_block_elements; ++k) {
    const float scale = d * static_cast<float>(from.scales[k / 16]);
    out[k] =
        scale * static_cast<float>(from.quants[k]) - m * static_cast<float>(from.minima[k / 16]);
  }
}

void pack_super_block(dtype type, const std::byte* in, std::int32_t lane, std::byte* out) noexcept {
  const super_block from = take_apart(type, in);
  const packed_layout layout = layout_of(type);
  const bool six = type == dtype::q6_k;
  std::memcpy(out + 2 * lane, &from.d, 2);
  if (!six) std::memcpy(out + 32 + 2 * lane, &from.m, 2);
  for (std::int32_t k = 0; k < super_block_elements; ++k) {
    std::byte* to = out + layout.head + k / block * layout.bytes;
    const std::int32_t i = k % block;
    const auto group = static_cast<std::size_t>(k / 16);
    const int q = from.quants[static_cast<std::size_t>(k)] + (six ? 32 : 0);
    if (six) {
      to[i / 16 * lanes + lane] = static_cast<std::byte>(from.scales[group]);
      put(to + layout.upper + upper_place(i, lane), q >> 4 << upper_shift(i));
    } else {
      to[lane] = static_cast<std::byte>(from.scales[group]);
      to[lanes + lane] = static_cast<std::byte>(from.minima[group]);
    }
    if (type == dtype::q5_k) put(to + layout.upper + 4 * lane + i / 8, q >> 4 << (i % 8));
    put(to + layout.nibbles + nibble_place(i, lane), (q & 15) << nibble_shift(i));
  }
}

float packed_element(dtype type, const std::byte* packed, std::int32_t k,
                     std::int32_t lane) noexcept {
  const packed_layout layout = layout_of(type);
  const std::byte* from = packed + layout.head + k / block * layout.bytes;
  const std::int32_t i = k % block;
  const float d = from_f16(half_at(packed + 2 * lane));
  int q = at(from, layout.nibbles + nibble_place(i, lane)) >> nibble_shift(i) & 15;
  if (type == dtype::q6_k) {
    q |= (at(from, layout.upper + upper_place(i, lane)) >> upper_shift(i) & 3) << 4;
    const auto scale = std::to_integer<std::int8_t>(from[i / 16 * lanes + lane]);
    return d * static_cast<float>(scale) * static_cast<float>(q - 32);
  }
  if (type == dtype::q5_k) q |= (at(from, layout.upper + 4 * lane + i / 8) >> (i % 8) & 1) << 4;
  const float m = from_f16(half_at(packed + 32 + 2 * lane));
  return d * static_cast<float>(at(from, lane)) * static_cast<float>(q) -
         m * static_cast<float>(at(from, lanes + lane));
}

}  // namespace dinfer::kernels::cpu

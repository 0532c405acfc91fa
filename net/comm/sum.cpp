// SPDX-License-Identifier: Apache-2.0
// Blocks of a few KB are widened, added and narrowed while they lie in the first cache.
#include "net/comm/sum.hpp"

#include "dinfer/error.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

namespace dinfer::net {
namespace {

using kernels::dtype;
constexpr std::int64_t block = 1024;

float from_bf16(std::uint16_t bits) { return std::bit_cast<float>(std::uint32_t{bits} << 16); }

// Round to nearest, ties to even; a NaN stays one.
std::uint16_t to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto rounded = static_cast<std::uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
  return value != value ? static_cast<std::uint16_t>(bits >> 16 | 0x40) : rounded;
}

// The exponent is moved by a multiplication, which also makes subnormal halves normal.
float from_f16(std::uint16_t bits) {
  const auto sign = static_cast<std::uint32_t>(bits & 0x8000) << 16;
  const auto magnitude = static_cast<std::uint32_t>(bits & 0x7fff) << 13;
  const bool special = (bits & 0x7c00) == 0x7c00;
  const float scaled = std::bit_cast<float>(magnitude) * 0x1p112f;
  const auto out = special ? magnitude | 0x7f800000 : std::bit_cast<std::uint32_t>(scaled);
  return std::bit_cast<float>(out | sign);
}

// Adding a number whose last place is the half's last place rounds as the hardware does.
std::uint16_t to_f16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000);
  const auto magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return static_cast<std::uint16_t>(sign | 0x7e00);
  if (magnitude >= 0x477ff000) return static_cast<std::uint16_t>(sign | 0x7c00);  // rounds to inf
  if (magnitude < 0x38800000) {  // subnormal half: its last place is 2^-24
    const float aligned = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<std::uint16_t>(
        sign | (std::bit_cast<std::uint32_t>(aligned) - std::bit_cast<std::uint32_t>(0.5f)));
  }
  const auto rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
  return static_cast<std::uint16_t>(sign | ((rounded - (112u << 23)) >> 13));
}

template <class Widen, class Narrow>
void sum_half(std::span<const void* const> parts, void* out, std::int64_t elements, Widen widen,
              Narrow narrow) {
  std::array<float, block> sums;
  for (std::int64_t at = 0; at < elements; at += block) {
    const auto count = std::min(block, elements - at);
    for (std::size_t part = 0; part < parts.size(); ++part) {
      const auto* from = static_cast<const std::uint16_t*>(parts[part]) + at;
      for (std::int64_t i = 0; i < count; ++i)
        sums[static_cast<std::size_t>(i)] =
            part == 0 ? widen(from[i]) : sums[static_cast<std::size_t>(i)] + widen(from[i]);
    }
    auto* to = static_cast<std::uint16_t*>(out) + at;
    for (std::int64_t i = 0; i < count; ++i) to[i] = narrow(sums[static_cast<std::size_t>(i)]);
  }
}

void sum_f32(std::span<const void* const> parts, float* out, std::int64_t elements) {
  std::array<float, block> sums;
  for (std::int64_t at = 0; at < elements; at += block) {
    const auto count = std::min(block, elements - at);
    std::memcpy(sums.data(), static_cast<const float*>(parts[0]) + at,
                static_cast<std::size_t>(count) * sizeof(float));
    for (std::size_t part = 1; part < parts.size(); ++part) {
      const float* from = static_cast<const float*>(parts[part]) + at;
      float* to = sums.data();
      for (std::int64_t i = 0; i < count; ++i) to[i] += from[i];
    }
    std::memcpy(out + at, sums.data(), static_cast<std::size_t>(count) * sizeof(float));
  }
}

}  // namespace

void sum_in_order(dtype type, std::span<const void* const> parts, void* out,
                  std::int64_t elements) {
  DINFER_ASSERT(summable(type) && !parts.empty());
  if (type == dtype::f32) return sum_f32(parts, static_cast<float*>(out), elements);
  if (type == dtype::bf16) return sum_half(parts, out, elements, from_bf16, to_bf16);
  sum_half(parts, out, elements, from_f16, to_f16);
}

}  // namespace dinfer::net

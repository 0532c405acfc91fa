// SPDX-License-Identifier: Apache-2.0
// A block of 32 elements is: scale d (f16); for *_1 an offset m (f16); for q5 32 fifth bits; then
// the quants. Element i < 16 of q4 and q5 is the low nibble of byte i, element 16 + i the high one.
// Super-blocks have a file of their own.
#include "kernels/cpu/dequantize.hpp"

#include "dinfer/error.hpp"
#include "kernels/cpu/half.hpp"
#include "kernels/cpu/super_block.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace dinfer::kernels::cpu {

namespace {

constexpr std::int64_t block = 32;

template <class T>
T read(const std::byte* p) noexcept {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

// Fourth bits low, fifth bit from `high`.
void block_of_nibbles(const std::byte* quants, std::uint32_t high, int zero, float d, float m,
                      float* out) {
  for (int i = 0; i < 16; ++i) {
    const int byte = std::to_integer<int>(quants[i]);
    const int low = (byte & 15) | static_cast<int>((high >> i) & 1U) << 4;
    const int top = (byte >> 4) | static_cast<int>((high >> (i + 16)) & 1U) << 4;
    out[i] = d * static_cast<float>(low - zero) + m;
    out[i + 16] = d * static_cast<float>(top - zero) + m;
  }
}

void one_block(dtype type, const std::byte* in, float* out) {
  if (has_super_blocks(type)) return expand(take_apart(type, in), out);
  const float d = from_f16(read<std::uint16_t>(in));
  switch (type) {
    case dtype::q4_0:
      return block_of_nibbles(in + 2, 0, 8, d, -0.0F, out);
    case dtype::q4_1:
      return block_of_nibbles(in + 4, 0, 0, d, from_f16(read<std::uint16_t>(in + 2)), out);
    case dtype::q5_0:
      return block_of_nibbles(in + 6, read<std::uint32_t>(in + 2), 16, d, -0.0F, out);
    case dtype::q5_1:
      return block_of_nibbles(in + 8, read<std::uint32_t>(in + 4), 0, d,
                              from_f16(read<std::uint16_t>(in + 2)), out);
    default:
      for (int i = 0; i < block; ++i) {
        out[i] = d * static_cast<float>(std::to_integer<std::int8_t>(in[2 + i]));
      }
  }
}

}  // namespace

bool is_weight_type(dtype type) noexcept { return type != dtype::i32 && type != dtype::u8; }

void dequantize_row(dtype type, const std::byte* in, float* out, std::int64_t n) {
  DINFER_ASSERT(is_weight_type(type) && n % info(type).block_elements == 0);
  if (type == dtype::f32) {
    std::memcpy(out, in, static_cast<std::size_t>(n) * sizeof(float));
  } else if (type == dtype::f16) {
    for (std::int64_t i = 0; i < n; ++i) out[i] = from_f16(read<std::uint16_t>(in + 2 * i));
  } else if (type == dtype::bf16) {
    for (std::int64_t i = 0; i < n; ++i) out[i] = from_bf16(read<std::uint16_t>(in + 2 * i));
  } else if (type == dtype::f8_e4m3) {
    for (std::int64_t i = 0; i < n; ++i) out[i] = from_f8(read<std::uint8_t>(in + i));
  } else {
    const std::int64_t elements = info(type).block_elements;
    for (std::int64_t i = 0; i < n; i += elements)
      one_block(type, in + row_bytes(type, i), out + i);
  }
}

void dequantize_columns(dtype type, const std::byte* row, std::int64_t begin, std::int64_t end,
                        float* out) {
  std::array<float, super_block_elements> covering;
  const std::int64_t elements = info(type).block_elements;
  while (begin < end) {
    const std::int64_t first = begin / elements * elements;
    const std::byte* in = row + row_bytes(type, first);
    const std::int64_t whole = (end - first) / elements * elements;
    if (first == begin && whole > 0) {
      dequantize_row(type, in, out, whole);
      out += whole;
      begin += whole;
      continue;
    }
    dequantize_row(type, in, covering.data(), elements);
    const std::int64_t stop = std::min(end, first + elements);
    out = std::copy(covering.data() + (begin - first), covering.data() + (stop - first), out);
    begin = stop;
  }
}

}  // namespace dinfer::kernels::cpu

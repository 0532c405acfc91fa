// SPDX-License-Identifier: Apache-2.0
// What packed matrices of a GPU should hold, from the stored bytes, and what they do hold, read one
// element at a time as kernels/cuda/packed_layout.hpp describes it, without a line of the kernels.
#pragma once

#include "kernels/cpu/super_block.hpp"
#include "kernels/cuda/packed_layout.hpp"
#include "tests/kernels/cuda/gpu_support.hpp"

namespace dinfer::tests {

inline const std::vector<kernels::dtype>& quantised_types() {
  using kernels::dtype;
  static const std::vector<dtype> types{dtype::q4_0, dtype::q4_1, dtype::q5_0, dtype::q5_1,
                                        dtype::q8_0, dtype::q4_k, dtype::q5_k, dtype::q6_k};
  return types;
}

inline float half_rounded(float v) { return kernels::cpu::from_f16(kernels::cpu::to_f16(v)); }

// A stored matrix as it is packed: elements, and what sums of them are off by relative to: the size
// of scale times code and of the minimum, at their largest.
struct packed_numbers {
  std::int64_t rows, columns;
  std::vector<float> values, sizes;

  explicit packed_numbers(const stored_matrix& m)
      : rows(m.rows), columns(m.columns), values(m.expanded()), sizes(values.size()) {
    const auto layout = kernels::info(m.type);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < columns; c += layout.block_elements) {
        const std::byte* block =
            m.data.data() + r * row_bytes(m.type, columns) + row_bytes(m.type, c);
        const auto at = static_cast<std::size_t>(r * columns + c);
        if (layout.block_elements == 256) super(m.type, block, at);
        else simple(m.type, block, at);
      }
    }
  }

  std::vector<float> part(std::int64_t row_begin, std::int64_t row_end, std::int64_t column_begin,
                          std::int64_t column_end, const std::vector<float>& of) const {
    std::vector<float> out;
    for (auto r = row_begin; r < row_end; ++r)
      out.insert(out.end(), of.begin() + r * columns + column_begin,
                 of.begin() + r * columns + column_end);
    return out;
  }

 private:
  static float half_at(const std::byte* p) {
    std::uint16_t h;
    std::memcpy(&h, p, sizeof h);
    return kernels::cpu::from_f16(h);
  }
  void simple(kernels::dtype type, const std::byte* block, std::size_t at) {
    using kernels::dtype;
    const float d = half_at(block);
    const float m = type == dtype::q4_1 || type == dtype::q5_1 ? half_at(block + 2) : 0;
    for (std::size_t i = 0; i < 32; ++i) {
      sizes[at + i] = std::abs(d) * (type == dtype::q8_0 ? 128 : 48) + std::abs(m);
    }
  }
  // Scales and minima rounded to f16.
  void super(kernels::dtype type, const std::byte* block, std::size_t at) {
    const auto b = kernels::cpu::take_apart(type, block);
    const float d = kernels::cpu::from_f16(b.d), m = kernels::cpu::from_f16(b.m);
    for (std::size_t i = 0; i < 256; ++i) {
      const float scale = half_rounded(d * static_cast<float>(b.scales[i / 16]));
      const float minimum = half_rounded(m * static_cast<float>(b.minima[i / 16]));
      values[at + i] = scale * static_cast<float>(b.quants[i]) - minimum;
      sizes[at + i] = std::abs(scale) * 48 + std::abs(minimum);
    }
  }
};

// Element (row, column) of a packed matrix in host memory.
inline float packed_element(const kernels::cuda::packed_matrix& m, std::int64_t row,
                            std::int64_t column) {
  using kernels::cuda::packed_kind;
  const bool four = m.kind == packed_kind::four, lone = m.kind == packed_kind::eight;
  const bool pairs = four || m.kind == packed_kind::eight_minimum;
  const std::int64_t code_bytes = four ? 512 : 1024, row_scales = lone ? 4 : 8;
  const std::int64_t block_bytes = code_bytes + 16 * row_scales;
  const std::byte* block =
      m.data + (row / 16 * ((m.columns + 63) / 64) + column / 64) * block_bytes;
  const std::int64_t g = row % 8, half = row % 16 / 8, step = column % 64 / 16, t = column % 16 / 4,
                     i = column % 4, thread = 4 * g + t;
  int code = 0;
  if (four) {
    std::uint32_t word;
    std::memcpy(&word, block + 16 * thread + 8 * half + 4 * (step / 2), sizeof word);
    const std::int64_t place = 2 * (step % 2) + i / 2;  // of columns 0, 2, 0, 2 or 1, 3, 1, 3
    code = static_cast<int>(word >> (4 * place + 16 * (i % 2)) & 15U);
  } else {
    code = std::to_integer<int>(block[512 * half + 16 * thread + 4 * step + i]) - 128;
  }
  const std::byte* scales = block + code_bytes + 2 * row_scales * g + row_scales * half;
  const auto half_at = [&](std::int64_t index) {
    std::uint16_t h;
    std::memcpy(&h, scales + 2 * index, sizeof h);
    return kernels::cpu::from_f16(h);
  };
  const std::int64_t group = column % 64 / 32;
  if (pairs) return half_at(2 * group) * static_cast<float>(code) + half_at(2 * group + 1);
  return half_at(lone ? group : step) * static_cast<float>(code);
}

// All of it.
inline std::vector<float> packed_values(const kernels::cuda::packed_matrix& m) {
  std::vector<float> out;
  for (std::int64_t r = 0; r < m.rows; ++r)
    for (std::int64_t c = 0; c < m.columns; ++c) out.push_back(packed_element(m, r, c));
  return out;
}

// Values alike but for the sign of zeros.
inline void check_values(const std::string& what, std::vector<float> got, std::vector<float> right,
                         std::int64_t columns) {
  for (float& v : got) v += 0.0F;
  for (float& v : right) v += 0.0F;
  check_same(what, got, right, columns);
}

}  // namespace dinfer::tests

// SPDX-License-Identifier: Apache-2.0
// 8-bit floats as tests know them: torch's float8_e4m3fn by a stored table
// (tests/reference/f8_reference.py), and rows that are scaled and rounded as kernels/cuda/fp8.hpp
// says, one element at a time.
#pragma once

#include "tests/support/catch.hpp"
#include "tests/support/model_path.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <ios>
#include <span>
#include <vector>

namespace dinfer::tests {

class f8_table {
 public:
  static constexpr std::uint8_t nan = 0x7F;

  f8_table() {
    std::ifstream stream(repository_file("tests/golden/f8_e4m3.txt"));
    for (std::size_t code = 0; code < nan; ++code) {
      std::uint32_t value = 0;
      stream >> std::hex >> value >> begins_[code];
      values_[code] = std::bit_cast<float>(value);
    }
    REQUIRE(stream);
  }

  float value(std::uint8_t code) const {
    if ((code & nan) == nan) return NAN;
    return std::copysign(values_[code & nan], code & 0x80 ? -1.0F : 1.0F);
  }
  // Saturated; of a NaN 127, whatever its sign.
  std::uint8_t code(float v) const {
    if (std::isnan(v)) return nan;
    const auto bits = std::bit_cast<std::uint32_t>(v);
    const auto after = std::upper_bound(begins_.begin(), begins_.end(), bits & 0x7FFFFFFFU);
    return static_cast<std::uint8_t>(static_cast<std::uint32_t>(after - begins_.begin() - 1) |
                                     (bits >> 24 & 0x80U));
  }
  const auto& begins() const { return begins_; }  // bits of the first float of each code

 private:
  std::array<float, nan> values_{};
  std::array<std::uint32_t, nan> begins_{};
};

struct f8_row {
  std::vector<std::uint8_t> codes;
  float scale = 1;
};

inline f8_row f8_row_of(const f8_table& table, std::span<const float> values) {
  float largest = 0, inverse = 1;
  bool whole = true;
  f8_row row;
  for (const float v : values) {
    whole = whole && std::isfinite(v);
    largest = std::max(largest, std::abs(v));
  }
  if (!whole) {  // nothing of it is used but that it is not finite
    row.scale = NAN;
    row.codes.assign(values.size(), f8_table::nan);
    return row;
  }
  if (largest >= 0x1p-100F) {
    row.scale = largest / 448.0F;
    inverse = 448.0F / largest;
  }
  for (const float v : values) row.codes.push_back(table.code(v * inverse));
  return row;
}

// What the row stands for, in double.
inline std::vector<double> decoded(const f8_table& table, const f8_row& row) {
  std::vector<double> out;
  for (const auto code : row.codes)
    out.push_back(static_cast<double>(table.value(code)) * static_cast<double>(row.scale));
  return out;
}

}  // namespace dinfer::tests

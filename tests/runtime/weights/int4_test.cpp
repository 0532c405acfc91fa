// SPDX-License-Identifier: Apache-2.0
// 4-bit numbers in every order to blocks of q4_1: the numbers exactly, scales and offsets within
// what 16-bit floats allow, any part of a matrix, and scales that are none. The packing here is by
// one element at a time.
#include "runtime/weights/int4.hpp"

#include "kernels/cpu/dequantize.hpp"
#include "kernels/cpu/half.hpp"
#include "tests/support/catch.hpp"

#include <array>
#include <cmath>
#include <cstring>
#include <random>

namespace dinfer::tests {
namespace {

using Catch::Matchers::Contains;
using kernels::dtype;
using runtime::int4_order;
using runtime::range;

struct numbers {
  std::int64_t rows, columns, group;
  std::vector<std::uint32_t> q, zero;  // [rows, columns], [rows, groups]
  std::vector<float> scale;            // [rows, groups]
  std::int64_t groups() const { return columns / group; }
};

numbers drawn(std::int64_t rows, std::int64_t columns, std::int64_t group, dtype scales,
              std::mt19937& random) {
  numbers out{rows, columns, group, {}, {}, {}};
  for (std::int64_t i = 0; i < rows * columns; ++i) out.q.push_back(random() % 16);
  for (std::int64_t i = 0; i < rows * out.groups(); ++i) {
    out.zero.push_back(random() % 16);
    const float s = 0.001F + static_cast<float>(random() % 10000) * 1e-6F;
    out.scale.push_back(scales == dtype::f16    ? kernels::cpu::from_f16(kernels::cpu::to_f16(s))
                        : scales == dtype::bf16 ? kernels::cpu::from_bf16(kernels::cpu::to_bf16(s))
                                                : s);
  }
  return out;
}

void set_nibble(std::vector<std::uint32_t>& words, std::int64_t word, int place, std::uint32_t n) {
  words.at(static_cast<std::size_t>(word)) |= n << 4 * place;
}

std::span<const std::byte> bytes_of(const auto& values) { return std::as_bytes(std::span(values)); }

// What a checkpoint holds of such numbers.
struct stored {
  std::vector<std::uint32_t> words, zeros;
  std::vector<float> wide;
  std::vector<std::uint16_t> narrow;
  runtime::int4_matrix matrix;

  stored(const numbers& n, int4_order order, dtype scales, bool less_one = false,
         bool has_zeros = true) {
    constexpr std::array<int, 8> awq{0, 4, 1, 5, 2, 6, 3, 7};  // of each row of a word
    const bool by_row = order == int4_order::by_row;
    words.resize(static_cast<std::size_t>(n.rows * n.columns / 8));
    zeros.resize(static_cast<std::size_t>((n.rows + 7) / 8 * n.groups()));
    for (std::int64_t r = 0; r < n.rows; ++r) {
      for (std::int64_t c = 0; c < n.columns; ++c) {
        const auto q = n.q[static_cast<std::size_t>(r * n.columns + c)];
        if (by_row) set_nibble(words, (r * n.columns + c) / 8, static_cast<int>(c % 8), q);
        else if (order == int4_order::gptq)
          set_nibble(words, c / 8 * n.rows + r, static_cast<int>(c % 8), q);
        else set_nibble(words, (c * n.rows + r) / 8, awq[static_cast<std::size_t>(r % 8)], q);
      }
      for (std::int64_t g = 0; g < n.groups(); ++g) {
        const auto z = n.zero[static_cast<std::size_t>(r * n.groups() + g)] - (less_one ? 1 : 0);
        const int place = order == int4_order::awq ? awq[static_cast<std::size_t>(r % 8)]
                                                   : static_cast<int>(r % 8);
        set_nibble(zeros, by_row ? r / 8 * n.groups() + g : g * (n.rows / 8) + r / 8, place,
                   z & 15);
      }
    }
    for (std::int64_t i = 0; i < n.rows * n.groups(); ++i) {
      const std::int64_t r = by_row ? i / n.groups() : i % n.rows;
      const std::int64_t g = by_row ? i % n.groups() : i / n.rows;
      const float s = n.scale[static_cast<std::size_t>(r * n.groups() + g)];
      wide.push_back(s);
      narrow.push_back(scales == dtype::f16 ? kernels::cpu::to_f16(s) : kernels::cpu::to_bf16(s));
    }
    matrix = {order,
              n.rows,
              n.columns,
              n.group,
              bytes_of(words),
              has_zeros ? bytes_of(zeros) : std::span<const std::byte>(),
              scales == dtype::f32 ? bytes_of(wide) : bytes_of(narrow),
              scales,
              less_one,
              "w.scales",
              "f.safetensors"};
  }
  stored(const stored&) = delete;
  stored& operator=(const stored&) = delete;
};

// Rows and whole blocks of columns against scale * (q - zero) in double.
void check_part(const numbers& n, const runtime::int4_matrix& m, range rows, range columns) {
  std::vector<std::byte> blocks(static_cast<std::size_t>(rows.size() * columns.size() / 32 * 20));
  REQUIRE(runtime::to_q4_1(m, rows, columns, blocks.data()));
  std::vector<float> values(static_cast<std::size_t>(rows.size() * columns.size()));
  kernels::cpu::dequantize_row(dtype::q4_1, blocks.data(), values.data(),
                               rows.size() * columns.size());
  double worst = 0;
  for (std::int64_t r = rows.begin; r < rows.end; ++r) {
    for (std::int64_t c = columns.begin; c < columns.end; ++c) {
      const auto g = static_cast<std::size_t>(r * n.groups() + c / n.group);
      const double scale = n.scale[g], zero = m.zeros.empty() ? 8 : n.zero[g];
      const auto q = n.q[static_cast<std::size_t>(r * n.columns + c)];
      const auto at =
          static_cast<std::size_t>((r - rows.begin) * columns.size() + c - columns.begin);
      const double error = std::abs(static_cast<double>(values[at]) - scale * (q - zero));
      // Half a last bit of the offset; of the scale too, where f16 does not hold it; of the sum.
      const double own = m.scale_type == dtype::f32 ? q * scale : 0;
      worst = std::max(worst, error / ((zero * scale + own) * 0x1p-11 + 16 * scale * 0x1p-23));
    }
  }
  CHECK(worst <= 1);
}

}  // namespace

TEST_CASE("4-bit numbers of every order become blocks of the same values") {
  std::mt19937 random(71);
  for (const auto order : {int4_order::gptq, int4_order::awq, int4_order::by_row}) {
    for (const auto scales : {dtype::f16, dtype::bf16, dtype::f32}) {
      for (const std::int64_t group : {32, 64, 192}) {
        const auto n = drawn(24, 192, group, scales, random);
        const bool less = order == int4_order::gptq && group != 64;
        const stored s(n, order, scales, less);
        INFO(static_cast<int>(order) << " " << kernels::info(scales).name << " " << group);
        check_part(n, s.matrix, {0, 24}, {0, 192});
        check_part(n, s.matrix, {3, 21}, {32, 160});
        check_part(n, s.matrix, {17, 18}, {160, 192});
      }
    }
  }
}

TEST_CASE("rows that fill no word, and numbers without zeros, are signed around eight") {
  std::mt19937 random(72);
  const auto n = drawn(13, 96, 32, dtype::bf16, random);
  const stored with(n, int4_order::by_row, dtype::bf16);
  check_part(n, with.matrix, {0, 13}, {0, 96});
  check_part(n, with.matrix, {8, 13}, {32, 64});
  const stored without(n, int4_order::by_row, dtype::bf16, false, false);
  check_part(n, without.matrix, {0, 13}, {0, 96});
}

TEST_CASE("a matrix of many blocks is converted by several threads, all of it") {
  std::mt19937 random(73);
  const auto n = drawn(512, 4096, 128, dtype::f16, random);
  const stored s(n, int4_order::gptq, dtype::f16);
  check_part(n, s.matrix, {0, 512}, {0, 4096});
}

TEST_CASE("a scale that is none is refused by tensor, row and group") {
  std::mt19937 random(74);
  const std::vector<float> bad{0, -1, NAN, INFINITY, 65520, 1e30F};
  for (const auto order : {int4_order::gptq, int4_order::awq, int4_order::by_row}) {
    for (const float scale : bad) {
      auto n = drawn(16, 128, 64, dtype::f32, random);
      n.scale[static_cast<std::size_t>(9 * n.groups() + 1)] = scale;
      const stored s(n, order, dtype::f32);
      std::vector<std::byte> out(16 * 4 * 20);
      const auto made = runtime::to_q4_1(s.matrix, {0, 16}, {0, 128}, out.data());
      REQUIRE_FALSE(made);
      CHECK(made.error().code == errc::bad_file);
      CHECK_THAT(made.error().message,
                 Contains("f.safetensors: tensor w.scales: the scale of row 9, group 1 is"));
      // Nobody else reads it.
      CHECK(runtime::to_q4_1(s.matrix, {0, 9}, {0, 128}, out.data()));
      CHECK(runtime::to_q4_1(s.matrix, {0, 16}, {0, 64}, out.data()));
    }
  }
  // The scale fits, its product with the zero does not.
  auto n = drawn(8, 32, 32, dtype::f32, random);
  n.scale[3] = 20000;
  n.zero[3] = 15;
  const stored s(n, int4_order::by_row, dtype::f32);
  std::vector<std::byte> out(8 * 20);
  CHECK_FALSE(runtime::to_q4_1(s.matrix, {0, 8}, {0, 32}, out.data()));
}

}  // namespace dinfer::tests

// SPDX-License-Identifier: Apache-2.0
// Rows of 8-bit floats on the host, against torch's table: by themselves, behind a norm or a gate,
// and out of stored weights.
#include "kernels/cuda/fp8.cuh"
#include "kernels/cuda/convert.hpp"
#include "kernels/cuda/f8_words.cuh"
#include "kernels/cuda/pointwise.hpp"
#include "tests/kernels/cuda/f8_table.hpp"
#include "tests/kernels/cuda/gpu_support.hpp"

using namespace dinfer;
using namespace dinfer::kernels;
using namespace dinfer::tests;

namespace {

using cuda_on_cpu::guarded;

// Rows as a kernel wrote them, `columns` wide.
struct written {
  std::int64_t rows, columns;
  guarded<std::uint8_t> codes;
  guarded<float> scales;

  written(std::int64_t r, std::int64_t c)
      : rows(r),
        columns(c),
        codes(static_cast<std::size_t>(r * c)),
        scales(static_cast<std::size_t>(r)) {}
};

void check_row(const f8_table& table, const written& got, std::int64_t at,
               std::span<const float> values) {
  const f8_row right = f8_row_of(table, values);
  const float scale = got.scales[static_cast<std::size_t>(at)];
  INFO("row " << at << " of " << got.columns << ", scale " << scale << " for " << right.scale);
  if (std::isnan(right.scale)) {
    CHECK(!std::isfinite(scale));
    return;
  }
  CHECK(std::bit_cast<std::uint32_t>(scale) == std::bit_cast<std::uint32_t>(right.scale));
  const auto* codes = got.codes.data() + at * got.columns;
  const auto off = std::mismatch(right.codes.begin(), right.codes.end(), codes);
  INFO("column " << off.first - right.codes.begin());
  CHECK(off.first == right.codes.end());
}

// Ordinary rows, and then all that is not: zeros, tiny and huge ones, infinity, NaN, one outlier.
std::vector<float> odd_rows(std::int64_t columns, random_numbers& random, std::int64_t& rows) {
  rows = 8;
  auto x = random.floats(rows * columns, -3, 3);
  const auto row = [&](std::int64_t r) {
    return std::span(x).subspan(static_cast<std::size_t>(r * columns),
                                static_cast<std::size_t>(columns));
  };
  std::ranges::fill(row(1), 0.0F);
  for (float& v : row(2)) v *= 0x1p-103F;
  for (float& v : row(3)) v *= 0x1p120F;
  row(4).back() = -INFINITY;
  row(5).front() = NAN;
  row(6)[static_cast<std::size_t>(columns / 2)] = -1000;
  std::ranges::fill(row(7), -0.0F);
  return x;
}

}  // namespace

TEST_CASE("a float becomes the 8-bit float that torch makes of it") {
  const f8_table table;
  const auto check = [&](std::uint32_t bits) {
    const float v = std::bit_cast<float>(bits), minus = -v;
    const std::uint32_t got = cuda::four_f8(v, minus, 0, v);
    const std::uint32_t right =
        table.code(v) | table.code(minus) << 8 | static_cast<std::uint32_t>(table.code(v)) << 24;
    if (got != right) FAIL(v << " becomes " << std::hex << got << ", not " << right);
  };
  for (std::uint32_t upper = 0; upper <= 0x7F80; ++upper) check(upper << 16);  // all of bfloat16
  for (const auto begin : table.begins()) {
    for (std::uint32_t bits = std::max(begin, 3U) - 3; bits < begin + 3; ++bits) check(bits);
  }
  CHECK((cuda::four_f8(NAN, 0, 0, 0) & 0x7F) == f8_table::nan);
  for (std::uint32_t code = 0; code < 256; ++code) {
    const __half_raw converted =
        __nv_cvt_fp8_to_halfraw(static_cast<std::uint8_t>(code), __NV_E4M3);
    const float value = cuda::to_float(cuda::f16(converted)), right = table.value(code);
    CHECK((value == right || (std::isnan(value) && std::isnan(right))));
  }
}

TEST_CASE("an 8-bit float of a page is the same number in every type") {
  const f8_table table;
  const auto same = [](float a, float b) {
    return (std::isnan(a) && std::isnan(b)) ||
           std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
  };
  for (std::uint32_t code = 0; code < 256; ++code) {
    const std::uint32_t other = 255 - code, four = code | other << 8 | other << 16 | code << 24;
    INFO("code " << code);
    cuda::f8 stored;
    stored.__x = static_cast<std::uint8_t>(code);
    CHECK(same(cuda::to_float(stored), table.value(stored.__x)));
    for (const int shift : {0, 16}) {
      const auto first = static_cast<std::uint8_t>(shift == 0 ? code : other);
      const auto second = static_cast<std::uint8_t>(shift == 0 ? other : code);
      const std::uint32_t brain = cuda::two_wide<cuda::bf16>(four, shift);
      CHECK(same(std::bit_cast<float>(brain << 16), table.value(first)));
      CHECK(same(std::bit_cast<float>(brain & 0xFFFF0000U), table.value(second)));
      const std::uint32_t halves = cuda::two_wide<cuda::f16>(four, shift);
      CHECK(same(cpu::from_f16(static_cast<std::uint16_t>(halves)), table.value(first)));
      CHECK(same(cpu::from_f16(static_cast<std::uint16_t>(halves >> 16)), table.value(second)));
    }
  }
  for (const auto begin : table.begins()) {
    for (std::uint32_t bits = std::max(begin, 3U) - 3; bits < begin + 3; ++bits) {
      const float v = std::bit_cast<float>(bits);
      CHECK(cuda::to_f8(v).__x == table.code(v));
      CHECK(cuda::to_f8(-v).__x == table.code(-v));
    }
  }
}

TEST_CASE("rows are scaled and rounded as their largest element asks") {
  auto random = seeded(641);
  const f8_table table;
  const auto d = open_cpu(1);
  for (const auto type : activation_types()) {
    for (const std::int64_t columns : {32, 48, 576, 4096, 4112, 14336, 16384, 32768}) {
      if (!cuda::f8_takes(16, columns, type)) continue;
      std::int64_t rows = 0;
      auto x = odd_rows(columns, random, rows);
      if (type == dtype::f16) {
        for (float& v : x) v = std::isfinite(v) ? std::clamp(v, -65504.0F, 65504.0F) : v;
      }
      x = rounded(x, type);
      const auto in = filled(*d, type, x, rows, columns);
      const written out(rows, columns);
      cuda::quantise({in.data(), out.codes.data(), out.scales.data(), rows, columns}, type,
                     nullptr);
      for (std::int64_t r = 0; r < rows; ++r) {
        check_row(table, out, r,
                  std::span(x).subspan(static_cast<std::size_t>(r * columns),
                                       static_cast<std::size_t>(columns)));
      }
    }
  }
}

TEST_CASE("a norm and a gate give the 8-bit floats of what they give otherwise") {
  auto random = seeded(642);
  const f8_table table;
  const auto d = open_cpu(1);
  for (const auto type : activation_types()) {
    for (const std::int64_t columns : {32, 208, 576, 8192, 14336}) {
      constexpr std::int64_t rows = 3;
      const auto gain = filled(*d, dtype::f32, random.floats(columns), columns);
      const auto bias = filled(*d, dtype::f32, random.floats(2 * columns), 2 * columns);
      const auto x = filled(*d, type, rounded(random.floats(rows * columns), type), rows, columns);
      const auto plain = poisoned(*d, type, rows, columns);
      const written out(rows, columns);
      const auto check = [&] {
        const auto values = plain.values();
        for (std::int64_t r = 0; r < rows; ++r) {
          check_row(table, out, r,
                    std::span(values).subspan(static_cast<std::size_t>(r * columns),
                                              static_cast<std::size_t>(columns)));
        }
      };
      cuda::add_norm_job norm;
      norm.residual = x.data();
      norm.gain = static_cast<const float*>(gain.data());
      norm.epsilon = 1e-5F;
      norm.rows = rows;
      norm.columns = columns;
      norm.normed = plain.data();
      cuda::add_norm(norm, type, nullptr);
      norm.normed = out.codes.data();
      norm.normed_scales = out.scales.data();
      cuda::add_norm(norm, type, nullptr);
      check();

      const auto both = filled(*d, type, rounded(random.floats(rows * 2 * columns, -4, 4), type),
                               rows, 2 * columns);
      for (const auto* biases :
           {static_cast<const float*>(nullptr), static_cast<const float*>(bias.data())}) {
        cuda::gate({both.data(), biases, plain.data(), rows, columns}, type, nullptr);
        cuda::gate({both.data(), biases, out.codes.data(), rows, columns, out.scales.data()}, type,
                   nullptr);
        check();
      }
    }
  }
}

TEST_CASE("stored and made-up rows become 8-bit floats in their places") {
  auto random = seeded(643);
  const f8_table table;
  for (const auto stored : weight_types()) {
    const std::int64_t columns = whole_blocks(stored, 96), first_column = 16, width = 64;
    constexpr std::int64_t rows = 11, first_row = 5;
    const stored_matrix matrix(stored, rows, columns, random);
    const auto values = matrix.expanded();
    for (const auto map : {cuda::row_map::plain, cuda::row_map::gate, cuda::row_map::up}) {
      const written out(32, width);
      cuda::placed_rows to{out.codes.data(), dtype::f8_e4m3,   width, map,
                           first_row,        out.scales.data()};
      cuda::convert_rows(
          {matrix.data.data(), stored, rows, width, row_bytes(stored, columns), first_column}, to,
          nullptr);
      for (std::int64_t r = 0; r < rows; ++r) {
        INFO(info(stored).name);
        check_row(table, out, cuda::mapped_row(map, first_row + r),
                  std::span(values).subspan(static_cast<std::size_t>(r * columns + first_column),
                                            static_cast<std::size_t>(width)));
      }
    }
  }
  const made_up_weights numbers{7, 0x1p-9F, 0.25F};
  const written out(4, 48);
  cuda::make_up_rows(
      {numbers, 100, 1000, 4, 48},
      {out.codes.data(), dtype::f8_e4m3, 48, cuda::row_map::plain, 0, out.scales.data()}, nullptr);
  for (std::uint64_t r = 0; r < 4; ++r) {
    std::vector<float> row;
    for (std::uint64_t c = 0; c < 48; ++c)
      row.push_back(made_up_value(numbers, 100 + r * 1000 + c));
    check_row(table, out, static_cast<std::int64_t>(r), row);
  }
}

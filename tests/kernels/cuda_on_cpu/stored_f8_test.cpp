// SPDX-License-Identifier: Apache-2.0
// 8-bit floats of a checkpoint on their way to a GPU: kept as they are stored, expanded, or rounded
// anew, over the stand-in for CUDA's runtime of weights_test.cpp.
#include "tests/kernels/cuda/f8_table.hpp"
#include "tests/kernels/cuda/gpu_support.hpp"
#include "tests/kernels/cuda_on_cpu/weight_loader.hpp"

#include <algorithm>
#include <cmath>

using namespace dinfer;
using namespace dinfer::kernels;
using namespace dinfer::tests;

namespace {

using loader = weight_loader_on_cpu;

// Row `at` of a weight of 8-bit floats is what becomes of `values`.
void check_made_row(const f8_table& table, const cuda::cuda_weight& w, std::int64_t at,
                    std::span<const float> values) {
  const f8_row right = f8_row_of(table, values);
  const auto* codes = static_cast<const std::uint8_t*>(w.data()) + at * w.columns();
  INFO("row " << at);
  CHECK(std::equal(right.codes.begin(), right.codes.end(), codes));
  CHECK(w.scales()[at] == right.scale);
}

// 8-bit floats as a checkpoint has them, without NaNs, with a scale for every so many rows and
// columns.
struct stored_f8 {
  std::int64_t rows, columns;
  weight_scales scales;
  std::vector<std::uint8_t> codes;
  std::vector<float> values;

  stored_f8(std::int64_t r, std::int64_t c, std::int64_t scale_rows, std::int64_t scale_columns,
            random_numbers& random)
      : rows(r), columns(c) {
    for (std::int64_t i = 0; i < r * c; ++i) {
      const auto code = static_cast<std::uint8_t>(random.bits());
      codes.push_back((code & 0x7F) == 0x7F ? 0x80 : code);
    }
    scales = {nullptr, scale_rows, scale_columns, (c + scale_columns - 1) / scale_columns};
    values = random.floats((r + scale_rows - 1) / scale_rows * scales.stride);
    for (float& v : values) v = std::abs(v) + 0.01F;
    scales.data = values.data();
  }
  stored_f8(const stored_f8&) = delete;
  stored_f8& operator=(const stored_f8&) = delete;

  weight_slice slice(std::int64_t row_begin, std::int64_t row_end, std::int64_t column_begin,
                     std::int64_t column_end) const {
    weight_slice s;
    s.data = reinterpret_cast<const std::byte*>(codes.data());
    s.type = dtype::f8_e4m3;
    s.stored_columns = columns;
    s.row_begin = row_begin;
    s.row_end = row_end;
    s.column_begin = column_begin;
    s.column_end = column_end;
    s.scales = scales;
    return s;
  }
  std::vector<float> expanded(const f8_table& table, const weight_slice& s) const {
    std::vector<float> out;
    for (auto r = s.row_begin; r < s.row_end; ++r) {
      for (auto c = s.column_begin; c < s.column_end; ++c) {
        const float scale =
            values[static_cast<std::size_t>(r / scales.rows * scales.stride + c / scales.columns)];
        out.push_back(table.value(codes[static_cast<std::size_t>(r * columns + c)]) * scale);
      }
    }
    return out;
  }
};

// Row `at` of a weight is row `r` of a slice, bytes and scale.
void check_kept_row(const cuda::cuda_weight& w, std::int64_t at, const stored_f8& from,
                    const weight_slice& s, std::int64_t r) {
  const auto* codes = static_cast<const std::uint8_t*>(w.data()) + at * w.columns();
  const auto* right = from.codes.data() + (s.row_begin + r) * from.columns + s.column_begin;
  INFO("row " << at);
  CHECK(std::equal(codes, codes + w.columns(), right));
  CHECK(w.scales()[at] == from.values[static_cast<std::size_t>(s.row_begin + r)]);
}

}  // namespace

TEST_CASE("8-bit floats with a scale a row stay as they are stored, cut by rows and by columns") {
  auto random = seeded(638);
  loader l(dtype::bf16);
  const stored_f8 a(40, 128, 1, 128, random), b(24, 128, 1, 128, random);
  const std::vector<weight_slice> stacked{a.slice(5, 25, 16, 112), b.slice(3, 15, 16, 112)};
  const stored_f8 gate(21, 96, 1, 96, random), up(21, 96, 1, 96, random);
  const std::vector<weight_slice> pair{gate.slice(0, 21, 0, 96), up.slice(0, 21, 0, 96)};
  for (const bool asked : {false, true}) {  // asked or not, nothing is rounded again
    const prepare_options options{false, asked};
    const auto w = l.uploader.prepare(stacked, weight_role::matrix, options);
    const auto both = l.uploader.prepare(pair, weight_role::gate_up, options);
    l.uploader.finish();
    REQUIRE(w->fp8());
    CHECK(w->bytes() == 32 * 96 + 32 * 4);
    for (std::int64_t r = 0; r < 20; ++r) check_kept_row(*w, r, a, stacked[0], r);
    for (std::int64_t r = 0; r < 12; ++r) check_kept_row(*w, 20 + r, b, stacked[1], r);
    REQUIRE(both->fp8());
    CHECK(both->padded_rows() == 48);
    for (std::int64_t r = 0; r < 21; ++r) {
      check_kept_row(*both, cuda::mapped_row(cuda::row_map::gate, r), gate, pair[0], r);
      check_kept_row(*both, cuda::mapped_row(cuda::row_map::up, r), up, pair[1], r);
    }
    for (std::int64_t r = 21; r < 24; ++r) {
      const auto at = cuda::mapped_row(cuda::row_map::up, r);
      const auto* codes = static_cast<const std::uint8_t*>(both->data()) + at * 96;
      CHECK(std::all_of(codes, codes + 96, [](std::uint8_t code) { return code == 0; }));
    }
  }
}

TEST_CASE("8-bit floats that no product takes as they are stored are expanded with their scales") {
  auto random = seeded(639);
  const f8_table table;
  const stored_f8 row(32, 128, 1, 128, random), block(48, 128, 32, 48, random),
      odd(30, 128, 1, 128, random);
  for (const auto type : activation_types()) {
    loader with(type), without(type, false);
    const auto check = [&](loader& l, const stored_f8& m, const weight_slice& s, weight_role role,
                           bool dequantize) {
      const auto w = l.uploader.prepare({&s, 1}, role, {dequantize, false});
      l.uploader.finish();
      CHECK(w->type() == type);
      const std::int64_t columns = s.column_end - s.column_begin;
      check_same("expanded", contents(*w), rounded(m.expanded(table, s), type), columns);
    };
    check(without, row, row.slice(0, 32, 0, 128), weight_role::matrix, false);
    check(with, row, row.slice(0, 32, 0, 128), weight_role::matrix, true);
    check(with, row, row.slice(0, 32, 32, 96), weight_role::head, false);
    check(with, row, row.slice(8, 24, 0, 128), weight_role::embedding, false);
    check(with, odd, odd.slice(0, 30, 0, 128), weight_role::matrix, false);
    // Beginning and ending inside of what a scale stands for.
    check(with, block, block.slice(0, 48, 0, 128), weight_role::matrix, false);
    check(with, block, block.slice(19, 48, 40, 104), weight_role::matrix, false);
  }
}

TEST_CASE("8-bit floats with a scale a block get a scale a row where that is asked for") {
  auto random = seeded(640);
  const f8_table table;
  loader l(dtype::bf16);
  const stored_f8 block(48, 128, 32, 48, random);
  const auto s = block.slice(16, 48, 16, 112);
  const auto w = l.uploader.prepare({&s, 1}, weight_role::matrix, {false, true});
  l.uploader.finish();
  REQUIRE(w->fp8());
  const auto right = block.expanded(table, s);
  for (std::size_t r = 0; r < 32; ++r)
    check_made_row(table, *w, static_cast<std::int64_t>(r), std::span(right).subspan(r * 96, 96));
}

TEST_CASE("8-bit floats beside others in one matrix are expanded") {
  auto random = seeded(641);
  const f8_table table;
  loader l(dtype::bf16);
  const stored_f8 a(16, 64, 1, 64, random);
  const stored_matrix b(dtype::bf16, 16, 64, random);
  const std::vector<weight_slice> slices{a.slice(0, 16, 0, 64), b.slice()};
  const auto w = l.uploader.prepare(slices, weight_role::matrix, {});
  l.uploader.finish();
  CHECK(w->type() == dtype::bf16);
  auto right = rounded(a.expanded(table, slices[0]), dtype::bf16);
  const auto below = b.expanded();
  right.insert(right.end(), below.begin(), below.end());
  check_same("mixed", contents(*w), right, 64);
}

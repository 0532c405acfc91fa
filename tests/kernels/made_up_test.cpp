// SPDX-License-Identifier: Apache-2.0
// Weights without a file: the CPU gives made_up_value of the stored index, whichever slice of the
// matrix is asked for, and computes with them as with stored ones.
#include "tests/kernels/support.hpp"

#include <utility>

using namespace dinfer;
using namespace dinfer::kernels;
using namespace dinfer::tests;

namespace {

weight_slice made_up_slice(const made_up_weights& numbers, std::int64_t rows,
                           std::int64_t columns) {
  weight_slice s;
  s.stored_columns = columns;
  s.row_end = rows;
  s.column_end = columns;
  s.made_up = numbers;
  return s;
}

std::vector<float> values_of(const weight_slice& s) {
  std::vector<float> v;
  for (auto r = s.row_begin; r < s.row_end; ++r) {
    for (auto c = s.column_begin; c < s.column_end; ++c) {
      v.push_back(made_up_value(s.made_up, static_cast<std::uint64_t>(r * s.stored_columns + c)));
    }
  }
  return v;
}

const std::vector<made_up_weights>& kinds() {
  static const std::vector<made_up_weights> all{
      {1, 0x1p-9F, 0}, {2, 0.013F, 0}, {3, 0x1p-8F, 1.0F}, {4, 0, 2.5F}};
  return all;
}

}  // namespace

TEST_CASE("made-up numbers are the same ones everywhere") {
  // The published first outputs of splitmix64 for these seeds.
  CHECK(made_up_number(0, 0) == static_cast<std::int32_t>(0xE220A8397B1DCDAFULL % 255) - 127);
  CHECK(made_up_number(1234567, 0) ==
        static_cast<std::int32_t>(6457827717110365317ULL % 255) - 127);
  double sum = 0;
  std::int32_t least = 0, most = 0;
  for (std::uint64_t i = 0; i < 100000; ++i) {
    const auto k = made_up_number(7, i);
    least = std::min(least, k);
    most = std::max(most, k);
    sum += k;
  }
  CHECK(least == -127);
  CHECK(most == 127);
  CHECK(std::abs(sum / 100000) < 1);
}

TEST_CASE("embed reads made-up rows, of slices too") {
  const auto d = open_cpu(2);
  for (const auto& numbers : kinds()) {
    auto slice = made_up_slice(numbers, 40, 96);
    slice.row_begin = 5;
    slice.column_begin = 32;
    const auto table = d->ops().prepare({&slice, 1}, weight_role::embedding, {});
    const auto right = values_of(slice);
    std::vector<std::int32_t> ids{5, 39, 20};
    std::vector<float> out(3 * 64, poison);
    embed_args args;
    args.ids = over(ids);
    args.table = table.get();
    args.first_row = 5;
    args.out = over(out, 3, 64);
    d->ops().embed(args);
    for (std::size_t i = 0; i < out.size(); ++i) {
      CHECK(out[i] == right[static_cast<std::size_t>(ids[i / 64] - 5) * 64 + i % 64]);
    }
  }
}

TEST_CASE("linear with made-up weights has the bits of linear with the same ones stored") {
  random_numbers random(51);
  const auto d = open_cpu(2);
  for (const auto& numbers : kinds()) {
    for (const auto role : {weight_role::matrix, weight_role::gate_up}) {
      const std::int64_t n = 37, k = 100, rows = 3;
      auto other = numbers;
      other.seed += 100;
      const std::vector<weight_slice> made{made_up_slice(numbers, n, k),
                                           made_up_slice(other, n, k)};
      std::vector<std::vector<float>> values;
      std::vector<weight_slice> stored;
      for (const auto& s : made) values.push_back(values_of(s));
      for (const auto& v : values) {
        stored.push_back(
            {reinterpret_cast<const std::byte*>(v.data()), dtype::f32, k, 0, n, 0, k, {}});
      }
      const auto bias_slice = made_up_slice(numbers, 1, 2 * n);
      const auto bias = d->ops().prepare({&bias_slice, 1}, weight_role::vector, {});
      const auto bias_stored = vector_weight(d->ops(), values_of(bias_slice));
      auto x = random.floats(rows * k);
      std::vector<std::vector<float>> outs;
      for (const auto* slices : {&made, &std::as_const(stored)}) {
        const auto w = d->ops().prepare(*slices, role, {});
        const auto columns = role == weight_role::gate_up ? n : 2 * n;
        std::vector<float> out(static_cast<std::size_t>(rows * columns), poison);
        linear_args args;
        args.x = over(x, rows, k);
        args.w = w.get();
        args.bias = slices == &made ? bias.get() : bias_stored.get();
        args.act = role == weight_role::gate_up ? activation::swiglu : activation::none;
        args.out = over(out, rows, columns);
        d->ops().linear(args);
        outs.push_back(out);
      }
      CHECK(same_bits(outs[0], outs[1]));
    }
  }
}

TEST_CASE("made-up weights of few bits take two bytes an element, expanded ones four") {
  const auto d = open_cpu(1);
  const auto bytes = [&](const made_up_weights& numbers, bool expand) {
    const auto slice = made_up_slice(numbers, 16, 128);
    return d->ops().prepare({&slice, 1}, weight_role::matrix, {expand})->bytes();
  };
  CHECK(bytes(kinds()[0], false) == 16 * 128 * 2);
  CHECK(bytes(kinds()[0], true) == 16 * 128 * 4);
  CHECK(bytes(kinds()[1], false) == 16 * 128 * 4);
  CHECK(bytes(kinds()[2], false) == 16 * 128 * 4);
}

// SPDX-License-Identifier: Apache-2.0
// linear against sums in double, and what its contract says of bits.
#include "tests/kernels/cuda/f8_table.hpp"
#include "tests/kernels/support.hpp"

using namespace dinfer;
using namespace dinfer::kernels;
using namespace dinfer::tests;

namespace {

struct shape {
  std::int64_t rows, n, k;
};

std::vector<float> run_linear(device& d, const weight& w, std::vector<float> x, std::int64_t rows,
                              std::int64_t n, activation act = activation::none,
                              const weight* bias = nullptr) {
  std::vector<float> out(static_cast<std::size_t>(rows * n), poison);
  linear_args args;
  args.x = over(x, rows, w.columns());
  args.w = &w;
  args.bias = bias;
  args.act = act;
  args.out = over(out, rows, n);
  d.ops().linear(args);
  return out;
}

// One output in double; `scale` is the sum of the terms' sizes, which bounds what f32 may lose.
double dot(const float* x, const float* w, std::int64_t k, double& scale) {
  double sum = 0;
  scale = 0;
  for (std::int64_t i = 0; i < k; ++i) {
    sum += static_cast<double>(x[i]) * static_cast<double>(w[i]);
    scale += std::abs(static_cast<double>(x[i]) * static_cast<double>(w[i]));
  }
  return sum;
}

double activated(activation act, double x) {
  switch (act) {
    case activation::relu:
      return std::max(x, 0.0);
    case activation::gelu:
      return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case activation::gelu_tanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    default:
      return x;
  }
}

}  // namespace

TEST_CASE("linear agrees with double for every weight type and odd shape") {
  random_numbers random(11);
  const auto d = open_cpu(2);
  for (const auto type : weight_types()) {
    for (auto s : {shape{1, 16, 32}, shape{1, 576, 576}, shape{2, 3, 64}, shape{7, 100, 96},
                   shape{13, 33, 288}, shape{130, 47, 544}, shape{1, 1, 32}, shape{25, 129, 32}}) {
      s.k = whole_blocks(type, s.k);
      const stored_matrix stored(type, s.n, s.k, random);
      const auto w = stored.expanded();
      const auto slice = stored.slice();
      const auto x = random.floats(s.rows * s.k);
      const auto prepared = d->ops().prepare({&slice, 1}, weight_role::matrix, {});
      const auto out = run_linear(*d, *prepared, x, s.rows, s.n);
      INFO(info(type).name << " rows " << s.rows << " n " << s.n << " k " << s.k);
      double worst = 0;
      for (std::int64_t r = 0; r < s.rows; ++r) {
        for (std::int64_t n = 0; n < s.n; ++n) {
          double scale = 0;
          const double right = dot(x.data() + r * s.k, w.data() + n * s.k, s.k, scale);
          const double off =
              std::abs(static_cast<double>(out[static_cast<std::size_t>(r * s.n + n)]) - right);
          worst = std::max(worst, std::isnan(off) ? 1 : off / scale);
        }
      }
      CHECK(worst < 2e-6);
    }
  }
}

TEST_CASE("linear takes any K for types without blocks") {
  random_numbers random(12);
  const auto d = open_cpu(1);
  for (const auto type : {dtype::f32, dtype::f16, dtype::bf16}) {
    for (const std::int64_t k : {1, 5, 31, 33, 257, 300}) {
      const stored_matrix stored(type, 21, k, random);
      const auto w = stored.expanded();
      const auto slice = stored.slice();
      const auto prepared = d->ops().prepare({&slice, 1}, weight_role::matrix, {});
      const auto x = random.floats(3 * k);
      const auto out = run_linear(*d, *prepared, x, 3, 21);
      for (std::int64_t i = 0; i < 63; ++i) {
        double scale = 0;
        const double right = dot(x.data() + i / 21 * k, w.data() + i % 21 * k, k, scale);
        CHECK(std::abs(static_cast<double>(out[static_cast<std::size_t>(i)]) - right) <=
              2e-6 * scale);
      }
    }
  }
}

TEST_CASE("linear applies bias and activation") {
  random_numbers random(13);
  const auto d = open_cpu(2);
  const std::int64_t k = 64, n = 50;
  const stored_matrix stored(dtype::q8_0, n, k, random);
  const auto w = stored.expanded();
  const auto slice = stored.slice();
  const auto prepared = d->ops().prepare({&slice, 1}, weight_role::matrix, {});
  const auto bias_values = random.floats(n, -3, 3);
  const auto bias = vector_weight(d->ops(), bias_values);
  for (const auto act :
       {activation::none, activation::relu, activation::gelu, activation::gelu_tanh}) {
    for (const std::int64_t rows : {1, 5}) {
      const auto x = random.floats(rows * k, -0.02F, 0.02F);
      const auto out = run_linear(*d, *prepared, x, rows, n, act, bias.get());
      for (std::int64_t i = 0; i < rows * n; ++i) {
        double scale = 0;
        const double sum = dot(x.data() + i / n * k, w.data() + i % n * k, k, scale);
        const double right =
            activated(act, sum + static_cast<double>(bias_values[static_cast<std::size_t>(i % n)]));
        CHECK(out[static_cast<std::size_t>(i)] == Approx(right).margin(3e-6));
      }
    }
  }
}

TEST_CASE("a gate_up weight gives silu(gate) * up") {
  random_numbers random(14);
  const auto d = open_cpu(2);
  for (const std::int64_t f : {16, 96, 37}) {
    const std::int64_t k = 64;
    const stored_matrix gate(dtype::q4_1, f, k, random), up(dtype::q5_0, f, k, random);
    const auto g = gate.expanded(), u = up.expanded();
    const std::vector<weight_slice> slices{gate.slice(), up.slice()};
    const auto prepared = d->ops().prepare(slices, weight_role::gate_up, {});
    CHECK(prepared->rows() == 2 * f);
    for (const std::int64_t rows : {1, 9}) {
      const auto x = random.floats(rows * k, -0.1F, 0.1F);
      const auto out = run_linear(*d, *prepared, x, rows, f, activation::swiglu);
      for (std::int64_t i = 0; i < rows * f; ++i) {
        double scale = 0;
        const double a = dot(x.data() + i / f * k, g.data() + i % f * k, k, scale);
        const double b = dot(x.data() + i / f * k, u.data() + i % f * k, k, scale);
        CHECK(out[static_cast<std::size_t>(i)] ==
              Approx(a / (1 + std::exp(-a)) * b).epsilon(1e-4).margin(1e-4));
      }
    }
  }
}

TEST_CASE("a row's bits depend neither on the other rows nor on the number of threads") {
  random_numbers random(15);
  const auto one = open_cpu(1);
  const auto two = open_cpu(2);
  for (const auto type : weight_types()) {
    const std::int64_t n = 100, k = whole_blocks(type, 576), rows = 150;
    const stored_matrix stored(type, n, k, random);
    const auto slice = stored.slice();
    const auto a = one->ops().prepare({&slice, 1}, weight_role::matrix, {});
    const auto b = two->ops().prepare({&slice, 1}, weight_role::matrix, {});
    const auto x = random.floats(rows * k);
    const auto all = run_linear(*one, *a, x, rows, n);
    INFO(info(type).name);
    CHECK(same_bits(all, run_linear(*two, *b, x, rows, n)));
    for (const std::int64_t cut : {1, 2, 3, 5, 8, 12, 13, 129}) {
      std::vector<float> pieces;
      for (std::int64_t r = 0; r < rows; r += cut) {
        const auto count = std::min(cut, rows - r);
        const auto part =
            run_linear(*two, *b, {x.begin() + r * k, x.begin() + (r + count) * k}, count, n);
        pieces.insert(pieces.end(), part.begin(), part.end());
      }
      CHECK(same_bits(all, pieces));
    }
  }
}

TEST_CASE("a quantised weight gives the bits of its expansion, and is no larger than the file's") {
  random_numbers random(16);
  const auto d = open_cpu(2);
  for (const auto type : weight_types()) {
    const std::int64_t n = 112, k = whole_blocks(type, 608);
    const stored_matrix stored(type, n, k, random);
    const auto slice = stored.slice();
    const auto kept = d->ops().prepare({&slice, 1}, weight_role::matrix, {});
    const auto expanded = d->ops().prepare({&slice, 1}, weight_role::matrix, {true});
    INFO(info(type).name);
    CHECK(kept->bytes() <= stored.data.size() * 105 / 100);
    CHECK(expanded->bytes() == static_cast<std::uint64_t>(n * k * 4));
    for (const std::int64_t rows : {1, 4, 40}) {
      const auto x = random.floats(rows * k);
      CHECK(same_bits(run_linear(*d, *kept, x, rows, n), run_linear(*d, *expanded, x, rows, n)));
    }
  }
}

TEST_CASE("shards of rows give the bits of the whole, and stacked slices those of the parts") {
  random_numbers random(17);
  const auto d = open_cpu(2);
  const std::int64_t n = 96;
  for (const auto type : {dtype::f32, dtype::q4_1, dtype::q8_0, dtype::q5_k, dtype::q6_k}) {
    const std::int64_t k = whole_blocks(type, 320);
    const stored_matrix stored(type, n, k, random);
    auto slice = stored.slice();
    const auto whole = d->ops().prepare({&slice, 1}, weight_role::matrix, {});
    for (const std::int64_t rows : {1, 6}) {
      const auto x = random.floats(rows * k);
      const auto right = run_linear(*d, *whole, x, rows, n);
      const std::int64_t cuts[] = {0, 7, 40, 96};
      std::vector<weight_slice> stacked;
      for (int part = 0; part < 3; ++part) {
        slice.row_begin = cuts[part];
        slice.row_end = cuts[part + 1];
        stacked.push_back(slice);
        const auto width = slice.row_end - slice.row_begin;
        const auto shard = d->ops().prepare({&slice, 1}, weight_role::matrix, {});
        const auto out = run_linear(*d, *shard, x, rows, width);
        for (std::int64_t i = 0; i < rows * width; ++i) {
          CHECK(out[static_cast<std::size_t>(i)] ==
                right[static_cast<std::size_t>(i / width * n + cuts[part] + i % width)]);
        }
      }
      const auto together = d->ops().prepare(stacked, weight_role::matrix, {});
      CHECK(same_bits(run_linear(*d, *together, x, rows, n), right));
    }
  }
}

TEST_CASE("a slice of columns multiplies those columns alone") {
  random_numbers random(18);
  const auto d = open_cpu(1);
  const stored_matrix stored(dtype::q4_0, 20, 128, random);
  const auto w = stored.expanded();
  auto slice = stored.slice();
  slice.column_begin = 32;
  slice.column_end = 96;
  slice.row_begin = 3;
  slice.row_end = 20;
  const auto prepared = d->ops().prepare({&slice, 1}, weight_role::matrix, {});
  const auto x = random.floats(64);
  const auto out = run_linear(*d, *prepared, x, 1, 17);
  for (std::int64_t n = 0; n < 17; ++n) {
    double scale = 0;
    const double right = dot(x.data(), w.data() + (n + 3) * 128 + 32, 64, scale);
    CHECK(std::abs(static_cast<double>(out[static_cast<std::size_t>(n)]) - right) <= 2e-6 * scale);
  }
}

TEST_CASE("columns cut out of blocks have the bits of the blocks' expansion") {
  random_numbers random(19);
  const auto d = open_cpu(2);
  for (const auto type : weight_types()) {
    const stored_matrix stored(type, 20, 1024, random);
    const auto w = stored.expanded();
    for (const auto& [begin, end] : {std::pair{0, 1000},
                                     {256, 300},
                                     {257, 511},
                                     {7, 777},
                                     {512, 768},
                                     {1023, 1024},
                                     {250, 1024}}) {
      auto slice = stored.slice();
      slice.row_begin = 3;
      slice.column_begin = begin;
      slice.column_end = end;
      std::vector<float> cut;
      for (std::int64_t r = 3; r < 20; ++r)
        cut.insert(cut.end(), w.begin() + r * 1024 + begin, w.begin() + r * 1024 + end);
      const weight_slice plain{reinterpret_cast<const std::byte*>(cut.data()),
                               dtype::f32,
                               end - begin,
                               0,
                               17,
                               0,
                               end - begin};
      const auto a = d->ops().prepare({&slice, 1}, weight_role::matrix, {});
      const auto b = d->ops().prepare({&plain, 1}, weight_role::matrix, {});
      INFO(info(type).name << " " << begin << " to " << end);
      REQUIRE(a->columns() == end - begin);
      for (const std::int64_t rows : {1, 5}) {
        const auto x = random.floats(rows * (end - begin));
        CHECK(same_bits(run_linear(*d, *a, x, rows, 17), run_linear(*d, *b, x, rows, 17)));
      }
    }
  }
}

TEST_CASE("8-bit floats have the bits of what they and their scales stand for, cut anywhere") {
  random_numbers random(20);
  const f8_table table;
  const auto d = open_cpu(2);
  std::vector<std::uint8_t> codes(40 * 96);
  for (auto& c : codes) c = static_cast<std::uint8_t>(random.bits() % 127 | random.bits() % 2 << 7);
  std::vector<float> numbers = random.floats(40 * 96);
  for (float& v : numbers) v = std::abs(v) + 0.01F;
  for (const weight_scales& scales :
       {weight_scales{numbers.data(), 1, 96, 1}, weight_scales{numbers.data(), 16, 40, 3}}) {
    for (const auto& [row, begin, end] :
         {std::array{0, 0, 96}, std::array{3, 0, 96}, std::array{0, 33, 90}}) {
      const weight_slice slice{reinterpret_cast<const std::byte*>(codes.data()),
                               dtype::f8_e4m3,
                               96,
                               row,
                               40,
                               begin,
                               end,
                               {},
                               scales};
      std::vector<float> cut;
      for (std::int64_t r = row; r < 40; ++r) {
        for (std::int64_t c = begin; c < end; ++c) {
          const auto scale = r / scales.rows * scales.stride + c / scales.columns;
          cut.push_back(table.value(codes[static_cast<std::size_t>(r * 96 + c)]) *
                        numbers[static_cast<std::size_t>(scale)]);
        }
      }
      const weight_slice plain{reinterpret_cast<const std::byte*>(cut.data()),
                               dtype::f32,
                               end - begin,
                               0,
                               40 - row,
                               0,
                               end - begin};
      const auto a = d->ops().prepare({&slice, 1}, weight_role::matrix, {});
      const auto b = d->ops().prepare({&plain, 1}, weight_role::matrix, {});
      const auto x = random.floats(3 * (end - begin));
      CHECK(same_bits(run_linear(*d, *a, x, 3, 40 - row), run_linear(*d, *b, x, 3, 40 - row)));
    }
  }
}

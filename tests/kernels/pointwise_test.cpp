// SPDX-License-Identifier: Apache-2.0
// embed, add_norm and gather_rows.
#include "tests/kernels/support.hpp"

using namespace dinfer;
using namespace dinfer::kernels;
using namespace dinfer::tests;

TEST_CASE("embed reads rows of every type and gives zeros for ids of other shards") {
  random_numbers random(31);
  const auto d = open_cpu(2);
  for (const auto type : weight_types()) {
    const auto columns = static_cast<std::size_t>(whole_blocks(type, 96));
    const stored_matrix stored(type, 50, static_cast<std::int64_t>(columns), random);
    const auto right = stored.expanded();
    auto slice = stored.slice();
    slice.row_begin = 10;  // a shard: rows 10..49
    const auto table = d->ops().prepare({&slice, 1}, weight_role::embedding, {});
    std::vector<std::int32_t> ids{10, 49, 0, 9, 17, 50, 17};
    std::vector<float> out(ids.size() * columns, poison);
    embed_args args;
    args.ids = over(ids);
    args.table = table.get();
    args.first_row = 10;
    args.out = over(out, ids.size(), columns);
    d->ops().embed(args);
    INFO(info(type).name);
    for (std::size_t i = 0; i < out.size(); ++i) {
      const auto id = ids[i / columns];
      const float value =
          id < 10 || id > 49 ? 0 : right[static_cast<std::size_t>(id) * columns + i % columns];
      CHECK(out[i] == value);
    }
  }
}

TEST_CASE("embed adds learnt positions") {
  random_numbers random(32);
  const auto d = open_cpu(2);
  const stored_matrix words(dtype::f16, 8, 33, random), places(dtype::f32, 5, 33, random);
  const auto w = words.expanded(), p = places.expanded();
  const auto word_slice = words.slice(), place_slice = places.slice();
  const auto table = d->ops().prepare({&word_slice, 1}, weight_role::embedding, {});
  const auto positions = d->ops().prepare({&place_slice, 1}, weight_role::embedding, {});
  std::vector<std::int32_t> ids{7, 0, 3}, at{0, 4, 2};
  std::vector<float> out(ids.size() * 33, poison);
  embed_args args;
  args.ids = over(ids);
  args.table = table.get();
  args.position_table = positions.get();
  args.positions = over(at);
  args.out = over(out, 3, 33);
  d->ops().embed(args);
  for (std::size_t i = 0; i < out.size(); ++i) {
    CHECK(out[i] == w[static_cast<std::size_t>(ids[i / 33]) * 33 + i % 33] +
                        p[static_cast<std::size_t>(at[i / 33]) * 33 + i % 33]);
  }
}

TEST_CASE("add_norm adds, then norms, as double does") {
  random_numbers random(33);
  const auto d = open_cpu(2);
  for (const std::int64_t n : {1, 15, 16, 17, 576, 1000}) {
    for (const std::int64_t rows : {1, 3, 70}) {
      for (const auto kind : {norm_kind::rms, norm_kind::layer}) {
        auto partial = random.floats(rows * n, -3, 5);
        auto residual = random.floats(rows * n, -3, 5);
        const auto gain = random.floats(n), bias = random.floats(n);
        const auto gain_weight = vector_weight(d->ops(), gain);
        const auto bias_weight = vector_weight(d->ops(), bias);
        norm_args norm{kind, gain_weight.get(),
                       kind == norm_kind::layer ? bias_weight.get() : nullptr, 1e-5F};
        std::vector<float> normed(residual.size(), poison);
        const auto before = residual;
        const auto added = partial;
        add_norm_args args;
        args.partial = over(partial, rows, n);
        args.residual = over(residual, rows, n);
        args.norm = &norm;
        args.normed = over(normed, rows, n);
        d->ops().add_norm(args);
        double worst = 0;
        for (std::int64_t r = 0; r < rows; ++r) {
          std::vector<double> x;
          double mean = 0, variance = 0;
          for (std::int64_t i = 0; i < n; ++i) {
            const auto at = static_cast<std::size_t>(r * n + i);
            CHECK(residual[at] == before[at] + added[at]);
            x.push_back(static_cast<double>(residual[at]));
            mean += x.back() / static_cast<double>(n);
          }
          if (kind == norm_kind::rms) mean = 0;
          for (const auto v : x) variance += (v - mean) * (v - mean) / static_cast<double>(n);
          for (std::int64_t i = 0; i < n; ++i) {
            const auto at = static_cast<std::size_t>(i);
            double right =
                (x[at] - mean) / std::sqrt(variance + 1e-5) * static_cast<double>(gain[at]);
            if (kind == norm_kind::layer) right += static_cast<double>(bias[at]);
            worst = std::max(
                worst,
                std::abs(right - static_cast<double>(normed[static_cast<std::size_t>(r * n + i)])));
          }
        }
        INFO("n " << n << " rows " << rows);
        // One element has no variance: its layer norm amplifies the rounding of the mean.
        CHECK(worst < (n == 1 ? 1e-3 : 5e-6));
      }
    }
  }
}

TEST_CASE("add_norm without a norm leaves normed alone, and without a partial the residual") {
  const auto d = open_cpu(1);
  std::vector<float> partial{1, 2, 3}, residual{10, 20, 30}, normed{7, 7, 7};
  add_norm_args args;
  args.partial = over(partial, 1, 3);
  args.residual = over(residual, 1, 3);
  args.normed = over(normed, 1, 3);
  d->ops().add_norm(args);
  CHECK(residual == std::vector<float>{11, 22, 33});
  CHECK(normed == std::vector<float>{7, 7, 7});
  const auto gain = vector_weight(d->ops(), {1, 1, 1});
  const norm_args norm{norm_kind::rms, gain.get(), nullptr, 0};
  args.partial = {};
  args.norm = &norm;
  d->ops().add_norm(args);
  CHECK(residual == std::vector<float>{11, 22, 33});
  CHECK(normed[2] == Approx(33 / std::sqrt((121.0 + 484 + 1089) / 3)));
}

TEST_CASE("a norm that takes the residual's place has the bits of one beside it") {
  random_numbers random(36);
  const auto d = open_cpu(2);
  const auto gain = vector_weight(d->ops(), random.floats(77));
  const auto bias = vector_weight(d->ops(), random.floats(77));
  for (const auto kind : {norm_kind::rms, norm_kind::layer}) {
    const norm_args norm{kind, gain.get(), kind == norm_kind::layer ? bias.get() : nullptr, 1e-5F};
    const auto before = random.floats(40 * 77), added = random.floats(40 * 77);
    std::vector<float> residual = before, partial = added, beside(before.size(), poison);
    add_norm_args args;
    args.norm = &norm;
    args.partial = over(partial, 40, 77);
    args.residual = over(residual, 40, 77);
    args.normed = over(beside, 40, 77);
    d->ops().add_norm(args);
    residual = before;
    partial = added;
    args.normed = args.residual;
    d->ops().add_norm(args);
    CHECK(same_bits(residual, beside));
  }
}

TEST_CASE("a row's norm has the same bits alone and among others") {
  random_numbers random(34);
  const auto d = open_cpu(2);
  const auto gain = vector_weight(d->ops(), random.floats(577));
  const norm_args norm{norm_kind::rms, gain.get(), nullptr, 1e-5F};
  auto all = random.floats(100 * 577);
  std::vector<float> normed(all.size(), poison), alone(577, poison);
  add_norm_args args;
  args.norm = &norm;
  args.residual = over(all, 100, 577);
  args.normed = over(normed, 100, 577);
  d->ops().add_norm(args);
  for (std::int64_t r : {0, 57, 99}) {
    std::vector<float> one(all.begin() + r * 577, all.begin() + (r + 1) * 577);
    args.residual = over(one, 1, 577);
    args.normed = over(alone, 1, 577);
    d->ops().add_norm(args);
    CHECK(same_bits(alone, {normed.begin() + r * 577, normed.begin() + (r + 1) * 577}));
  }
}

TEST_CASE("gather_rows picks rows in the order asked for") {
  const auto d = open_cpu(1);
  std::vector<float> in{0, 1, 10, 11, 20, 21}, out(8, poison);
  std::vector<std::int32_t> rows{2, 0, 2, 1};
  d->ops().gather_rows(over(in, 3, 2), over(rows), over(out, 4, 2));
  CHECK(out == std::vector<float>{20, 21, 0, 1, 20, 21, 10, 11});
}

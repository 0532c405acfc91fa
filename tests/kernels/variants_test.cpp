// SPDX-License-Identifier: Apache-2.0
// Every compiled variant of the inner loops that this machine can run, not only the best: products,
// attention, norms, noise.
#include "kernels/cpu/ops.hpp"
#include "tests/kernels/support.hpp"

#include <cmath>

using namespace dinfer;
using namespace dinfer::kernels;
using namespace dinfer::tests;

namespace {

std::vector<float> product(ops& o, const stored_matrix& m, bool dequantize, std::vector<float> x,
                           std::int64_t rows) {
  const auto slice = m.slice();
  const auto w = o.prepare({&slice, 1}, weight_role::matrix, {dequantize});
  std::vector<float> out(static_cast<std::size_t>(rows * m.rows), poison);
  linear_args args;
  args.x = over(x, rows, m.columns);
  args.w = w.get();
  args.out = over(out, rows, m.rows);
  o.linear(args);
  return out;
}

// x as bytes of blocks of 32, in double: nearest to x times 127 over the block's largest.
std::vector<double> rounded_to_bytes(const std::vector<float>& x) {
  std::vector<double> out;
  for (std::size_t i = 0; i < x.size(); i += 32) {
    float most = 0;
    for (std::size_t k = i; k < i + 32; ++k) most = std::max(most, std::abs(x[k]));
    const float scale = most / 127, inverse = scale > 0 ? 1 / scale : 0;
    for (std::size_t k = i; k < i + 32; ++k)
      out.push_back(static_cast<double>(scale) * std::nearbyint(x[k] * inverse));
  }
  return out;
}

// What cancels in sums of quants that are not negative: bounds the rounding of a type's offsets.
double largest_offset(dtype type) { return type == dtype::q8_0 ? 0 : 32; }

// Philox4x32-10 as its paper has it, one block at a time.
std::uint32_t philox(std::uint32_t token, std::uint64_t position, std::uint64_t seed) {
  std::uint32_t c[4] = {token, static_cast<std::uint32_t>(position),
                        static_cast<std::uint32_t>(position >> 32), 0};
  std::uint32_t k[2] = {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)};
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53} * c[0], b = std::uint64_t{0xCD9E8D57} * c[2];
    const std::uint32_t next[4] = {
        static_cast<std::uint32_t>(b >> 32) ^ c[1] ^ k[0], static_cast<std::uint32_t>(b),
        static_cast<std::uint32_t>(a >> 32) ^ c[3] ^ k[1], static_cast<std::uint32_t>(a)};
    std::copy(next, next + 4, c);
    k[0] += 0x9E3779B9U;
    k[1] += 0xBB67AE85U;
  }
  return c[0];
}

double gumbel(std::uint32_t word) {
  const double u = (static_cast<double>(word) + 0.5) / 4294967296.0;
  return -std::log(-std::log1p(-u));
}

}  // namespace

TEST_CASE("every variant multiplies right, and alike for one row and for many") {
  random_numbers random(51);
  for (const auto* table : cpu::kernel_tables()) {
    cpu::thread_pool pool(2, -1);
    cpu::cpu_ops o(pool, false, *table);
    for (const auto type : weight_types()) {
      INFO(table->name << " " << info(type).name);
      const std::int64_t columns = whole_blocks(type, 160);
      const stored_matrix m(type, 70, columns, random);
      const auto w = m.expanded();
      const std::int64_t rows = 31;
      const auto x = random.floats(rows * m.columns);
      const auto all = product(o, m, false, x, rows);
      CHECK(same_bits(all, product(o, m, true, x, rows)));
      for (std::int64_t r = 0; r < rows; ++r) {
        const auto one =
            product(o, m, false, {x.begin() + r * columns, x.begin() + (r + 1) * columns}, 1);
        CHECK(same_bits(one, {all.begin() + r * 70, all.begin() + (r + 1) * 70}));
      }
      for (std::int64_t i = 0; i < rows * m.rows; ++i) {
        double right = 0, scale = 0;
        for (std::int64_t k = 0; k < columns; ++k) {
          const double term =
              static_cast<double>(x[static_cast<std::size_t>(i / 70 * columns + k)]) *
              static_cast<double>(w[static_cast<std::size_t>(i % 70 * columns + k)]);
          right += term;
          scale += std::abs(term);
        }
        CHECK(std::abs(right - static_cast<double>(all[static_cast<std::size_t>(i)])) <=
              2e-6 * scale);
      }
    }
  }
}

TEST_CASE("every variant multiplies bytes right, and alike for one row and for many") {
  random_numbers random(55);
  for (const auto* table : cpu::kernel_tables()) {
    cpu::thread_pool pool(2, -1);
    cpu::cpu_ops exact(pool, false, *table), o(pool, true, *table);
    for (const auto type : weight_types()) {
      INFO(table->name << " " << info(type).name);
      const std::int64_t columns = whole_blocks(type, 160), rows = 31;
      const stored_matrix m(type, 70, columns, random);
      auto x = random.floats(rows * columns);
      for (std::int64_t i = 0; i < rows * columns; i += 97) x[static_cast<std::size_t>(i)] = 0;
      const auto all = product(o, m, false, x, rows);
      for (std::int64_t r = 0; r < rows; ++r) {
        const auto one =
            product(o, m, false, {x.begin() + r * columns, x.begin() + (r + 1) * columns}, 1);
        CHECK(same_bits(one, {all.begin() + r * 70, all.begin() + (r + 1) * 70}));
      }
      if (!quantised(type) || type == dtype::q6_k) {
        CHECK(same_bits(all, product(exact, m, false, x, rows)));
        continue;
      }
      const auto w = m.expanded();
      const auto rounded = rounded_to_bytes(x);
      for (std::int64_t i = 0; i < rows * m.rows; ++i) {
        double right = 0, scale = 0;
        for (std::int64_t k = 0; k < columns; ++k) {
          const auto v = rounded[static_cast<std::size_t>(i / 70 * columns + k)];
          const auto weight =
              static_cast<double>(w[static_cast<std::size_t>(i % 70 * columns + k)]);
          right += v * weight;
          scale += std::abs(v) * (std::abs(weight) + largest_offset(type));
        }
        CHECK(std::abs(right - static_cast<double>(all[static_cast<std::size_t>(i)])) <=
              2e-6 * scale);
      }
    }
  }
}

TEST_CASE("rounding to bytes keeps the largest, zeros and what is no number") {
  for (const auto* table : cpu::kernel_tables()) {
    INFO(table->name);
    std::vector<float> x(96, 0.0F);
    x[3] = -2.54F, x[4] = 1.27F, x[40] = 1, x[41] = std::numeric_limits<float>::quiet_NaN();
    std::vector<std::int8_t> bytes(96, 55);
    std::vector<float> scales(6, poison);
    table->round_to_bytes(x.data(), 96, bytes.data(), scales.data());
    CHECK(bytes[3] == -127);
    CHECK((bytes[4] == 63 || bytes[4] == 64));
    CHECK(scales[0] == Approx(0.02));
    CHECK(scales[1] == scales[0] * static_cast<float>(bytes[3] + bytes[4]));
    CHECK(std::isnan(scales[2]));
    CHECK(scales[4] == 0);
    CHECK(std::all_of(bytes.begin() + 64, bytes.end(), [](auto b) { return b == 0; }));
    x[41] = std::numeric_limits<float>::infinity();
    table->round_to_bytes(x.data(), 96, bytes.data(), scales.data());
    CHECK(std::isnan(scales[2]));
  }
}

TEST_CASE("every variant attends and activates as the best one does") {
  random_numbers random(52);
  constexpr std::int32_t dim = 40, heads = 3, keys = 77, block_size = 8;
  const auto q = random.floats(keys * heads * dim);
  const auto pages = random.floats(std::int64_t{2} * 10 * block_size * dim);
  const std::vector<std::int32_t> blocks{3, 1, 0, 2, 9, 8, 7, 6, 5, 4};
  const auto attend = [&](const cpu::kernel_table& table, std::int32_t first, std::int32_t tokens) {
    std::vector<float> out(static_cast<std::size_t>(tokens * heads * dim), poison);
    std::vector<float> scratch(cpu::attention_scratch(dim) + 16);
    cpu::attention_job job;
    job.q = q.data() + first * heads * dim;
    job.q_stride = job.out_stride = heads * dim;
    job.out = out.data();
    job.tokens = tokens;
    job.heads = heads;
    job.head_dim = dim;
    job.first_position = first;
    job.scale = 0.3F;
    job.blocks = blocks.data();
    job.block_size = block_size;
    job.keys = reinterpret_cast<const std::byte*>(pages.data());
    job.values = job.keys + block_size * dim * 4;
    job.page_bytes = 2 * block_size * dim * 4;
    table.attention(job, scratch.data());
    return out;
  };
  const auto right = attend(cpu::best_kernels(), 57, 20);
  for (const auto* table : cpu::kernel_tables()) {
    INFO(table->name);
    const auto got = attend(*table, 57, 20);
    std::vector<float> one_by_one;
    for (std::int32_t t = 57; t < 77; ++t) {
      const auto one = attend(*table, t, 1);
      one_by_one.insert(one_by_one.end(), one.begin(), one.end());
    }
    CHECK(same_bits(got, one_by_one));
    for (std::size_t i = 0; i < got.size(); ++i) CHECK(got[i] == Approx(right[i]).margin(2e-6));
  }
}

TEST_CASE("every variant sums exponentials and finds maxima as float64 does") {
  random_numbers random(53);
  for (const auto* table : cpu::kernel_tables()) {
    INFO(table->name);
    for (const std::int64_t n : {1, 15, 16, 100, 5000}) {
      auto x = random.floats(n, -60, 3);
      double right = 0;
      for (const auto v : x) right += std::exp((static_cast<double>(v) - 1) * 1.5);
      CHECK(table->sum_exp(x.data(), n, 1, 1.5F) == Approx(right).epsilon(1e-5));
      x[static_cast<std::size_t>(n / 2)] = x[static_cast<std::size_t>(n - 1)] = 7;
      x[0] = n > 2 ? poison : x[0];
      float value = 0;
      std::int64_t index = -1;
      table->find_max(x.data(), n, &value, &index);
      CHECK(value == 7);
      CHECK(index == n / 2);
    }
    // Each value alone: e^x from deep underflow to 88.
    for (float v = -100; v < 88; v += 0.37F) {
      const double right = std::exp(static_cast<double>(v));
      const double got = table->sum_exp(&v, 1, 0, 1);
      if (v > -87) {
        CHECK(got == Approx(right).epsilon(4e-7));
      } else if (v < -88) {
        CHECK(got == 0);
      }
    }
    const float zero = 0;
    CHECK(table->sum_exp(&zero, 1, 0, 1) == 1);
  }
}

TEST_CASE("every variant's noise is Philox made Gumbel") {
  CHECK(philox(0, 0, 0) == 0x6627E8D5U);  // the authors' known answer
  random_numbers random(54);
  for (const auto* table : cpu::kernel_tables()) {
    INFO(table->name);
    const std::uint64_t seed = 0x0123456789ABCDEFU, position = 0x1FFFFFFFFU;
    std::vector<float> x(100'000, 0.0F);
    table->add_gumbel(x.data(), static_cast<std::int64_t>(x.size()), 1, {seed, position, 5});
    double worst = 0, worst_small = 0;
    for (std::uint32_t i = 0; i < x.size(); ++i) {
      const double right = gumbel(philox(5 + i, position, seed));
      const double off = std::abs(right - static_cast<double>(x[i]));
      // u is a float: coarse near 1, where the number is among the smallest that there are.
      (right > -1 ? worst : worst_small) = std::max(right > -1 ? worst : worst_small, off);
    }
    CHECK(worst < 3e-6);
    CHECK(worst_small < 1e-3);
    // The bits do not depend on where a shard begins.
    for (const std::size_t begin : {std::size_t{1}, std::size_t{17}, std::size_t{4093}}) {
      std::vector<float> part(33, 0.0F);
      table->add_gumbel(part.data(), 33, 1,
                        {seed, position, static_cast<std::uint32_t>(5 + begin)});
      CHECK(std::equal(part.begin(), part.end(), x.begin() + static_cast<std::ptrdiff_t>(begin)));
    }
  }
}

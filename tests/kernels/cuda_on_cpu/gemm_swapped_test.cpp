// SPDX-License-Identifier: Apache-2.0
// multiply_swapped on the host. Elements are small integers and scales powers of two, so that every
// sum is exact in f32 in whatever order, and results must be right to the bit.
#include "kernels/cuda/gemm_swapped.hpp"
#include "kernels/cuda/types.cuh"
#include "tests/support/catch.hpp"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>

namespace dinfer::tests {
namespace {

using namespace kernels;
using namespace kernels::cuda;
using f8 = __nv_fp8_e4m3;

template <class T>
constexpr dtype type_of() {
  return std::is_same_v<T, float>  ? dtype::f32
         : std::is_same_v<T, bf16> ? dtype::bf16
         : std::is_same_v<T, f16>  ? dtype::f16
                                   : dtype::f8_e4m3;
}

template <class T>
T element(int v) {
  if constexpr (std::is_same_v<T, f8>) return f8(static_cast<float>(v));
  else return from_float<T>(static_cast<float>(v));
}

// What tiles that are cut go through; counters have to be zeros after every launch.
struct shared_tiles {
  cuda_on_cpu::guarded<float> parts{std::size_t{1} << 20};
  cuda_on_cpu::guarded<std::uint32_t> counters{swapped_counters};

  shared_tiles() { std::fill(counters.begin(), counters.end(), 0U); }
  swapped_space space() const {
    return {parts.data(), parts.size() * sizeof(float), counters.data()};
  }
  bool clean() const {
    return std::all_of(counters.begin(), counters.end(), [](auto c) { return c == 0; });
  }
};

struct sizes {
  std::int64_t rows, n, k, x_gap = 0, w_gap = 0, out_gap = 0;
};

// Memory ends where operands do; between rows lies NaN.
template <class T>
struct problem {
  sizes of;
  cuda_on_cpu::guarded<T> x, w;
  cuda_on_cpu::guarded<float> x_scales, w_scales;
  std::vector<int> x_values, w_values;

  problem(const sizes& s, std::mt19937& random)
      : of(s),
        x(static_cast<std::size_t>((s.rows - 1) * (s.k + s.x_gap) + s.k)),
        w(static_cast<std::size_t>((s.n - 1) * (s.k + s.w_gap) + s.k)),
        x_scales(static_cast<std::size_t>(s.rows)),
        w_scales(static_cast<std::size_t>(s.n)) {
    x_values = fill(x, s.rows, s.k + s.x_gap, random);
    w_values = fill(w, s.n, s.k + s.w_gap, random);
    for (auto* scales : {&x_scales, &w_scales}) {
      for (float& scale : *scales) scale = std::ldexp(1.0F, static_cast<int>(random() % 7) - 3);
    }
  }
  std::vector<int> fill(cuda_on_cpu::guarded<T>& to, std::int64_t rows, std::int64_t stride,
                        std::mt19937& random) const {
    std::vector<int> values;
    for (std::int64_t i = 0; i < rows * of.k; ++i) {
      values.push_back(static_cast<int>(random() % 9) - 4);
      to[static_cast<std::size_t>(i / of.k * stride + i % of.k)] = element<T>(values.back());
    }
    return values;
  }

  template <class Out>
  product into(Out* out, std::int64_t columns) const {
    product p;
    p.x = x.data();
    p.w = w.data();
    p.out = out;
    p.rows = of.rows;
    p.n = of.n;
    p.k = of.k;
    p.ldx = of.k + of.x_gap;
    p.ldw = of.k + of.w_gap;
    p.ldo = columns + of.out_gap;
    p.type = type_of<T>();
    p.out_type = type_of<Out>();
    if (p.type == dtype::f8_e4m3) p.x_scales = x_scales.data(), p.w_scales = w_scales.data();
    return p;
  }
  float right(std::int64_t r, std::int64_t i) const {
    int sum = 0;
    for (std::int64_t c = 0; c < of.k; ++c)
      sum += x_values[static_cast<std::size_t>(r * of.k + c)] *
             w_values[static_cast<std::size_t>(i * of.k + c)];
    const float scale = sizeof(T) > 1 ? 1
                                      : x_scales[static_cast<std::size_t>(r)] *
                                            w_scales[static_cast<std::size_t>(i)];
    return static_cast<float>(sum) * scale;
  }
};

template <class Out>
bool same(Out a, Out b) {
  return std::memcmp(&a, &b, sizeof a) == 0;
}

// Every element to the bit, and nothing between rows touched.
template <class T, class Out>
int wrong(const problem<T>& it, const cuda_on_cpu::guarded<Out>& out) {
  int count = 0;
  const std::int64_t stride = it.of.n + it.of.out_gap;
  Out untouched;
  std::memset(static_cast<void*>(&untouched), 0xFF, sizeof untouched);
  for (std::size_t at = 0; at < out.size(); ++at) {
    const auto r = static_cast<std::int64_t>(at) / stride,
               i = static_cast<std::int64_t>(at) % stride;
    const Out right = i < it.of.n ? from_float<Out>(it.right(r, i)) : untouched;
    count += same(out[at], right) ? 0 : 1;
  }
  return count;
}

template <class T, class Out>
void check(const sizes& s, const swapped_plan& plan, const shared_tiles& tiles,
           std::mt19937& random) {
  const problem<T> it(s, random);
  cuda_on_cpu::guarded<Out> out(static_cast<std::size_t>((s.rows - 1) * (s.n + s.out_gap) + s.n));
  const product p = it.into(out.data(), s.n);
  INFO("rows " << s.rows << " n " << s.n << " k " << s.k << " gaps " << s.x_gap << ' ' << s.w_gap
               << ' ' << s.out_gap << " height " << plan.height << " blocks " << plan.blocks);
  REQUIRE(swapped_takes(p));
  REQUIRE(swapped_fits(p, plan, 132, tiles.space().parts_bytes));
  multiply_swapped(p, plan, tiles.space(), nullptr);
  CHECK(wrong(it, out) == 0);
  CHECK(tiles.clean());
}

template <class T, class Out>
void check_random(int times, std::uint64_t seed) {
  std::mt19937 random(static_cast<std::mt19937::result_type>(seed));
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  const shared_tiles tiles;
  constexpr std::int64_t whole = 16 / sizeof(T);
  const auto below = [&](std::int64_t most) { return static_cast<std::int64_t>(random() % most); };
  for (int i = 0; i < times; ++i) {
    cuda_on_cpu::set_order(i % 3 == 0 ? 0 : random());
    sizes s{9 + below(120), 8 * (1 + below(48)), whole * (1 + below(40))};
    if (below(2) == 0) s.x_gap = whole * below(3), s.w_gap = whole * below(3);
    if (below(2) == 0) s.out_gap = 8 * below(3);
    swapped_plan plan{std::int32_t{64} << below(3), 0};
    if (sizeof(T) == 1 && s.rows > 64 && plan.height == 256) plan.height = 128;
    const std::int64_t units = (s.n + plan.height - 1) / plan.height *
                               ((s.k * static_cast<std::int64_t>(sizeof(T)) + 127) / 128);
    plan.blocks = static_cast<std::int32_t>(1 + below(std::min<std::int64_t>(units, 12)));
    check<T, Out>(s, plan, tiles, random);
  }
}

TEST_CASE("swapped products are right to the bit, however they are cut") {
  check_random<bf16, float>(40, 301);
  check_random<bf16, bf16>(20, 302);
  check_random<f16, f16>(15, 303);
  check_random<f16, float>(10, 304);
}

TEST_CASE("swapped products of 8-bit floats are right to the bit, however they are cut") {
  check_random<f8, bf16>(40, 311);
  check_random<f8, f16>(20, 312);
}

TEST_CASE("a swapped product goes around its ring many times") {
  std::mt19937 random(321);
  const shared_tiles tiles;
  cuda_on_cpu::set_order(5);
  check<bf16, bf16>({17, 136, 2056}, {64, 1}, tiles, random);
  check<bf16, bf16>({128, 136, 1096}, {128, 2}, tiles, random);
  check<bf16, float>({70, 264, 520}, {256, 1}, tiles, random);
  check<f8, bf16>({64, 64, 4112}, {64, 1}, tiles, random);
}

TEST_CASE("every plan that is proposed fits, and gives the right sums") {
  std::mt19937 random(331);
  const shared_tiles tiles;
  cuda_on_cpu::set_order(0);
  for (const std::int64_t rows : {20, 64, 100}) {
    const sizes s{rows, 392, 328};
    const problem<bf16> it(s, random);
    cuda_on_cpu::guarded<bf16> out(static_cast<std::size_t>(rows * s.n));
    const product p = it.into(out.data(), s.n);
    const auto plans = swapped_plans(p, 5);
    CHECK(plans.size() >= 4);
    for (const auto& plan : plans) {
      INFO("height " << plan.height << " blocks " << plan.blocks);
      REQUIRE(swapped_fits(p, plan, 5, tiles.space().parts_bytes));
      out.poison();
      multiply_swapped(p, plan, tiles.space(), nullptr);
      CHECK(wrong(it, out) == 0);
    }
  }
}

// Numbers whose sums depend on their order.
TEST_CASE("a swapped product has the same bits whichever block of a tile comes last") {
  std::mt19937 random(341);
  std::printf("seed 341\n");
  const shared_tiles tiles;
  constexpr std::int64_t rows = 40, n = 200, k = 1024;
  std::normal_distribution<float> normal;
  std::vector<bf16> x(rows * k), w(n * k);
  for (auto* operand : {&x, &w}) {
    for (auto& v : *operand) v = from_float<bf16>(normal(random));
  }
  std::vector<std::vector<float>> results;
  for (const std::uint64_t order : {0, 1, 2, 3}) {
    cuda_on_cpu::set_order(order);
    std::vector<float>& out = results.emplace_back(rows * n, NAN);
    product p;
    p.x = x.data();
    p.w = w.data();
    p.out = out.data();
    p.rows = rows;
    p.n = p.ldo = n;
    p.k = p.ldx = p.ldw = k;
    p.out_type = dtype::f32;
    multiply_swapped(p, {128, 9}, tiles.space(), nullptr);
    CHECK(std::memcmp(out.data(), results[0].data(), out.size() * sizeof(float)) == 0);
  }
  double worst = 0;
  for (std::size_t at = 0; at < results[0].size(); ++at) {
    double sum = 0;
    for (std::size_t c = 0; c < k; ++c)
      sum += static_cast<double>(to_float(x[at / n * k + c])) * to_float(w[at % n * k + c]);
    worst = std::max(worst, std::abs(results[0][at] - sum));
  }
  CHECK(worst < 1e-3);
}

TEST_CASE("a swapped product gates its columns as it writes them") {
  std::mt19937 random(351);
  const shared_tiles tiles;
  for (const auto& [rows, n, k, height, blocks] :
       {std::array{33, 96, 72, 64, 1}, std::array{128, 272, 200, 128, 5},
        std::array{12, 528, 136, 256, 4}}) {
    cuda_on_cpu::set_order(static_cast<std::uint64_t>(blocks));
    const problem<bf16> it({rows, n, k}, random);
    cuda_on_cpu::guarded<bf16> out(static_cast<std::size_t>(rows * n / 2));
    multiply_swapped_swiglu(it.into(out.data(), n / 2), {height, blocks}, tiles.space(), nullptr);
    CHECK(tiles.clean());
    double worst = 0;
    for (std::int64_t at = 0; at < rows * n / 2; ++at) {
      const std::int64_t r = at / (n / 2), i = at % (n / 2), first = i / 8 * 16 + i % 8;
      const double gate = it.right(r, first), up = it.right(r, first + 8);
      const double right = gate / (1 + std::exp(-gate)) * up;
      const double off = std::abs(to_float(out[static_cast<std::size_t>(at)]) - right);
      const double share = off / (std::abs(right) * 0x1p-8 + 1e-6);
      worst = share <= worst ? worst : share;  // NaN stays
    }
    CHECK(worst <= 1);
  }
}

TEST_CASE("what a swapped product hides nothing of: NaN of one row, weights past the end") {
  std::mt19937 random(361);
  const shared_tiles tiles;
  cuda_on_cpu::set_order(0);
  problem<bf16> it({10, 72, 136}, random);
  it.x[3 * 136 + 100] = from_float<bf16>(NAN);
  cuda_on_cpu::guarded<bf16> out(10 * 72);
  multiply_swapped(it.into(out.data(), 72), {64, 3}, tiles.space(), nullptr);
  for (std::size_t at = 0; at < out.size(); ++at)
    CHECK(std::isnan(to_float(out[at])) == (at / 72 == 3));
}

TEST_CASE("what a swapped product does not take") {
  std::mt19937 random(371);
  const problem<bf16> it({16, 64, 64}, random);
  cuda_on_cpu::guarded<bf16> out(16 * 64);
  const product good = it.into(out.data(), 64);
  CHECK(swapped_takes(good));
  const auto refused = [&](auto&& change) {
    product p = good;
    change(p);
    return !swapped_takes(p);
  };
  CHECK(refused([](product& p) { p.rows = 8; }));
  CHECK(refused([](product& p) { p.rows = 129; }));
  CHECK(refused([](product& p) { p.n = 60; }));
  CHECK(refused([](product& p) { p.k = 60; }));
  CHECK(refused([](product& p) { p.n = std::int64_t{1} << 21; }));
  CHECK(refused([](product& p) { p.ldw = 68; }));
  CHECK(refused([](product& p) { p.ldo = 68; }));
  CHECK(refused([](product& p) { p.type = dtype::f32; }));
  CHECK(refused([](product& p) { p.out_type = dtype::f16; }));
  CHECK(refused([](product& p) { p.type = dtype::f8_e4m3, p.out_type = dtype::f32; }));
  CHECK(refused([](product& p) { p.x = static_cast<const bf16*>(p.x) + 1; }));
  CHECK(refused([](product& p) { p.out = static_cast<bf16*>(p.out) + 4; }));
  const std::size_t plenty = std::size_t{1} << 30;
  CHECK(swapped_fits(good, {64, 1}, 132, plenty));
  CHECK(!swapped_fits(good, {64, 2}, 132, plenty));  // there is one unit
  CHECK(!swapped_fits(good, {64, 1}, 132, 1000));
  CHECK(!swapped_fits(good, {96, 1}, 132, plenty));
  CHECK(!swapped_fits(good, {64, 0}, 132, plenty));
  product deep = good;
  deep.k = deep.ldx = deep.ldw = 1 << 20;
  CHECK(swapped_fits(deep, {64, 132}, 132, plenty));
  CHECK(!swapped_fits(deep, {64, 133}, 132, plenty));
}

}  // namespace
}  // namespace dinfer::tests

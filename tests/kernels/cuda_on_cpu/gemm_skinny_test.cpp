// SPDX-License-Identifier: Apache-2.0
// multiply_skinny on the host, against sums in double.
#include "kernels/cuda/gemm_skinny.hpp"
#include "kernels/cuda/types.cuh"
#include "tests/support/catch.hpp"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

namespace dinfer::tests {
namespace {

using namespace kernels;
using namespace kernels::cuda;

// A product over memory of its own; rows are `gap` elements apart, and the gaps NaN.
template <class T, class Out>
struct problem {
  std::int64_t rows, n, k, gap, width;  // width: columns of out
  std::vector<T> x, w;
  std::vector<Out> out;

  problem(std::int64_t r, std::int64_t outputs, std::int64_t depth, std::int64_t apart, bool swiglu,
          std::mt19937& random)
      : rows(r), n(outputs), k(depth), gap(apart), width(swiglu ? outputs / 2 : outputs) {
    x = made(rows, random);
    w = made(n, random);
  }
  std::vector<T> made(std::int64_t count, std::mt19937& random) const {
    std::vector<T> v(static_cast<std::size_t>(count * (k + gap)), from_float<T>(NAN));
    for (std::int64_t i = 0; i < count * k; ++i) {
      v[static_cast<std::size_t>(i / k * (k + gap) + i % k)] =
          from_float<T>(static_cast<float>(random() >> 8) * 0x1p-23F - 1);
    }
    return v;
  }
  product over(std::int64_t first, std::int64_t count) {
    out.assign(static_cast<std::size_t>(count * (width + gap)), from_float<Out>(NAN));
    product p;
    p.x = x.data() + first * (k + gap);
    p.w = w.data();
    p.out = out.data();
    p.rows = count;
    p.n = n;
    p.k = k;
    p.ldx = p.ldw = k + gap;
    p.ldo = width + gap;
    p.type = std::is_same_v<T, bf16> ? dtype::bf16 : dtype::f16;
    p.out_type = sizeof(Out) == 4 ? dtype::f32 : p.type;
    return p;
  }
  double dot(std::int64_t row, std::int64_t i, double& size) const {
    double sum = 0;
    size = 0;
    for (std::int64_t c = 0; c < k; ++c) {
      const double term =
          static_cast<double>(to_float(x[static_cast<std::size_t>(row * (k + gap) + c)])) *
          to_float(w[static_cast<std::size_t>(i * (k + gap) + c)]);
      sum += term;
      size += std::abs(term);
    }
    return sum;
  }
  // The largest error, as a share of what is allowed.
  double worst(bool swiglu) const {
    const double rounding = sizeof(Out) == 4 ? 1e-6 : std::is_same_v<Out, bf16> ? 0x1p-8 : 0x1p-11;
    double most = 0;
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t i = 0; i < width; ++i) {
        double size = 0, size_up = 0, right = 0;
        if (swiglu) {
          const double gate = dot(r, i / 8 * 16 + i % 8, size);
          const double up = dot(r, i / 8 * 16 + i % 8 + 8, size_up);
          right = gate / (1 + std::exp(-gate)) * up;
          size = size * std::abs(up) * 1.1 + size_up * std::abs(gate);
        } else {
          right = dot(r, i, size);
        }
        const double got = to_float(out[static_cast<std::size_t>(r * (width + gap) + i)]);
        const double off = std::abs(got - right) / (1e-6 * size + rounding * std::abs(right));
        most = std::isnan(off) ? 1e9 : std::max(most, off);
      }
      for (std::int64_t i = width; i < width + gap; ++i) {
        if (!std::isnan(to_float(out[static_cast<std::size_t>(r * (width + gap) + i)]))) return 1e9;
      }
    }
    return most;
  }
};

template <class T, class Out>
void check_shapes(std::mt19937& random) {
  for (const std::int64_t rows : {1, 2, 3, 5, 8}) {
    for (const std::int64_t k : {64, 192, 512, 576, 1600, 2112}) {
      for (const std::int64_t n : {16, 80}) {
        for (const bool swiglu : {false, true}) {
          problem<T, Out> it(rows, n, k, k == 576 ? 8 : 0, swiglu, random);
          const auto p = it.over(0, rows);
          REQUIRE(skinny_takes(p));
          swiglu ? multiply_skinny_swiglu(p, nullptr) : multiply_skinny(p, nullptr);
          INFO("rows " << rows << " n " << n << " k " << k << " swiglu " << swiglu);
          CHECK(it.worst(swiglu) <= 1);
        }
      }
    }
  }
}

TEST_CASE("skinny products agree with double") {
  std::mt19937 random(81);
  std::printf("seed 81\n");
  for (const std::uint64_t order : {0, 1, 2}) {
    cuda_on_cpu::set_order(order);
    check_shapes<bf16, bf16>(random);
    check_shapes<f16, f16>(random);
    check_shapes<bf16, float>(random);
  }
}

TEST_CASE("a row of a skinny product has the same bits beside any others") {
  std::mt19937 random(82);
  std::printf("seed 82\n");
  cuda_on_cpu::set_order(0);
  problem<bf16, float> it(8, 64, 1088, 0, false, random);
  multiply_skinny(it.over(0, 8), nullptr);
  const auto all = it.out;
  for (const std::int64_t rows : {1, 2, 5, 7}) {
    for (const std::int64_t first : {std::int64_t{0}, 8 - rows}) {
      multiply_skinny(it.over(first, rows), nullptr);
      CHECK(std::memcmp(it.out.data(), all.data() + first * 64, it.out.size() * 4) == 0);
    }
  }
}

TEST_CASE("what a skinny product does not take") {
  std::mt19937 random(83);
  problem<bf16, bf16> it(8, 32, 128, 0, false, random);
  const auto good = it.over(0, 8);
  REQUIRE(skinny_takes(good));
  const auto refused = [&](auto change) {
    auto p = good;
    change(p);
    return !skinny_takes(p);
  };
  CHECK(refused([](product& p) { p.rows = 9; }));
  CHECK(refused([](product& p) { p.rows = 0; }));
  CHECK(refused([](product& p) { p.n = 24; }));
  CHECK(refused([](product& p) { p.k = 96; }));
  CHECK(refused([](product& p) { p.ldx = 132; }));
  CHECK(refused([](product& p) { p.ldw = 129; }));
  CHECK(refused([](product& p) { p.type = dtype::f32; }));
  CHECK(refused([](product& p) { p.x = static_cast<const char*>(p.x) + 8; }));
}

}  // namespace
}  // namespace dinfer::tests

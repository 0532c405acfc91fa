// SPDX-License-Identifier: Apache-2.0
// multiply_exact on the host, against sums in double: every tile size, edges of every kind, and
// that the bits of a row do not depend on the number of rows.
#include "kernels/cuda/gemm_exact.hpp"
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

// A matrix with rows `stride` apart, whose gaps are NaN; out matrices are all NaN at first.
template <class T>
struct matrix {
  std::int64_t rows, columns, stride;
  std::vector<T> values;

  matrix(std::int64_t r, std::int64_t c, std::int64_t s) : rows(r), columns(c), stride(s) {
    values.resize(static_cast<std::size_t>(r * s), from_float<T>(NAN));
  }
  T& at(std::int64_t r, std::int64_t c) { return values[static_cast<std::size_t>(r * stride + c)]; }
  void fill(std::mt19937& random) {
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < columns; ++c) {
        at(r, c) = from_float<T>(static_cast<float>(random() >> 8) * 0x1p-23F - 1);
      }
    }
  }
};

template <class T>
dtype type_of() {
  if (sizeof(T) == 4) return dtype::f32;
  return std::is_same_v<T, bf16> ? dtype::bf16 : dtype::f16;
}

struct shape {
  std::int64_t rows, n, k, gap;  // gap: between rows
};

template <class T, class Out>
matrix<Out> multiplied(matrix<T>& x, matrix<T>& w, std::int64_t first, std::int64_t rows,
                       std::int64_t gap) {
  matrix<Out> out(rows, w.rows, w.rows + gap);
  product p;
  p.x = &x.at(first, 0);
  p.w = w.values.data();
  p.out = out.values.data();
  p.rows = rows;
  p.n = w.rows;
  p.k = w.columns;
  p.ldx = x.stride;
  p.ldw = w.stride;
  p.ldo = out.stride;
  p.type = type_of<T>();
  p.out_type = type_of<Out>();
  multiply_exact(p, nullptr);
  return out;
}

template <class Out>
bool gaps_untouched(matrix<Out>& m) {
  for (std::int64_t r = 0; r < m.rows; ++r) {
    for (std::int64_t c = m.columns; c < m.stride; ++c) {
      if (!std::isnan(to_float(m.at(r, c)))) return false;
    }
  }
  return true;
}

template <class T, class Out>
void check_shape(const shape& s, std::mt19937& random) {
  matrix<T> x(s.rows, s.k, s.k + s.gap), w(s.n, s.k, s.k + s.gap);
  x.fill(random);
  w.fill(random);
  auto out = multiplied<T, Out>(x, w, 0, s.rows, s.gap);
  const double rounding = sizeof(Out) == 4 ? 0 : std::is_same_v<Out, bf16> ? 0x1p-8 : 0x1p-11;
  double worst = 0;
  for (std::int64_t r = 0; r < s.rows; ++r) {
    for (std::int64_t n = 0; n < s.n; ++n) {
      double sum = 0, size = 0;
      for (std::int64_t k = 0; k < s.k; ++k) {
        const double term = static_cast<double>(to_float(x.at(r, k))) * to_float(w.at(n, k));
        sum += term;
        size += std::abs(term);
      }
      const double off =
          std::abs(to_float(out.at(r, n)) - sum) / (1e-6 * size + rounding * std::abs(sum) + 1e-30);
      worst = std::isnan(off) ? 1e9 : std::max(worst, off);
    }
  }
  INFO(info(type_of<T>()).name << " to " << info(type_of<Out>()).name << " rows " << s.rows << " n "
                               << s.n << " k " << s.k << " gap " << s.gap);
  CHECK(worst <= 1);
  CHECK(gaps_untouched(out));
}

const std::vector<shape> shapes{
    {1, 1, 1, 0},       {1, 33, 64, 0},     {1, 70, 300, 0},  {3, 31, 129, 0},   {8, 64, 200, 8},
    {5, 40, 7, 3},      {9, 65, 72, 0},     {16, 32, 128, 0}, {17, 96, 160, 16}, {33, 130, 65, 0},
    {64, 100, 264, 0},  {70, 63, 31, 1},    {200, 48, 40, 0}, {1, 257, 1000, 0}, {16, 5, 520, 8},
    {600, 1700, 40, 8}, {1030, 999, 37, 0},
};

template <class T>
void check_rows(std::int64_t most, std::int64_t n, std::int64_t k, std::mt19937& random) {
  matrix<T> x(most, k, k), w(n, k, k);
  x.fill(random);
  w.fill(random);
  auto all = multiplied<T, float>(x, w, 0, most, 0);
  for (const std::int64_t rows : {1, 2, 7, 8, 9, 16, 17, 64, 65, 200}) {
    for (const std::int64_t first : {std::int64_t{0}, most - rows}) {
      auto some = multiplied<T, float>(x, w, first, rows, 0);
      INFO(info(type_of<T>()).name << " rows " << first << " and " << rows << " more");
      CHECK(std::memcmp(some.values.data(), &all.at(first, 0), some.values.size() * 4) == 0);
    }
  }
}

TEST_CASE("exact products agree with double for every type, tile and edge") {
  std::mt19937 random(71);
  std::printf("seed 71\n");
  for (const std::uint64_t order : {0, 1, 2}) {
    cuda_on_cpu::set_order(order);
    for (const auto& s : shapes) {
      if (order != 0 && s.rows * s.n > 20000) continue;
      check_shape<float, float>(s, random);
      check_shape<bf16, bf16>(s, random);
      if (s.rows * s.n > 20000) continue;
      check_shape<bf16, float>(s, random);
      check_shape<f16, f16>(s, random);
      check_shape<f16, float>(s, random);
    }
  }
}

TEST_CASE("a row's bits are the same in every tile") {
  std::mt19937 random(72);
  std::printf("seed 72\n");
  cuda_on_cpu::set_order(0);
  for (const std::int64_t k : {97, 168}) {
    check_rows<float>(1030, 960, k, random);
    check_rows<bf16>(520, 1800, k, random);
    check_rows<f16>(520, 1800, k, random);
  }
}

}  // namespace
}  // namespace dinfer::tests

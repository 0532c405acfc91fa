// SPDX-License-Identifier: Apache-2.0
// multiply_fp8 on the host, against sums in double over torch's values.
#include "kernels/cuda/gemm_fp8.hpp"
#include "kernels/cuda/types.cuh"
#include "tests/kernels/cuda/f8_table.hpp"

#include <cstdio>
#include <cstring>
#include <random>

namespace dinfer::tests {
namespace {

using namespace kernels;
using namespace kernels::cuda;

template <class Out>
constexpr dtype type_of() {
  return std::is_same_v<Out, float>  ? dtype::f32
         : std::is_same_v<Out, bf16> ? dtype::bf16
                                     : dtype::f16;
}

// Operands of any bits but NaN; memory ends where they do.
struct problem {
  std::int64_t rows, n, k;
  const f8_table& table;
  cuda_on_cpu::guarded<std::uint8_t> x, w;
  cuda_on_cpu::guarded<float> x_scales, w_scales;

  problem(const f8_table& t, std::int64_t r, std::int64_t outputs, std::int64_t depth,
          std::mt19937& random)
      : rows(r),
        n(outputs),
        k(depth),
        table(t),
        x(static_cast<std::size_t>(r * depth)),
        w(static_cast<std::size_t>(outputs * depth)),
        x_scales(static_cast<std::size_t>(r)),
        w_scales(static_cast<std::size_t>(outputs)) {
    for (auto* codes : {&x, &w}) {
      for (auto& code : *codes) {
        code = static_cast<std::uint8_t>(random());
        if ((code & f8_table::nan) == f8_table::nan) code = 0x31;
      }
    }
    for (auto* scales : {&x_scales, &w_scales}) {
      for (auto& scale : *scales) scale = static_cast<float>(random() % 1000 + 1) * 0x1p-17F;
    }
  }

  template <class Out>
  product over(std::int64_t first, std::int64_t count, Out* out) const {
    product p;
    p.x = x.data() + first * k;
    p.w = w.data();
    p.out = out;
    p.rows = count;
    p.n = p.ldo = n;
    p.k = p.ldx = p.ldw = k;
    p.type = dtype::f8_e4m3;
    p.out_type = type_of<Out>();
    p.x_scales = x_scales.data() + first;
    p.w_scales = w_scales.data();
    return p;
  }

  // The largest error, as a share of what is allowed.
  template <class Out>
  double worst(const Out* out) const {
    const double rounding = sizeof(Out) == 4 ? 2e-7 : std::is_same_v<Out, bf16> ? 0x1p-8 : 0x1p-11;
    const double least = std::is_same_v<Out, f16> ? 0x1p-24 : 1e-30;  // a step between subnormals
    double most = 0;
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t i = 0; i < n; ++i) {
        double sum = 0, size = 0;
        for (std::int64_t c = 0; c < k; ++c) {
          const double term =
              static_cast<double>(table.value(x[static_cast<std::size_t>(r * k + c)])) *
              static_cast<double>(table.value(w[static_cast<std::size_t>(i * k + c)]));
          sum += term;
          size += std::abs(term);
        }
        const double scale = static_cast<double>(x_scales[static_cast<std::size_t>(r)]) *
                             static_cast<double>(w_scales[static_cast<std::size_t>(i)]);
        const double off = std::abs(static_cast<double>(to_float(out[r * n + i])) - sum * scale);
        const double share = off / (scale * size * 1e-6 + rounding * std::abs(sum * scale) + least);
        most = std::isnan(share) ? 1e9 : std::max(most, share);
      }
    }
    return most;
  }
};

template <class Out>
void check_shapes(const f8_table& table, std::mt19937& random) {
  for (const std::int64_t rows : {1, 7, 8, 9, 16, 17, 32, 33, 70}) {
    for (const std::int64_t k : {32, 48, 128, 576, 1040, 2304}) {
      for (const std::int64_t n : {16, 80}) {
        if (rows * k * n > 1'000'000) continue;
        const problem it(table, rows, n, k, random);
        cuda_on_cpu::guarded<Out> out(static_cast<std::size_t>(rows * n));
        multiply_fp8(it.over(0, rows, out.data()), nullptr);
        INFO("rows " << rows << " n " << n << " k " << k);
        CHECK(it.worst(out.data()) <= 1);
      }
    }
  }
}

TEST_CASE("products of 8-bit floats agree with double") {
  std::mt19937 random(91);
  std::printf("seed 91\n");
  const f8_table table;
  for (const std::uint64_t order : {0, 1}) {
    cuda_on_cpu::set_order(order);
    check_shapes<bf16>(table, random);
  }
  check_shapes<f16>(table, random);
  check_shapes<float>(table, random);
}

TEST_CASE("a row of a product of 8-bit floats has the same bits beside any others") {
  std::mt19937 random(92);
  std::printf("seed 92\n");
  cuda_on_cpu::set_order(0);
  const f8_table table;
  const problem it(table, 40, 32, 1072, random);
  std::vector<float> all(40 * 32), some(40 * 32);
  multiply_fp8(it.over(0, 40, all.data()), nullptr);
  for (const std::int64_t rows : {1, 8, 13, 32}) {
    for (const std::int64_t first : {std::int64_t{0}, 40 - rows}) {
      multiply_fp8(it.over(first, rows, some.data()), nullptr);
      CHECK(std::memcmp(some.data(), all.data() + first * 32,
                        static_cast<std::size_t>(rows) * 32 * sizeof(float)) == 0);
    }
  }
}

TEST_CASE("what is not finite is not hidden by 8-bit floats") {
  std::mt19937 random(93);
  const f8_table table;
  problem it(table, 3, 16, 64, random);
  it.x[70] = f8_table::nan;   // of row 1
  it.x_scales[2] = INFINITY;  // an infinity's row, all zeros but one NaN
  std::fill_n(it.x.data() + 128, 64, std::uint8_t{0});
  std::vector<float> out(48);
  multiply_fp8(it.over(0, 3, out.data()), nullptr);
  for (std::size_t i = 0; i < 48; ++i) CHECK(std::isnan(out[i]) == (i >= 16));
}

}  // namespace
}  // namespace dinfer::tests

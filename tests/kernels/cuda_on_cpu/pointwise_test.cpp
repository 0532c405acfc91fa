// SPDX-License-Identifier: Apache-2.0
// The kernels of gather.cu, norm.cu and activation.cu against sums in double, on the host.
#include "kernels/cuda/pointwise.hpp"
#include "tests/kernels/cuda/gpu_support.hpp"
#include "tests/support/cuda_on_cpu.hpp"

using namespace dinfer;
using namespace dinfer::kernels;
using namespace dinfer::tests;

namespace {

float as(dtype type, double v) {
  const auto f = static_cast<float>(v);
  return rounded(std::span(&f, 1), type)[0];
}

// One row, in the order of roundings that pointwise.hpp states.
void norm_row_of(const std::vector<float>& x, const std::vector<float>& gain,
                 const std::vector<float>& bias, norm_kind kind, double epsilon, dtype type,
                 std::vector<float>& out) {
  const auto n = static_cast<double>(x.size());
  double mean = 0, variance = 0;
  if (kind == norm_kind::layer) {
    for (const double v : x) mean += v / n;
  }
  for (const double v : x) variance += (v - mean) * (v - mean) / n;
  for (std::size_t i = 0; i < x.size(); ++i) {
    double y = (static_cast<double>(x[i]) - mean) / std::sqrt(variance + epsilon);
    if (kind == norm_kind::rms) y = static_cast<double>(as(type, y));
    y = y * static_cast<double>(gain[i]) + (bias.empty() ? 0 : static_cast<double>(bias[i]));
    out.push_back(as(type, y));
  }
}

struct norm_case {
  std::int64_t rows, columns;
  norm_kind kind;
  bool added, biased;
};

void check_norm(device& d, dtype type, const norm_case& c, random_numbers& random) {
  const auto n = static_cast<std::size_t>(c.columns);
  const auto partial = rounded(random.floats(c.rows * c.columns, -3, 5), type);
  const auto residual = rounded(random.floats(c.rows * c.columns, -3, 5), type);
  const auto gain = random.floats(c.columns);
  const auto bias = c.biased ? random.floats(c.columns) : std::vector<float>();
  std::vector<float> sums, right;
  for (std::size_t i = 0; i < residual.size(); ++i) {
    sums.push_back(c.added ? as(type, static_cast<double>(residual[i] + partial[i])) : residual[i]);
  }
  for (std::size_t r = 0; r < static_cast<std::size_t>(c.rows); ++r) {
    norm_row_of({sums.begin() + static_cast<std::ptrdiff_t>(r * n),
                 sums.begin() + static_cast<std::ptrdiff_t>((r + 1) * n)},
                gain, bias, c.kind, 1e-5, type, right);
  }
  const auto p = filled(d, type, partial, c.rows, c.columns);
  const auto x = filled(d, type, residual, c.rows, c.columns);
  const auto g = filled(d, dtype::f32, gain, c.columns);
  const auto b = filled(d, dtype::f32, bias, bias.size());
  const auto normed = poisoned(d, type, c.rows, c.columns);
  cuda::add_norm_job job;
  job.partial = c.added ? p.data() : nullptr;
  job.residual = x.data();
  job.gain = static_cast<const float*>(g.data());
  job.bias = c.biased ? static_cast<const float*>(b.data()) : nullptr;
  job.normed = normed.data();
  job.kind = c.kind;
  job.epsilon = 1e-5F;
  job.rows = c.rows;
  job.columns = c.columns;
  cuda::add_norm(job, type, nullptr);
  INFO(info(type).name << " layer " << (c.kind == norm_kind::layer) << " added " << c.added);
  check_same("residual", x.values(), sums, c.columns);
  // One element has no variance: its layer norm amplifies the rounding of the mean.
  check_close("normed", normed.values(), right, c.columns, bound_of(type),
              c.columns == 1 ? 1e-3 : 0);

  // In the residual's place it is the same.
  const auto again = filled(d, type, residual, c.rows, c.columns);
  job.residual = job.normed = again.data();
  cuda::add_norm(job, type, nullptr);
  check_same("normed in place", again.values(), normed.values(), c.columns);
}

}  // namespace

TEST_CASE("add_norm of every width keeps to the rounding order of its contract") {
  auto random = seeded(601);
  const auto d = open_cpu(1);
  for (const std::uint64_t order : {0, 7}) {
    cuda_on_cpu::set_order(order);
    for (const auto type : activation_types()) {
      for (const std::int64_t n : {1, 7, 8, 9, 64, 264, 576, 577, 1000, 4096}) {
        check_norm(*d, type, {3, n, norm_kind::rms, true, false}, random);
        check_norm(*d, type, {2, n, norm_kind::layer, true, true}, random);
      }
      check_norm(*d, type, {2, 576, norm_kind::rms, false, false}, random);
      check_norm(*d, type, {2, 33, norm_kind::layer, false, false}, random);
    }
  }
  check_norm(*d, dtype::f32, {2, 16384, norm_kind::rms, true, false}, random);
  check_norm(*d, dtype::f32, {1, 16383, norm_kind::layer, true, true}, random);
  check_norm(*d, dtype::bf16, {2, 16384, norm_kind::rms, true, false}, random);
  cuda_on_cpu::set_order(0);
}

TEST_CASE("add_norm alone adds, in place over its own partial, and refuses rows too wide") {
  const auto d = open_cpu(1);
  const auto partial = filled(*d, dtype::f32, std::vector<float>{1, 2, 3, 4}, 1, 4);
  const auto residual = filled(*d, dtype::f32, std::vector<float>{10, 20, 30, 40}, 1, 4);
  const auto gain = filled(*d, dtype::f32, std::vector<float>{1, 1, 1, 1}, 4);
  cuda::add_norm_job job;
  job.partial = partial.data();
  job.residual = residual.data();
  job.rows = 1;
  job.columns = 4;
  cuda::add_norm(job, dtype::f32, nullptr);
  CHECK(residual.values() == std::vector<float>{11, 22, 33, 44});
  CHECK(partial.values() == std::vector<float>{1, 2, 3, 4});
  job.gain = static_cast<const float*>(gain.data());
  job.normed = partial.data();
  cuda::add_norm(job, dtype::f32, nullptr);
  CHECK(residual.values() == std::vector<float>{12, 24, 36, 48});
  CHECK(partial.values()[3] == Approx(48 / std::sqrt((144.0 + 576 + 1296 + 2304) / 4)));
  job.columns = 16385;
  CHECK_THROWS_AS(cuda::add_norm(job, dtype::f32, nullptr), device_error);
}

TEST_CASE("embed picks rows, adds positions, and gives zeros outside of the table") {
  auto random = seeded(602);
  const auto d = open_cpu(1);
  for (const auto type : activation_types()) {
    for (const std::int64_t n : {1, 8, 33, 576, 5000}) {
      const auto words = rounded(random.floats(7 * n), type);
      const auto places = rounded(random.floats(3 * n), type);
      const std::vector<std::int32_t> ids{10, 16, 9, 17, -1, 12}, at{0, 2, 1, 0, 2, 1};
      const auto table = filled(*d, type, words, 7, n), extra = filled(*d, type, places, 3, n);
      const auto which = indices(*d, ids), where = indices(*d, at);
      for (const bool with_places : {false, true}) {
        const auto out = poisoned(*d, type, ids.size(), n);
        cuda::embed_job job;
        job.ids = static_cast<const std::int32_t*>(which.data());
        job.table = table.data();
        job.rows = 7;
        job.first_row = 10;
        job.position_table = with_places ? extra.data() : nullptr;
        job.position_rows = 3;
        job.positions = static_cast<const std::int32_t*>(where.data());
        job.out = out.data();
        job.tokens = static_cast<std::int64_t>(ids.size());
        job.columns = n;
        cuda::embed(job, type, nullptr);
        std::vector<float> right;
        for (std::size_t t = 0; t < ids.size(); ++t) {
          for (std::int64_t i = 0; i < n; ++i) {
            const auto row = ids[t] - 10;
            float v = row >= 0 && row < 7 ? words[static_cast<std::size_t>(row * n + i)] : 0;
            if (with_places) v += places[static_cast<std::size_t>(at[t] * n + i)];
            right.push_back(as(type, static_cast<double>(v)));
          }
        }
        INFO(info(type).name << " columns " << n);
        check_same("embed", out.values(), right, n);
      }
    }
  }
}

TEST_CASE("gather_rows and put_entries touch what they are told") {
  const auto d = open_cpu(1);
  const auto in = indices(*d, std::vector<std::int32_t>{0, 1, 10, 11, 20, -21}, 3, 2);
  const auto rows = indices(*d, std::vector<std::int32_t>{2, 0, 2, 1});
  const auto out = poisoned(*d, dtype::i32, 4, 2);
  cuda::gather_rows(in, rows, out, nullptr);
  CHECK(out.indices() == std::vector<std::int32_t>{20, -21, 0, 1, 20, -21, 10, 11});

  const auto entries = indices(*d, std::vector<std::int32_t>{5, 50, 0, -7, 6, 1, -1, 2}, 4, 2);
  cuda::put_entries(in, entries, nullptr);  // 6 and -1 lie outside
  CHECK(in.indices() == std::vector<std::int32_t>{-7, 1, 10, 11, 20, 50});
  cuda::put_entries(in, view(nullptr, dtype::i32, 0, 2), nullptr);
}

TEST_CASE("gate reads gates and ups in groups of eight") {
  auto random = seeded(603);
  const auto d = open_cpu(1);
  for (const auto type : activation_types()) {
    for (const std::int64_t f : {1, 5, 8, 24, 100, 1536, 4100}) {
      for (const bool biased : {false, true}) {
        const std::int64_t rows = 3, wide = (f + 7) / 8 * 16;
        const auto in = rounded(random.floats(rows * wide, -8, 8), type);
        const auto bias = random.floats(2 * f);
        std::vector<float> right;
        for (std::int64_t r = 0; r < rows; ++r) {
          for (std::int64_t i = 0; i < f; ++i) {
            const auto at = static_cast<std::size_t>(r * wide + i / 8 * 16 + i % 8);
            double g = in[at], u = in[at + 8];
            if (biased) g += bias[static_cast<std::size_t>(i)];
            if (biased) u += bias[static_cast<std::size_t>(f + i)];
            right.push_back(static_cast<float>(g / (1 + std::exp(-g)) * u));
          }
        }
        const auto x = filled(*d, type, in, rows, wide);
        const auto b = filled(*d, dtype::f32, bias, 2 * f);
        const auto out = poisoned(*d, type, rows, f);
        const float* vector = biased ? static_cast<const float*>(b.data()) : nullptr;
        cuda::gate({x.data(), vector, out.data(), rows, f}, type, nullptr);
        INFO(info(type).name);
        check_close("gate", out.values(), right, f, bound_of(type));
      }
    }
  }
}

TEST_CASE("activate adds the bias and applies every activation in place") {
  auto random = seeded(604);
  const auto d = open_cpu(1);
  const auto activated = [](activation act, double x) {
    if (act == activation::relu) return std::max(x, 0.0);
    if (act == activation::gelu) return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    if (act == activation::none) return x;
    return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  };
  for (const auto type : activation_types()) {
    for (const std::int64_t n : {1, 8, 50, 576, 4100}) {
      for (const auto act :
           {activation::none, activation::relu, activation::gelu, activation::gelu_tanh}) {
        for (const bool biased : {false, true}) {
          const auto in = rounded(random.floats(2 * n, -4, 4), type);
          const auto bias = random.floats(n);
          std::vector<float> right;
          for (std::size_t i = 0; i < in.size(); ++i) {
            const double b = biased ? bias[i % static_cast<std::size_t>(n)] : 0;
            right.push_back(static_cast<float>(activated(act, static_cast<double>(in[i]) + b)));
          }
          const auto x = filled(*d, type, in, 2, n);
          const auto b = filled(*d, dtype::f32, bias, n);
          const float* vector = biased ? static_cast<const float*>(b.data()) : nullptr;
          cuda::activate({x.data(), vector, act, 2, n}, type, nullptr);
          INFO(info(type).name << " activation " << static_cast<int>(act));
          check_close("activate", x.values(), right, n, bound_of(type), 1e-6);
        }
      }
    }
  }
  CHECK_THROWS_AS(cuda::activate({nullptr, nullptr, activation::swiglu, 1, 1}, dtype::f32, nullptr),
                  device_error);
}

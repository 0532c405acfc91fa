// SPDX-License-Identifier: Apache-2.0
// A norm of what ranks have summed, on CPUs: the bits that one rank alone computes from the sum in
// rank order, whether ranks see each other's memory and share out the rows or each does all.
#include "tests/kernels/support.hpp"
#include "tests/net/comm/group.hpp"

#include <atomic>
#include <chrono>
#include <stdexcept>

namespace dinfer::tests {
namespace {

using namespace kernels;
using std::chrono_literals::operator""ms;

constexpr std::int64_t width = 576, outputs = 48;

enum class norms : std::uint8_t { none, rms, layer };

struct given {
  std::int64_t rows = 0;
  norms norm = norms::none;
  std::vector<std::vector<float>> partials;  // of each rank
  std::vector<float> residual, gain, bias;
  stored_matrix matrix;

  given(std::int32_t ranks, std::int64_t r, norms n, random_numbers random = random_numbers(77))
      : rows(r), norm(n), matrix(dtype::q8_0, outputs, width, random) {
    for (std::int32_t i = 0; i < ranks; ++i) partials.push_back(random.floats(rows * width, -3, 5));
    residual = random.floats(rows * width, -3, 5);
    gain = random.floats(width);
    bias = random.floats(width);
  }
};

struct outcome {
  std::vector<float> residual, product;
};

std::unique_ptr<device> cpu_of_bytes() {
  device_options options;
  options.cpu_threads = 2;
  auto opened = open_device("cpu:0", options);
  if (!opened) throw std::runtime_error(opened.error().message);
  return std::move(*opened);
}

// `over` checks, which threads may not.
tensor matrix(std::vector<float>& v, std::int64_t rows, std::int64_t columns) {
  return view(v.data(), dtype::f32, rows, columns);
}

// add_norm, a product with what it gave, and, for the whole residual, a sum without a norm;
// `rounded`: in the form that the product likes.
outcome run(const given& g, std::vector<float> partial, communicator* tp, bool rounded) {
  const auto d = cpu_of_bytes();
  auto& ops = d->ops();
  const auto slice = g.matrix.slice();
  const auto w = ops.prepare({&slice, 1}, weight_role::matrix, {});
  const auto gain = vector_weight(ops, g.gain), bias = vector_weight(ops, g.bias);
  outcome out;
  out.residual = g.residual;
  std::vector<float> normed(partial.size(), poison);
  const bool layer = g.norm == norms::layer;
  const norm_args norm{layer ? norm_kind::layer : norm_kind::rms, gain.get(),
                       layer ? bias.get() : nullptr, 1e-5F};
  add_norm_args args;
  args.tp = tp;
  args.partial = matrix(partial, g.rows, width);
  args.residual = matrix(out.residual, g.rows, width);
  args.norm = g.norm == norms::none ? nullptr : &norm;
  args.normed = matrix(normed, g.rows, width);
  if (rounded) args.normed = ops.input_of(*w, args.normed, producer::norm);
  if (rounded && args.normed.type != dtype::u8) throw std::logic_error("no bytes");
  auto again = partial;
  ops.add_norm(args);
  if (g.norm == norms::none) return out;
  out.product.resize(static_cast<std::size_t>(g.rows * outputs));
  ops.linear(
      {args.normed, w.get(), nullptr, activation::none, matrix(out.product, g.rows, outputs)});
  args.partial = matrix(again, g.rows, width);
  args.norm = nullptr;
  ops.add_norm(args);
  return out;
}

outcome alone(const given& g) {
  auto sum = g.partials.front();
  for (std::size_t r = 1; r < g.partials.size(); ++r)
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += g.partials[r][i];
  return run(g, sum, nullptr, false);
}

}  // namespace

TEST_CASE("a norm of a sum over ranks is what one alone computes, whatever the wire", "[comm]") {
  const auto& on = GENERATE(wires[0], wires[1], wires[2]);
  const auto size = GENERATE(2, 3);
  for (const std::int64_t rows : {1, 8, 50, 129}) {
    for (const auto norm : {norms::none, norms::rms, norms::layer}) {
      const given g(size, rows, norm);
      const auto right = alone(g);
      for (const bool rounded : {false, true}) {
        INFO(on.name << ", " << size << " ranks, " << rows << " rows, rounded " << rounded);
        std::atomic<int> wrong{0};
        run_threads(on.of(size, 10'000ms), [&](auto& c) {
          const auto got = run(g, g.partials[static_cast<std::size_t>(c.rank())], &c, rounded);
          if (!same_bits(got.residual, right.residual) || !same_bits(got.product, right.product))
            ++wrong;
        });
        CHECK(wrong == 0);
      }
    }
  }
}

TEST_CASE("ranks of one address space see what all of them show, others are told no", "[comm]") {
  for (const auto& on : {wires[0], wires[2]}) {
    std::atomic<int> seen{0};
    run_threads(on.of(3, 10'000ms), [&](auto& c) {
      std::int32_t number = c.rank() + 10;
      std::vector<float> about(100);
      const bool done = c.together(view(about.data(), dtype::f32, 100), &number, [&](auto shown) {
        for (std::int32_t r = 0; r < 3; ++r)
          seen += *static_cast<std::int32_t*>(shown[static_cast<std::size_t>(r)]) == r + 10;
      });
      if (done != (on.choice == transport_choice::automatic)) seen = -1000;
    });
    INFO(on.name);
    CHECK(seen == (on.choice == transport_choice::automatic ? 9 : 0));
  }
}

}  // namespace dinfer::tests

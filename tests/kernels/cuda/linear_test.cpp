// SPDX-License-Identifier: Apache-2.0
// linear on a GPU against the CPU, for every role, type, activation and many shapes; and what its
// contract says of bits.
#include "tests/kernels/cuda/gpu_support.hpp"
#include "tests/support/temporary_folder.hpp"

#include <filesystem>

using namespace dinfer;
using namespace dinfer::kernels;
using namespace dinfer::tests;

namespace {

struct call {
  const weight* w = nullptr;
  const weight* bias = nullptr;
  activation act = activation::none;
  std::int64_t columns = 0;  // of out
  dtype out = dtype::f32;
};

std::vector<float> run_linear(device& d, const call& c, std::span<const float> x,
                              std::int64_t rows) {
  const auto type = d.traits().activation;
  const auto input = filled(d, type, x, rows, c.w->columns());
  const auto out = poisoned(d, c.out, rows, c.columns);
  linear_args args;
  args.x = input;
  args.w = c.w;
  args.bias = c.bias;
  args.act = c.act;
  args.out = out;
  d.ops().linear(args);
  return out.values();
}

// One layer on both devices.
struct layer {
  layer(device& gpu_device, device& cpu_device, std::span<const weight_slice> slices,
        weight_role role, const std::vector<float>& bias)
      : gpu(gpu_device), cpu(cpu_device) {
    on_gpu = ready(gpu, slices, role);
    on_cpu = ready(cpu, slices, role);
    if (bias.empty()) return;
    gpu_bias = ready_vector(gpu, bias);
    cpu_bias = ready_vector(cpu, bias);
  }

  void check(const std::string& what, const std::vector<float>& x, std::int64_t rows,
             activation act, dtype out, double bound) const {
    call c;
    c.w = on_gpu.get();
    c.bias = gpu_bias.get();
    c.act = act;
    c.columns = on_gpu->rows() / (act == activation::swiglu ? 2 : 1);
    c.out = out;
    const auto got = run_linear(gpu, c, x, rows);
    c.w = on_cpu.get();
    c.bias = cpu_bias.get();
    c.out = dtype::f32;
    check_close(what, got, run_linear(cpu, c, x, rows), c.columns, bound, 1e-6);
  }

  device& gpu;
  device& cpu;
  std::unique_ptr<weight> on_gpu, on_cpu, gpu_bias, cpu_bias;
};

using sizes = std::vector<std::pair<std::int64_t, std::int64_t>>;
using counts = std::vector<std::int64_t>;

std::string name_of(dtype type, bool invariant, std::int64_t n, std::int64_t k) {
  std::ostringstream text;
  text << info(type).name << (invariant ? " batch invariant" : "") << " n " << n << " k " << k;
  return text.str();
}

// Calls fn(gpu, cpu, type, invariant) for every kind of device; not at all where no GPU is.
template <class Fn>
void for_devices(Fn&& fn) {
  const auto cpu = open_cpu(2);
  for (const auto type : activation_types()) {
    for (const bool invariant : {false, true}) {
      if (type == dtype::f32 && invariant) continue;
      const auto gpu = open_gpu(type, invariant);
      if (!gpu) return;
      step_limits limits;
      limits.tokens = 600;
      limits.mlp = 2048;
      limits.query_heads = limits.kv_heads = 1;
      limits.head_dim = 64;
      gpu->ops().reserve(limits);
      fn(*gpu, *cpu, type, invariant);
    }
  }
}

}  // namespace

TEST_CASE("linear agrees with the CPU in every shape", "[gpu]") {
  auto random = seeded(201);
  for_devices([&](device& gpu, device& cpu, dtype type, bool invariant) {
    for (const auto& [n, k] : few(sizes{{96, 64},
                                        {33, 288},
                                        {1, 32},
                                        {576, 576},
                                        {100, 77},
                                        {50, 5},
                                        {1000, 136},
                                        {2048, 1032}})) {
      const stored_matrix stored(type, n, k, random);
      const auto slice = stored.slice();
      const layer l(gpu, cpu, {&slice, 1}, weight_role::matrix, {});
      for (const auto rows : few(counts{3, 17, 1, 2, 8, 9, 16, 63, 130, 600})) {
        if (rows * n * k > 400'000'000) continue;
        const auto x = rounded(random.floats(rows * k), type);
        l.check(name_of(type, invariant, n, k), x, rows, activation::none, type, bound_of(type));
      }
    }
  });
}

TEST_CASE("linear with few rows of long k agrees with the CPU", "[gpu]") {
  auto random = seeded(202);
  for_devices([&](device& gpu, device& cpu, dtype type, bool invariant) {
    const std::int64_t n = 272, k = 14336;
    const stored_matrix stored(type, n, k, random);
    const auto slice = stored.slice();
    const layer l(gpu, cpu, {&slice, 1}, weight_role::matrix, {});
    for (std::int64_t rows = 1; rows <= (brief() ? 1 : 17); ++rows) {
      const auto x = rounded(random.floats(rows * k), type);
      l.check(name_of(type, invariant, n, k), x, rows, activation::none, type, bound_of(type));
    }
  });
}

TEST_CASE("linear applies bias and activation as the CPU does", "[gpu]") {
  auto random = seeded(203);
  for_devices([&](device& gpu, device& cpu, dtype type, bool invariant) {
    for (const auto& [n, k] : few(sizes{{64, 64}, {77, 40}, {50, 33}})) {
      const stored_matrix stored(type, n, k, random);
      const auto slice = stored.slice();
      const layer l(gpu, cpu, {&slice, 1}, weight_role::matrix, random.floats(n, -3, 3));
      for (const auto act :
           {activation::none, activation::relu, activation::gelu, activation::gelu_tanh}) {
        for (const auto rows : few(counts{5, 40, 1})) {
          const auto x = rounded(random.floats(rows * k, -0.3F, 0.3F), type);
          l.check(name_of(type, invariant, n, k), x, rows, act, type, bound_of(type));
        }
      }
    }
  });
}

TEST_CASE("a gate_up weight gives silu(gate) * up as on the CPU", "[gpu]") {
  auto random = seeded(204);
  for_devices([&](device& gpu, device& cpu, dtype type, bool invariant) {
    for (const auto& [f, k] :
         few(sizes{{96, 128}, {37, 64}, {16, 64}, {1536, 576}, {344, 136}, {40, 33}})) {
      const stored_matrix gate(type, f, k, random), up(type, f, k, random);
      const std::vector<weight_slice> slices{gate.slice(), up.slice()};
      const layer l(gpu, cpu, slices, weight_role::gate_up, {});
      CHECK(l.on_gpu->rows() == 2 * f);
      for (const auto rows : few(counts{4, 33, 1, 8, 9, 260})) {
        const auto x = rounded(random.floats(rows * k, -0.2F, 0.2F), type);
        l.check(name_of(type, invariant, f, k), x, rows, activation::swiglu, type, bound_of(type));
      }
    }
  });
}

TEST_CASE("an embedding serves as the head, with logits in f32", "[gpu]") {
  auto random = seeded(205);
  for_devices([&](device& gpu, device& cpu, dtype type, bool invariant) {
    for (const auto& [n, k] : few(sizes{{777, 64}, {1000, 576}, {4096, 130}})) {
      const stored_matrix stored(type, n, k, random);
      const auto slice = stored.slice();
      const layer l(gpu, cpu, {&slice, 1}, weight_role::embedding, {});
      for (const auto rows : few(counts{3, 20, 1, 8, 70})) {
        const auto x = rounded(random.floats(rows * k), type);
        // Nothing is rounded on the way: the bound of f32, for every type.
        l.check(name_of(type, invariant, n, k), x, rows, activation::none, dtype::f32,
                bound_of(dtype::f32));
      }
    }
  });
}

TEST_CASE("a row's bits do not depend on the other rows where that is promised", "[gpu]") {
  auto random = seeded(206);
  for_devices([&](device& gpu, device&, dtype type, bool invariant) {
    if (type != dtype::f32 && !invariant) return;
    for (const auto& [n, k] : few(sizes{{99, 77}, {256, 136}, {2048, 576}, {1024, 1032}})) {
      const std::int64_t rows = brief() ? 40 : 300;
      const stored_matrix first(type, n, k, random), second(type, n, k, random);
      const std::vector<weight_slice> slices{first.slice(), second.slice()};
      const auto matrix = ready(gpu, slices[0], weight_role::matrix);
      const auto pair = ready(gpu, slices, weight_role::gate_up);
      const auto x = rounded(random.floats(rows * k, -0.2F, 0.2F), type);
      for (const bool swiglu : {false, true}) {
        call c;
        c.w = swiglu ? pair.get() : matrix.get();
        c.act = swiglu ? activation::swiglu : activation::none;
        c.columns = n;
        c.out = swiglu ? type : dtype::f32;
        const auto all = run_linear(gpu, c, x, rows);
        for (const auto cut : few(counts{3, 17, 1, 8, 16, 64, 129})) {
          std::vector<float> pieces;
          for (std::int64_t r = 0; r < rows; r += cut) {
            const auto count = std::min(cut, rows - r);
            const auto part = run_linear(gpu, c,
                                         std::span(x).subspan(static_cast<std::size_t>(r * k),
                                                              static_cast<std::size_t>(count * k)),
                                         count);
            pieces.insert(pieces.end(), part.begin(), part.end());
          }
          check_same(name_of(type, invariant, n, k) + " in pieces of " + std::to_string(cut),
                     pieces, all, n);
        }
      }
    }
  });
}

TEST_CASE("what linear measured is found again, and gives the same bits", "[gpu]") {
  auto random = seeded(207);
  const temporary_folder folder;
  const std::int64_t n = brief() ? 64 : 1536, k = brief() ? 128 : 1024;
  const stored_matrix stored(dtype::bf16, n, k, random);
  const auto slice = stored.slice();
  const auto all_rows = few(counts{1, 16, 200, 700});
  const auto x = rounded(random.floats(700 * k), dtype::bf16);
  std::vector<std::vector<float>> right;
  for (const int opening : {0, 1}) {
    device_options options;
    options.activation = dtype::bf16;
    options.tuning_directory = folder.path("tunings");
    const auto gpu = open_gpu(options);
    if (!gpu) return;
    const auto w = ready(*gpu, slice, weight_role::matrix);
    call c;
    c.w = w.get();
    c.columns = n;
    c.out = dtype::bf16;
    for (std::size_t i = 0; i < all_rows.size(); ++i) {
      const auto part = std::span(x).first(static_cast<std::size_t>(all_rows[i] * k));
      auto out = run_linear(*gpu, c, part, all_rows[i]);
      if (opening == 0) {
        right.push_back(std::move(out));
      } else {
        check_same("rows " + std::to_string(all_rows[i]), out, right[i], n);
      }
    }
    const std::filesystem::directory_iterator files(folder.path("tunings"));
    CHECK(std::distance(begin(files), end(files)) == 1);
  }
}

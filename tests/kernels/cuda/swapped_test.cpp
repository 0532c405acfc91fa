// SPDX-License-Identifier: Apache-2.0
// Products of a decoding step's rows by the kernel of that name, cut in many ways: a tuning file
// says that it was the fastest. Numbers are small, so that sums in f32 are exact in any order.
#include "tests/kernels/cuda/gpu_support.hpp"
#include "tests/support/temporary_folder.hpp"

#include <cmath>
#include <filesystem>
#include <fstream>

using namespace dinfer;
using namespace dinfer::kernels;
using namespace dinfer::tests;

namespace {

struct plan {
  int height, blocks;
};

std::string text_of(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

// Makes every line of the tuning file (gemm_tuning.cpp) a swapped product of this plan.
void force(const std::string& path, const plan& p) {
  std::istringstream lines(text_of(path));
  std::ostringstream forced;
  std::string line;
  std::getline(lines, line);
  forced << line << '\n';
  while (std::getline(lines, line)) {
    std::istringstream words(line);
    std::string word;
    for (int i = 0; i < 13 && words >> word; ++i) {
      char plan_words[129];
      std::snprintf(plan_words, sizeof plan_words, "%016x%016x%096d", p.height, p.blocks, 0);
      forced << (i > 0 ? " " : "") << (i == 9 ? "swapped" : i == 12 ? plan_words : word);
    }
    forced << '\n';
  }
  std::ofstream(path) << forced.str();
}

void reserve(device& gpu) {
  step_limits limits;
  limits.tokens = 128;
  limits.mlp = 2048;
  limits.query_heads = limits.kv_heads = 1;
  limits.head_dim = 64;
  gpu.ops().reserve(limits);
}

// A GPU with that kernel, or null once it is said why not.
std::unique_ptr<device> open_hopper(dtype type, const std::string& tunings) {
  device_options options;
  options.activation = type;
  options.tuning_directory = tunings;
  auto gpu = open_gpu(options);
  if (!gpu) return nullptr;
  const std::string name = gpu->traits().description;
  if (name.find("H100") == std::string::npos && name.find("H200") == std::string::npos) {
    std::printf("skipped: %s has no such kernel\n", name.c_str());
    return nullptr;
  }
  reserve(*gpu);
  return gpu;
}

// Of 0, 1, 2 and 4, times `step`: also as 8-bit floats with a scale they stay what they are.
std::vector<float> small_numbers(random_numbers& random, std::int64_t count, float step) {
  std::vector<float> values = random.floats(count, -3.5F, 3.5F);
  for (float& v : values) {
    const float size = std::round(std::abs(v));
    v = std::copysign((size == 3 ? 4 : size) * step, v);
  }
  return values;
}

weight_slice slice_of(const std::vector<float>& values, std::int64_t columns) {
  weight_slice slice;
  slice.data = reinterpret_cast<const std::byte*>(values.data());
  slice.stored_columns = slice.column_end = columns;
  slice.row_end = std::ssize(values) / columns;
  return slice;
}

struct layer_case {
  std::int64_t rows, n, k;
  std::vector<float> x, w, right;  // right: [rows, n]

  layer_case(random_numbers& random, std::int64_t r, std::int64_t outputs, std::int64_t depth)
      : rows(r),
        n(outputs),
        k(depth),
        x(small_numbers(random, r * depth, 0.0625F)),
        w(small_numbers(random, outputs * depth, 1)) {
    for (std::int64_t i = 0; i < rows * n; ++i) {
      float sum = 0;  // exact
      const float* a = x.data() + i / n * k;
      const float* b = w.data() + i % n * k;
      for (std::int64_t c = 0; c < k; ++c) sum += a[c] * b[c];
      right.push_back(sum);
    }
  }
  std::string name() const {
    return std::to_string(rows) + " rows, n " + std::to_string(n) + ", k " + std::to_string(k);
  }
};

std::vector<layer_case> cases(random_numbers& random, std::int64_t wide) {
  std::vector<layer_case> all;
  for (const auto rows : few(std::vector<std::int64_t>{9, 33, 64, 100, 128})) {
    all.emplace_back(random, rows, wide, 1096);
    all.emplace_back(random, rows, 272, 4112);
  }
  all.emplace_back(random, 32, 4096, 1024);
  all.emplace_back(random, 12, wide, 32);
  return all;
}

std::unique_ptr<weight> weight_of(device& gpu, const layer_case& c, bool fp8) {
  prepare_options options;
  options.fp8 = fp8;
  const auto slice = slice_of(c.w, c.k);
  auto w = gpu.ops().prepare({&slice, 1}, weight_role::matrix, options);
  gpu.synchronize();
  return w;
}

linear_args call_of(const tensor& x, const weight& w, const tensor& out) {
  linear_args args;
  args.x = x;
  args.w = &w;
  args.out = out;
  return args;
}

std::string only_file(const std::string& folder) {
  for (const auto& file : std::filesystem::directory_iterator(folder)) return file.path().string();
  FAIL("nothing was measured");
  return {};
}

const std::vector<plan> plans{{64, 132}, {128, 50}, {256, 7},  {128, 132}, {64, 1},
                              {256, 50}, {128, 3},  {64, 131}, {256, 132}};

// Runs every case by every plan; fn(gpu) does so, on a GPU whose products are tuned or forced.
template <class Fn>
void by_every_plan(dtype type, Fn&& fn) {
  const temporary_folder folder;
  const auto tunings = folder.path("tunings");
  {
    const auto gpu = open_hopper(type, tunings);
    if (!gpu) return;
    fn(*gpu, "as measured");
  }
  const auto file = only_file(tunings);
  for (const auto& p : few(plans)) {
    force(file, p);
    const auto before = text_of(file);
    const auto gpu = open_hopper(type, tunings);
    fn(*gpu, "height " + std::to_string(p.height) + ", blocks " + std::to_string(p.blocks));
    // Plans that do not fit a case are measured again.
    if (p.blocks == 1) CHECK(text_of(file) == before);
  }
}

}  // namespace

TEST_CASE("swapped products are right to the bit on a GPU, however they are cut", "[gpu]") {
  auto random = seeded(971);
  const auto all = cases(random, 1000);
  for (const auto type : {dtype::bf16, dtype::f16}) {
    by_every_plan(type, [&](device& gpu, const std::string& how) {
      for (const auto& c : all) {
        const auto w = weight_of(gpu, c, false);
        const auto x = filled(gpu, type, c.x, c.rows, c.k);
        for (const auto out_type : {type, dtype::f32}) {
          const auto out = poisoned(gpu, out_type, c.rows, c.n);
          gpu.ops().linear(call_of(x, *w, out));
          check_same(how + ", " + c.name(), out.values(), rounded(c.right, out_type), c.n);
        }
      }
    });
  }
}

TEST_CASE("swapped products of 8-bit floats are right on a GPU, however they are cut", "[gpu]") {
  auto random = seeded(972);
  const auto all = cases(random, 1008);
  for (const auto type : {dtype::bf16, dtype::f16}) {
    by_every_plan(type, [&](device& gpu, const std::string& how) {
      for (const auto& c : all) {
        const auto w = weight_of(gpu, c, true);
        reserve(gpu);  // for weights that are wider than any before
        const auto x = filled(gpu, type, c.x, c.rows, c.k);
        std::vector<float> first;
        for (int i = 0; i < 2; ++i) {
          const auto out = poisoned(gpu, type, c.rows, c.n);
          gpu.ops().linear(call_of(x, *w, out));
          const auto values = out.values();
          // The scales are rounded, and the tensor cores' sums are not quite f32.
          check_close(how + ", " + c.name(), values, c.right, c.n,
                      type == dtype::bf16 ? 6e-3 : 2e-3, 1e-6);
          if (i == 1) check_same(how + " again", values, first, c.n);
          first = values;
        }
      }
    });
  }
}

TEST_CASE("swapped products one after another, recorded and replayed, stay the same", "[gpu]") {
  auto random = seeded(973);
  const layer_case a(random, 64, 1000, 1096), b(random, 64, 264, 4112);
  by_every_plan(dtype::bf16, [&](device& gpu, const std::string& how) {
    const auto w_a = weight_of(gpu, a, false), w_b = weight_of(gpu, b, false);
    const auto x_a = filled(gpu, dtype::bf16, a.x, a.rows, a.k),
               x_b = filled(gpu, dtype::bf16, b.x, b.rows, b.k);
    auto out_a = poisoned(gpu, dtype::f32, a.rows, a.n);
    auto out_b = poisoned(gpu, dtype::f32, b.rows, b.n);
    const auto enqueue = [&] {
      for (int i = 0; i < 5; ++i) {
        gpu.ops().linear(call_of(x_a, *w_a, out_a));
        gpu.ops().linear(call_of(x_b, *w_b, out_b));
      }
    };
    enqueue();
    check_same(how + ", plain", out_a.values(), a.right, a.n);
    gpu.begin_capture();
    enqueue();
    const auto recording = gpu.end_capture();
    for (int i = 0; i < 3; ++i) {
      out_a.poison();
      out_b.poison();
      for (int replay = 0; replay < 20; ++replay) recording->replay();
      check_same(how + ", replayed", out_a.values(), a.right, a.n);
      check_same(how + ", replayed", out_b.values(), b.right, b.n);
    }
  });
}

TEST_CASE("swapped products gate as they write", "[gpu]") {
  auto random = seeded(974);
  constexpr std::int64_t f = 536, k = 264, rows = 77;
  const auto gate = small_numbers(random, f * k, 1), up = small_numbers(random, f * k, 1),
             x = small_numbers(random, rows * k, 1.0F / 64);
  std::vector<float> right;
  for (std::int64_t i = 0; i < rows * f; ++i) {
    double g = 0, u = 0;
    for (std::int64_t c = 0; c < k; ++c) {
      const double v = x[static_cast<std::size_t>(i / f * k + c)];
      g += v * gate[static_cast<std::size_t>(i % f * k + c)];
      u += v * up[static_cast<std::size_t>(i % f * k + c)];
    }
    right.push_back(static_cast<float>(g / (1 + std::exp(-g)) * u));
  }
  by_every_plan(dtype::bf16, [&](device& gpu, const std::string& how) {
    const std::vector<weight_slice> slices{slice_of(gate, k), slice_of(up, k)};
    const auto w = ready(gpu, slices, weight_role::gate_up);
    const auto in = filled(gpu, dtype::bf16, x, rows, k);
    const auto out = poisoned(gpu, dtype::bf16, rows, f);
    linear_args args = call_of(in, *w, out);
    args.act = activation::swiglu;
    gpu.ops().linear(args);
    check_close(how, out.values(), right, f, bound_of(dtype::bf16), 1e-6);
  });
}

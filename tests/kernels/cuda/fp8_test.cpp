// SPDX-License-Identifier: Apache-2.0
// 8-bit floats on a GPU: weights and what meets them against rows that are scaled and rounded on
// the host by torch's table, and products of those in double.
#include "tests/kernels/cuda/f8_table.hpp"
#include "tests/kernels/cuda/gpu_support.hpp"
#include "tests/support/temporary_folder.hpp"

#include <filesystem>
#include <fstream>

using namespace dinfer;
using namespace dinfer::kernels;
using namespace dinfer::tests;

namespace {

using counts = std::vector<std::int64_t>;
constexpr std::int64_t most_rows = 600, most_mlp = 2048;

// A GPU that can, or null once it is said why not.
std::unique_ptr<device> open_fp8(device_options options) {
  auto gpu = open_gpu(std::move(options));
  if (gpu && !gpu->traits().fp8) {
    std::printf("skipped: %s has no 8-bit floats\n", gpu->traits().description.c_str());
    return nullptr;
  }
  return gpu;
}
std::unique_ptr<device> open_fp8(dtype type, bool invariant = false) {
  device_options options;
  options.activation = type;
  options.batch_invariant = invariant;
  return open_fp8(options);
}

std::unique_ptr<weight> ready_fp8(device& d, std::span<const weight_slice> slices,
                                  weight_role role) {
  prepare_options options;
  options.fp8 = true;
  auto w = d.ops().prepare(slices, role, options);
  d.synchronize();
  return w;
}

void reserve(device& d) {
  step_limits limits;
  limits.tokens = most_rows;
  limits.mlp = most_mlp;
  limits.query_heads = limits.kv_heads = 1;
  limits.head_dim = 64;
  d.ops().reserve(limits);
}

// A matrix whose rows became 8-bit floats, in double.
struct f8_matrix {
  std::int64_t rows, columns;
  std::vector<double> values;

  f8_matrix(const f8_table& table, std::span<const float> from, std::int64_t width)
      : rows(std::ssize(from) / width), columns(width) {
    for (std::int64_t r = 0; r < rows; ++r) {
      const auto row =
          decoded(table, f8_row_of(table, from.subspan(static_cast<std::size_t>(r * width),
                                                       static_cast<std::size_t>(width))));
      values.insert(values.end(), row.begin(), row.end());
    }
  }
  const double* row(std::int64_t r) const { return values.data() + r * columns; }
};

std::vector<float> products(const f8_matrix& x, const f8_matrix& w) {
  std::vector<float> out;
  for (std::int64_t r = 0; r < x.rows; ++r) {
    for (std::int64_t i = 0; i < w.rows; ++i) {
      double sum = 0;
      for (std::int64_t c = 0; c < x.columns; ++c) sum += x.row(r)[c] * w.row(i)[c];
      out.push_back(static_cast<float>(sum));
    }
  }
  return out;
}

// What rounding once, and sums in f32 of a library's kernels, may be off by, relative to a row's
// largest value.
// Of a row's largest value; into 16 bits cuBLASLt, which is never asked where rows must not know of
// each other, leaves sums to the tensor cores, which have fewer bits than f32.
double allowed(dtype out, bool invariant) {
  const double sums = invariant || out == dtype::f32 ? 0 : 5e-4;
  return sums + (out == dtype::f32 ? 2e-5 : out == dtype::bf16 ? 6e-3 : 2e-3);
}

tensor run_linear(device& d, const weight& w, const tensor& x, const tensor& out,
                  activation act = activation::none) {
  linear_args args;
  args.x = x;
  args.w = &w;
  args.act = act;
  args.out = out;
  d.ops().linear(args);
  return out;
}

template <class Fn>
void for_devices(Fn&& fn) {
  for (const auto type : activation_types()) {
    for (const bool invariant : {false, true}) {
      if (type == dtype::f32 && invariant) continue;
      const auto gpu = open_fp8(type, invariant);
      if (!gpu) return;
      fn(*gpu, type, invariant);
    }
  }
}

}  // namespace

TEST_CASE("products of 8-bit floats on a GPU are those of the same rows on the host", "[gpu]") {
  auto random = seeded(951);
  const f8_table table;
  for_devices([&](device& gpu, dtype type, bool invariant) {
    for (const auto& [n, k] : few(std::vector<std::pair<std::int64_t, std::int64_t>>{
             {96, 64}, {960, 576}, {576, 1536}, {16, 32}, {80, 48}, {272, 2064}})) {
      const stored_matrix stored(dtype::bf16, n, k, random);
      const auto slice = stored.slice();
      const auto w = ready_fp8(gpu, {&slice, 1}, weight_role::matrix);
      CHECK(w->bytes() == static_cast<std::uint64_t>(n * k + 4 * n));
      reserve(gpu);
      const f8_matrix right_w(table, stored.expanded(), k);
      for (const auto rows : few(counts{3, 40, 1, 2, 8, 9, 16, 17, 32, 33, 128, 130, 600})) {
        if (rows * n * k > 200'000'000) continue;
        const auto x = rounded(random.floats(rows * k), type);
        const auto input = filled(gpu, type, x, rows, k);
        const auto out = poisoned(gpu, type, rows, n);
        run_linear(gpu, *w, input, out);
        check_close(
            std::string(info(type).name) + " n " + std::to_string(n) + " k " + std::to_string(k),
            out.values(), products(f8_matrix(table, x, k), right_w), n, allowed(type, invariant),
            1e-6);
      }
    }
  });
}

TEST_CASE("every bfloat16 becomes torch's 8-bit float on a GPU", "[gpu]") {
  const f8_table table;
  const auto gpu = open_fp8(dtype::bf16);
  if (!gpu) return;
  // Rows of 63 numbers and 448, so that the scale is 1, through a matrix of ones on the diagonal.
  constexpr std::int64_t k = 64;
  std::vector<float> x, right;
  for (std::uint32_t half = 0; half < 0x10000; ++half) {
    const float v = std::bit_cast<float>(half << 16);
    if (!(std::abs(v) <= 448)) continue;
    if (x.size() % k == 0) x.push_back(448), right.push_back(448);
    x.push_back(v);
    right.push_back(table.value(table.code(v)));
  }
  while (x.size() % k != 0) x.push_back(0), right.push_back(0);
  std::vector<float> ones(k * k, 0);
  for (std::size_t i = 0; i < k; ++i) ones[i * k + i] = 1;
  weight_slice slice;
  slice.data = reinterpret_cast<const std::byte*>(ones.data());
  slice.stored_columns = slice.row_end = slice.column_end = k;
  const auto w = ready_fp8(*gpu, {&slice, 1}, weight_role::matrix);
  reserve(*gpu);
  std::vector<float> got;
  const auto all = std::ssize(x) / k;
  for (std::int64_t r = 0; r < all; r += 24) {  // few enough for our own kernel
    const auto rows = std::min<std::int64_t>(24, all - r);
    const auto input = filled(
        *gpu, dtype::bf16,
        std::span(x).subspan(static_cast<std::size_t>(r * k), static_cast<std::size_t>(rows * k)),
        rows, k);
    const auto out = poisoned(*gpu, dtype::bf16, rows, k);
    run_linear(*gpu, *w, input, out);
    const auto values = out.values();
    got.insert(got.end(), values.begin(), values.end());
  }
  for (float& v : got) v += 0.0F;  // a sum with zeros has no negative zero
  for (float& v : right) v += 0.0F;
  check_same("bfloat16", got, right, k);
}

TEST_CASE("a norm and a gate hand 8-bit floats on without a detour", "[gpu]") {
  auto random = seeded(952);
  const f8_table table;
  for_devices([&](device& gpu, dtype type, bool) {
    constexpr std::int64_t hidden = 576, mlp = 1536;
    const stored_matrix gate(dtype::bf16, mlp, hidden, random),
        up(dtype::bf16, mlp, hidden, random), down(dtype::bf16, hidden, mlp, random);
    const std::vector<weight_slice> pair{gate.slice(), up.slice()};
    const auto last = down.slice();
    const auto wide = ready_fp8(gpu, pair, weight_role::gate_up);
    const auto narrow = ready_fp8(gpu, {&last, 1}, weight_role::matrix);
    const auto gain = ready_vector(gpu, random.floats(hidden));
    reserve(gpu);
    for (const auto rows : few(counts{1, 5, 40, 300})) {
      const auto x = filled(gpu, type, rounded(random.floats(rows * hidden), type), rows, hidden);
      const norm_args norm{norm_kind::rms, gain.get(), nullptr, 1e-5F};
      // The same through tensors that anybody may read, and through those of `linear` alone.
      std::vector<std::vector<float>> results;
      for (const bool direct : {false, true}) {
        const auto normed = poisoned(gpu, type, rows, hidden),
                   inner = poisoned(gpu, type, rows, mlp), out = poisoned(gpu, type, rows, hidden);
        const tensor a =
            direct ? gpu.ops().input_of(*wide, normed, producer::norm) : tensor(normed);
        const tensor b =
            direct ? gpu.ops().input_of(*narrow, inner, producer::swiglu) : tensor(inner);
        CHECK((a.type == dtype::f8_e4m3) == direct);
        gpu.ops().add_norm({nullptr, {}, x, &norm, a});
        run_linear(gpu, *wide, a, b, activation::swiglu);
        run_linear(gpu, *narrow, b, out);
        results.push_back(out.values());
      }
      check_same(std::to_string(rows) + " rows", results[1], results[0], hidden);
    }
  });
}

TEST_CASE("8-bit floats hide nothing that is not finite, and zeros stay", "[gpu]") {
  auto random = seeded(953);
  const auto gpu = open_fp8(dtype::bf16);
  if (!gpu) return;
  constexpr std::int64_t n = 96, k = 576;
  const stored_matrix stored(dtype::bf16, n, k, random);
  const auto slice = stored.slice();
  const auto w = ready_fp8(*gpu, {&slice, 1}, weight_role::matrix);
  reserve(*gpu);
  for (const auto rows : few(counts{4, 64})) {
    auto x = rounded(random.floats(rows * k), dtype::bf16);
    std::fill_n(x.begin(), k, 0.0F);
    x[k + 5] = INFINITY;
    x[2 * k + 7] = NAN;
    x[3 * k] = 1e30F;
    const auto input = filled(*gpu, dtype::bf16, x, rows, k);
    const auto out = poisoned(*gpu, dtype::bf16, rows, n);
    run_linear(*gpu, *w, input, out);
    const auto values = out.values();
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::size_t row = i / n;
      if (row == 0) CHECK(values[i] == 0);
      else CHECK(std::isnan(values[i]) == (row < 3));
    }
  }
}

TEST_CASE("a row's bits do not depend on the others in 8 bits where that is promised", "[gpu]") {
  auto random = seeded(954);
  const auto gpu = open_fp8(dtype::bf16, true);
  if (!gpu) return;
  constexpr std::int64_t n = 960, k = 576, rows = 200;
  const stored_matrix stored(dtype::bf16, n, k, random);
  const auto slice = stored.slice();
  const auto w = ready_fp8(*gpu, {&slice, 1}, weight_role::matrix);
  reserve(*gpu);
  const auto x = rounded(random.floats(rows * k), dtype::bf16);
  const auto run = [&](std::int64_t first, std::int64_t count) {
    const auto part = std::span(x).subspan(static_cast<std::size_t>(first * k),
                                           static_cast<std::size_t>(count * k));
    const auto input = filled(*gpu, dtype::bf16, part, count, k);
    const auto out = poisoned(*gpu, dtype::bf16, count, n);
    run_linear(*gpu, *w, input, out);
    return out.values();
  };
  const auto all = run(0, rows);
  for (const auto cut : few(counts{1, 8, 17, 33, 64})) {
    std::vector<float> pieces;
    for (std::int64_t r = 0; r < rows; r += cut) {
      const auto some = run(r, std::min(cut, rows - r));
      pieces.insert(pieces.end(), some.begin(), some.end());
    }
    check_same("pieces of " + std::to_string(cut), pieces, all, n);
  }
}

TEST_CASE("cuBLASLt multiplies 8-bit floats of many rows on Hopper", "[gpu]") {
  auto random = seeded(955);
  const temporary_folder folder;
  device_options options;
  options.activation = dtype::bf16;
  options.tuning_directory = folder.path("tunings");
  const auto gpu = open_fp8(options);
  if (!gpu) return;
  constexpr std::int64_t n = 1024, k = 2048, rows = 597;
  const stored_matrix stored(dtype::bf16, n, k, random);
  const auto slice = stored.slice();
  const auto w = ready_fp8(*gpu, {&slice, 1}, weight_role::matrix);
  reserve(*gpu);
  const auto input =
      filled(*gpu, dtype::bf16, rounded(random.floats(rows * k), dtype::bf16), rows, k);
  const auto out = poisoned(*gpu, dtype::bf16, rows, n);
  run_linear(*gpu, *w, input, out);
  gpu->synchronize();
  const std::string name = gpu->traits().description;
  const bool hopper =
      name.find("H100") != std::string::npos || name.find("H200") != std::string::npos;
  bool by_library = false;
  for (const auto& file : std::filesystem::directory_iterator(folder.path("tunings"))) {
    std::ifstream lines(file.path());
    for (std::string line; std::getline(lines, line);)
      by_library = by_library || line.find("f8_e4m3 bf16 0 library") != std::string::npos;
  }
  CHECK(by_library == hopper);
}

// SPDX-License-Identifier: Apache-2.0
// Packed weights on a GPU, through prepare, embed and linear, against sums in double of what the
// stored blocks say; few rows, which read codes, and many, for which they are unpacked.
#include "tests/kernels/cuda/gpu_support.hpp"
#include "tests/kernels/cuda/packed_table.hpp"

using namespace dinfer;
using namespace dinfer::kernels;
using namespace dinfer::tests;

namespace {

using counts = std::vector<std::int64_t>;
constexpr std::int64_t most_rows = 300, most_mlp = 2048;

// After the weights, which say how much room they need.
void reserve(device& d) {
  step_limits limits;
  limits.tokens = most_rows;
  limits.mlp = most_mlp;
  limits.query_heads = limits.kv_heads = 1;
  limits.head_dim = 64;
  d.ops().reserve(limits);
}

// Calls fn(gpu, type, invariant) for 16-bit activations; not at all where no GPU is.
template <class Fn>
void for_devices(Fn&& fn) {
  for (const auto type : {dtype::bf16, dtype::f16}) {
    for (const bool invariant : {false, true}) {
      const auto gpu = open_gpu(type, invariant);
      if (!gpu) return;
      fn(*gpu, type, invariant);
    }
  }
}

// Rows of stored matrices below each other, as they are packed.
struct right_matrix {
  std::int64_t rows = 0, columns = 0;
  std::vector<float> values;

  void add(const stored_matrix& m) {
    const packed_numbers numbers(m);
    rows += m.rows;
    columns = m.columns;
    values.insert(values.end(), numbers.values.begin(), numbers.values.end());
  }
  double times(const std::vector<float>& x, std::int64_t row, std::int64_t i) const {
    double sum = 0;
    for (std::int64_t c = 0; c < columns; ++c) {
      sum += static_cast<double>(x[static_cast<std::size_t>(row * columns + c)]) *
             values[static_cast<std::size_t>(i * columns + c)];
    }
    return sum;
  }
  std::vector<float> products(const std::vector<float>& x) const {
    std::vector<float> out;
    for (std::int64_t r = 0; r < std::ssize(x) / columns; ++r)
      for (std::int64_t i = 0; i < rows; ++i) out.push_back(static_cast<float>(times(x, r, i)));
    return out;
  }
};

std::vector<float> run_linear(device& d, const weight& w, const std::vector<float>& x,
                              dtype out_type, activation act = activation::none) {
  const auto rows = std::ssize(x) / w.columns();
  const std::int64_t columns = act == activation::swiglu ? w.rows() / 2 : w.rows();
  const auto input = filled(d, d.traits().activation, x, rows, w.columns());
  const auto out = poisoned(d, out_type, rows, columns);
  linear_args args;
  args.x = input;
  args.w = &w;
  args.act = act;
  args.out = out;
  d.ops().linear(args);
  return out.values();
}

std::string name_of(dtype stored, dtype type, bool invariant, std::int64_t rows) {
  std::ostringstream text;
  text << info(stored).name << " as " << info(type).name
       << (invariant ? " batch invariant, " : ", ") << rows << " rows";
  return text.str();
}

}  // namespace

TEST_CASE("linear of packed weights agrees with double on a GPU", "[gpu]") {
  auto random = seeded(981);
  for_devices([&](device& gpu, dtype type, bool invariant) {
    for (const auto stored : quantised_types()) {
      for (const auto& [n, least] : few(std::vector<std::pair<std::int64_t, std::int64_t>>{
               {272, 576}, {33, 96}, {64, 4096}})) {
        const std::int64_t k = whole_blocks(stored, least);
        const stored_matrix m(stored, n, k, random);
        right_matrix right;
        right.add(m);
        const auto w = ready(gpu, m.slice(), weight_role::matrix);
        CHECK(w->bytes() < static_cast<std::uint64_t>((n + 15) * (k + 32) * 5 / 4));
        reserve(gpu);
        for (const auto rows : few(counts{1, 70, 2, 8, 9, 16, 17, 33, 64, 65, 300})) {
          if (rows * n * k > 30'000'000) continue;
          const auto x = rounded(random.floats(rows * k, -0.1F, 0.1F), type);
          check_close(name_of(stored, type, invariant, rows), run_linear(gpu, *w, x, type),
                      right.products(x), n, bound_of(type), 1e-5);
        }
      }
    }
  });
}

TEST_CASE("matrices of several kinds are one packed weight on a GPU", "[gpu]") {
  auto random = seeded(982);
  for_devices([&](device& gpu, dtype type, bool invariant) {
    constexpr std::int64_t k = 512;
    const stored_matrix q(dtype::q4_k, 250, k, random), key(dtype::q4_0, 70, k, random),
        value(dtype::q6_k, 70, k, random);
    right_matrix right;
    for (const auto* m : {&q, &key, &value}) right.add(*m);
    const std::vector<weight_slice> slices{q.slice(), key.slice(), value.slice()};
    const auto w = ready(gpu, slices, weight_role::matrix);
    REQUIRE(w->rows() == 390);
    CHECK(w->bytes() < 390 * k * 5 / 4);
    reserve(gpu);
    for (const auto rows : few(counts{3, 100, 20})) {
      const auto x = rounded(random.floats(rows * k, -0.1F, 0.1F), type);
      check_close(name_of(dtype::q4_k, type, invariant, rows), run_linear(gpu, *w, x, type),
                  right.products(x), 390, bound_of(type), 1e-5);
    }
  });
}

// Where a piece ends, and where a part does, there is no seam: few rows need neither.
TEST_CASE("a packed weight that is larger than the room for it is unpacked in pieces", "[gpu]") {
  auto random = seeded(987);
  const auto gpu = open_gpu(dtype::bf16);
  if (!gpu) return;
  constexpr std::int64_t k = 1024, rows = 100, half = 50;
  const std::int64_t n = brief() ? 400 : 24000;  // 49 MB, and 33 below
  const stored_matrix top(dtype::q4_0, n, k, random), bottom(dtype::q8_0, n / 3 * 2, k, random);
  const std::vector<weight_slice> slices{top.slice(), bottom.slice()};
  const auto w = ready(*gpu, slices, weight_role::matrix);
  reserve(*gpu);
  const auto x = rounded(random.floats(rows * k, -0.1F, 0.1F), dtype::bf16);
  auto right = run_linear(*gpu, *w, {x.begin(), x.begin() + half * k}, dtype::f32);
  const auto rest = run_linear(*gpu, *w, {x.begin() + half * k, x.end()}, dtype::f32);
  right.insert(right.end(), rest.begin(), rest.end());
  check_close("pieces", run_linear(*gpu, *w, x, dtype::f32), right, w->rows(),
              bound_of(dtype::bf16), 1e-5);
}

TEST_CASE("a packed gate_up weight gives silu(gate) * up on a GPU", "[gpu]") {
  auto random = seeded(983);
  for_devices([&](device& gpu, dtype type, bool invariant) {
    for (const auto stored : few(quantised_types())) {
      for (const std::int64_t f : {96, 37}) {
        constexpr std::int64_t k = 512;
        const stored_matrix gate(stored, f, k, random), up(stored, f, k, random);
        right_matrix gates, ups;
        gates.add(gate);
        ups.add(up);
        const std::vector<weight_slice> slices{gate.slice(), up.slice()};
        const auto w = ready(gpu, slices, weight_role::gate_up);
        CHECK(w->bytes() < static_cast<std::uint64_t>((2 * f + 32) * k * 5 / 4));
        reserve(gpu);
        for (const auto rows : few(counts{1, 80, 9, 40})) {
          const auto x = rounded(random.floats(rows * k, -0.002F, 0.002F), type);
          // Of many, weights, gates and ups are rounded as well.
          const double bound = bound_of(type) * (rows > 64 && !invariant ? 3 : 1);
          std::vector<float> right;
          for (std::int64_t r = 0; r < rows; ++r) {
            for (std::int64_t i = 0; i < f; ++i) {
              const double g = gates.times(x, r, i);
              right.push_back(static_cast<float>(g / (1 + std::exp(-g)) * ups.times(x, r, i)));
            }
          }
          check_close(name_of(stored, type, invariant, rows),
                      run_linear(gpu, *w, x, type, activation::swiglu), right, f, bound, 1e-5);
        }
      }
    }
  });
}

TEST_CASE("a packed table is embedding and head at once on a GPU", "[gpu]") {
  auto random = seeded(984);
  for_devices([&](device& gpu, dtype type, bool invariant) {
    for (const auto stored : few(quantised_types())) {
      constexpr std::int64_t n = 777, k = 256;
      const stored_matrix m(stored, n, k, random);
      right_matrix right;
      right.add(m);
      const auto w = ready(gpu, m.slice(), weight_role::embedding);
      CHECK(w->bytes() < (n + 15) * k * 5 / 4);
      reserve(gpu);
      const std::vector<std::int32_t> ids{3, 0, 776, 777, -1, 500};
      const auto which = indices(gpu, ids);
      const auto rows = poisoned(gpu, type, ids.size(), k);
      embed_args args;
      args.ids = which;
      args.table = w.get();
      args.out = rows;
      gpu.ops().embed(args);
      std::vector<float> picked;
      for (const auto id : ids) {
        for (std::int64_t c = 0; c < k; ++c)
          picked.push_back(id >= 0 && id < n ? right.values[static_cast<std::size_t>(id * k + c)]
                                             : 0);
      }
      check_values(std::string(info(stored).name), rows.values(), rounded(picked, type), k);
      for (const auto count : few(counts{3, 90, 20})) {
        const auto x = rounded(random.floats(count * k, -0.1F, 0.1F), type);
        // Few rows meet codes, of which none is rounded.
        const double bound = count <= 64 || invariant ? 1e-4 : bound_of(type);
        check_close(name_of(stored, type, invariant, count), run_linear(gpu, *w, x, dtype::f32),
                    right.products(x), n, bound, 1e-5);
      }
    }
  });
}

TEST_CASE("a row's bits do not depend on the others with packed weights where that is promised",
          "[gpu]") {
  auto random = seeded(985);
  const auto gpu = open_gpu(dtype::bf16, true);
  if (!gpu) return;
  constexpr std::int64_t n = 192, k = 768, rows = 200;
  for (const auto stored : {dtype::q4_k, dtype::q8_0, dtype::q6_k}) {
    const stored_matrix gate(stored, n, k, random), up(stored, n, k, random);
    const std::vector<weight_slice> slices{gate.slice(), up.slice()};
    const auto matrix = ready(*gpu, slices, weight_role::matrix),
               pair = ready(*gpu, slices, weight_role::gate_up);
    reserve(*gpu);
    const auto x = rounded(random.floats(rows * k, -0.02F, 0.02F), dtype::bf16);
    for (const auto act : {activation::none, activation::swiglu}) {
      const weight& w = act == activation::none ? *matrix : *pair;
      const auto all = run_linear(*gpu, w, x, dtype::bf16, act);
      for (const auto cut : few(counts{1, 17, 8, 64, 100})) {
        std::vector<float> pieces;
        for (std::int64_t r = 0; r < rows; r += cut) {
          const std::vector<float> part(x.begin() + r * k, x.begin() + std::min(rows, r + cut) * k);
          const auto some = run_linear(*gpu, w, part, dtype::bf16, act);
          pieces.insert(pieces.end(), some.begin(), some.end());
        }
        check_same("pieces of " + std::to_string(cut), pieces, all, n);
      }
    }
  }
}

TEST_CASE("products of packed weights can be recorded, few rows and many", "[gpu]") {
  auto random = seeded(986);
  const auto gpu = open_gpu(dtype::bf16);
  if (!gpu) return;
  constexpr std::int64_t n = 512, k = 1024;
  const stored_matrix first(dtype::q4_1, n, k, random), second(dtype::q8_0, n, k, random);
  const auto a = ready(*gpu, first.slice(), weight_role::matrix),
             b = ready(*gpu, second.slice(), weight_role::matrix);
  reserve(*gpu);
  for (const auto rows : few(counts{5, 128})) {
    const auto x = rounded(random.floats(rows * k), dtype::bf16);
    const auto input = filled(*gpu, dtype::bf16, x, rows, k);
    auto out_a = poisoned(*gpu, dtype::bf16, rows, n), out_b = poisoned(*gpu, dtype::bf16, rows, n);
    const auto both = [&] {
      gpu->ops().linear({input, a.get(), nullptr, activation::none, out_a});
      gpu->ops().linear({input, b.get(), nullptr, activation::none, out_b});
    };
    both();  // measures
    const auto right_a = out_a.values(), right_b = out_b.values();
    gpu->begin_capture();
    both();
    const auto recorded = gpu->end_capture();
    out_a.poison();
    out_b.poison();
    recorded->replay();
    recorded->replay();
    check_same("first", out_a.values(), right_a, n);
    check_same("second", out_b.values(), right_b, n);
  }
}

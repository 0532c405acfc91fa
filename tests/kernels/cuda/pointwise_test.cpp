// SPDX-License-Identifier: Apache-2.0
// embed, add_norm, rope_store, gather_rows, put_entries and the activations of linear on a GPU
// against the CPU backend, which is given what the GPU's element type holds.
#include "tests/kernels/cuda/gpu_support.hpp"

#include <functional>

using namespace dinfer;
using namespace dinfer::kernels;
using namespace dinfer::tests;

namespace {

struct norm_case {
  std::int64_t rows, columns;
  norm_kind kind;
  bool added;
};

struct normed_rows {
  std::vector<float> residual, normed;
};

normed_rows run_norm(device& d, dtype type, const norm_case& c, const std::vector<float>& partial,
                     const std::vector<float>& residual, const std::vector<float>& gain,
                     const std::vector<float>& bias) {
  const auto p = filled(d, type, partial, c.rows, c.columns);
  const auto x = filled(d, type, residual, c.rows, c.columns);
  const auto normed = poisoned(d, type, c.rows, c.columns);
  const auto g = ready_vector(d, gain), b = ready_vector(d, bias);
  const norm_args norm{c.kind, g.get(), c.kind == norm_kind::layer ? b.get() : nullptr, 1e-5F};
  add_norm_args args;
  if (c.added) args.partial = p;
  args.residual = x;
  args.norm = &norm;
  args.normed = normed;
  d.ops().add_norm(args);
  return {x.values(), normed.values()};
}

struct rope_case {
  std::int32_t query_heads, kv_heads, head_dim, rotary;
  rope_style style;
};

struct roped {
  std::vector<float> qkv, pages;
};

// Tokens of three sequences, their pages in any order, at one layer of two.
roped run_rope(device& d, dtype type, const rope_case& c, const std::vector<float>& raw,
               std::int64_t tokens) {
  constexpr std::int32_t sequences = 3, block_size = 16, table_width = 64;
  const std::int64_t width = std::int64_t{c.query_heads + 2 * c.kv_heads} * c.head_dim;
  std::vector<std::int32_t> positions, sequence, table(5 * table_width, 0);
  const std::vector<std::int32_t> table_rows{4, 0, 2};
  for (std::int32_t t = 0; t < static_cast<std::int32_t>(tokens); ++t) {
    sequence.push_back(t % sequences);
    positions.push_back(t / sequences * 7 + t % sequences);
  }
  const std::int32_t blocks = positions.back() / block_size + 1;
  REQUIRE(blocks <= table_width);
  for (std::int32_t s = 0; s < sequences; ++s) {
    for (std::int32_t b = 0; b < blocks; ++b) {
      table[static_cast<std::size_t>(table_rows[static_cast<std::size_t>(s)] * table_width + b)] =
          1 + b * sequences + (s + 1) % sequences;
    }
  }
  std::vector<float> frequencies;
  for (std::int32_t i = 0; i < c.rotary / 2; ++i) {
    frequencies.push_back(static_cast<float>(std::pow(10000.0, -2.0 * i / c.rotary)));
  }
  const auto qkv = filled(d, type, raw, tokens, width);
  const auto inverse = filled(d, dtype::f32, frequencies, frequencies.size());
  const auto at = indices(d, positions), of = indices(d, sequence), rows = indices(d, table_rows);
  const auto block_table = indices(d, table, 5, table_width);
  kv_pages pages{nullptr, type, 1 + sequences * blocks, 2, c.kv_heads, block_size, c.head_dim};
  const auto memory = poisoned(d, type, pages.pages, pages.page_elements());
  pages.base = memory.data();
  step_batch batch;
  batch.tokens = static_cast<std::int32_t>(tokens);
  batch.sequences = sequences;
  batch.positions = at;
  batch.token_sequence = of;
  batch.table_rows = rows;
  batch.block_table = block_table;
  rope_store_args args;
  args.qkv = qkv;
  args.query_heads = c.query_heads;
  args.kv_heads = c.kv_heads;
  args.head_dim = c.head_dim;
  args.rope = {c.style, c.rotary, inverse};
  args.batch = &batch;
  args.pages = pages;
  args.layer = 1;
  d.ops().rope_store(args);
  return {qkv.values(), memory.values()};
}

void with_gpus(const std::function<void(device& gpu, device& cpu, dtype type)>& body) {
  const auto cpu = open_cpu(2);
  for (const auto type : activation_types()) {
    const auto gpu = open_gpu(type);
    if (!gpu) return;
    INFO(info(type).name);
    body(*gpu, *cpu, type);
  }
}

}  // namespace

TEST_CASE("add_norm on a GPU agrees with the CPU", "[gpu]") {
  auto random = seeded(701);
  with_gpus([&](device& gpu, device& cpu, dtype type) {
    for (const std::int64_t n : {1, 7, 64, 264, 576, 577, 1000, 4096, 8192, 16384}) {
      for (const std::int64_t rows : {1, 3, 300}) {
        if (rows * n > 2'000'000) continue;
        for (const auto kind : {norm_kind::rms, norm_kind::layer}) {
          const norm_case c{rows, n, kind, rows != 3};
          const auto partial = rounded(random.floats(rows * n, -3, 5), type);
          const auto residual = rounded(random.floats(rows * n, -3, 5), type);
          const auto gain = random.floats(n), bias = random.floats(n);
          const auto got = run_norm(gpu, type, c, partial, residual, gain, bias);
          // The CPU norms the sum that the GPU keeps, rounded.
          const auto sums = run_norm(cpu, dtype::f32, c, partial, residual, gain, bias).residual;
          const auto right = run_norm(cpu, dtype::f32, {rows, n, kind, false}, partial,
                                      rounded(sums, type), gain, bias);
          check_same("residual", got.residual, right.residual, n);
          check_close("normed", got.normed, right.normed, n, bound_of(type), n == 1 ? 2e-3 : 0);
        }
      }
    }
  });
}

TEST_CASE("a row's norm has the same bits on a GPU alone and among others", "[gpu]") {
  auto random = seeded(702);
  with_gpus([&](device& gpu, device&, dtype type) {
    for (const std::int64_t n : {577, 4096}) {
      const auto partial = rounded(random.floats(100 * n), type);
      const auto residual = rounded(random.floats(100 * n), type);
      const auto gain = random.floats(n);
      const norm_case all{100, n, norm_kind::rms, true}, one{1, n, norm_kind::rms, true};
      const auto together = run_norm(gpu, type, all, partial, residual, gain, gain).normed;
      for (const std::int64_t r : {0, 57, 99}) {
        const auto row = [&](const std::vector<float>& v) {
          return std::vector<float>(v.begin() + r * n, v.begin() + (r + 1) * n);
        };
        const auto alone = run_norm(gpu, type, one, row(partial), row(residual), gain, gain);
        check_same("row", alone.normed, row(together), n);
      }
    }
  });
}

TEST_CASE("rope_store on a GPU agrees with the CPU", "[gpu]") {
  auto random = seeded(703);
  with_gpus([&](device& gpu, device& cpu, dtype type) {
    for (const auto style : {rope_style::half, rope_style::interleaved, rope_style::none}) {
      for (const auto& c : {rope_case{9, 3, 64, 64, style}, rope_case{32, 8, 128, 128, style},
                            rope_case{2, 1, 80, 32, style}, rope_case{3, 1, 80, 20, style},
                            rope_case{2, 2, 6, 4, style}, rope_case{16, 8, 256, 256, style}}) {
        for (const std::int64_t tokens : {1, 5, 100}) {
          const std::int64_t width = std::int64_t{c.query_heads + 2 * c.kv_heads} * c.head_dim;
          const auto raw = rounded(random.floats(tokens * width), type);
          const auto got = run_rope(gpu, type, c, raw, tokens);
          const auto right = run_rope(cpu, dtype::f32, c, raw, tokens);
          INFO("style " << static_cast<int>(style) << " rotary " << c.rotary);
          check_close("qkv", got.qkv, right.qkv, c.head_dim, bound_of(type));
          check_close("pages", got.pages, right.pages, c.head_dim, bound_of(type));
        }
      }
    }
  });
}

TEST_CASE("embed, gather_rows and put_entries on a GPU agree with the CPU", "[gpu]") {
  auto random = seeded(704);
  with_gpus([&](device& gpu, device& cpu, dtype type) {
    for (const std::int64_t n : {1, 33, 576, 5000}) {
      const auto words = rounded(random.floats(50 * n), type),
                 places = rounded(random.floats(9 * n), type);
      const weight_slice word_slice{
          reinterpret_cast<const std::byte*>(words.data()), dtype::f32, n, 10, 50, 0, n, {}};
      const weight_slice place_slice{
          reinterpret_cast<const std::byte*>(places.data()), dtype::f32, n, 0, 9, 0, n, {}};
      const std::vector<std::int32_t> ids{10, 49, 0, 9, 17, 50, 17}, at{0, 1, 8, 3, 3, 2, 5};
      const auto run = [&](device& d, dtype t) {
        const auto table = ready(d, word_slice, weight_role::embedding);
        const auto extra = ready(d, place_slice, weight_role::embedding);
        const auto which = indices(d, ids), where = indices(d, at);
        const auto out = poisoned(d, t, ids.size(), n);
        embed_args args;
        args.ids = which;
        args.table = table.get();
        args.first_row = 10;
        args.position_table = extra.get();
        args.positions = where;
        args.out = out;
        d.ops().embed(args);
        const auto picked = poisoned(d, t, 3, n);
        d.ops().gather_rows(out, indices(d, std::vector<std::int32_t>{6, 0, 6}), picked);
        auto values = out.values();
        const auto more = picked.values();
        values.insert(values.end(), more.begin(), more.end());
        return values;
      };
      check_same("rows", run(gpu, type), rounded(run(cpu, dtype::f32), type), n);
    }
    const auto table = indices(gpu, std::vector<std::int32_t>{1, 2, 3, 4, 5, 6}, 2, 3);
    gpu.ops().put_entries(table, indices(gpu, std::vector<std::int32_t>{5, 50, 0, -7}, 2, 2));
    CHECK(table.indices() == std::vector<std::int32_t>{-7, 2, 3, 4, 5, 50});
  });
}

TEST_CASE("linear's bias and activations on a GPU agree with the CPU", "[gpu]") {
  auto random = seeded(705);
  with_gpus([&](device& gpu, device& cpu, dtype type) {
    for (const std::int64_t n : {8, 50, 576}) {
      constexpr std::int64_t rows = 5, k = 64;
      const auto x = rounded(random.floats(rows * k, -0.5, 0.5), type);
      const stored_matrix a(dtype::bf16, n, k, random), b(dtype::bf16, n, k, random);
      const std::vector<weight_slice> slices{a.slice(), b.slice()};
      for (const auto act : {activation::none, activation::swiglu, activation::gelu_tanh,
                             activation::gelu, activation::relu}) {
        const bool paired = act == activation::swiglu;
        const auto role = paired ? weight_role::gate_up : weight_role::matrix;
        const auto bias = random.floats(2 * n);
        const auto run = [&](device& d, dtype t) {
          const auto w = ready(d, slices, role);
          const auto added = ready_vector(d, bias);
          const auto in = filled(d, t, x, rows, k);
          const auto out = poisoned(d, t, rows, paired ? n : 2 * n);
          linear_args args;
          args.x = in;
          args.w = w.get();
          args.bias = added.get();
          args.act = act;
          args.out = out;
          step_limits limits;
          limits.tokens = rows;
          limits.query_heads = limits.kv_heads = 1;
          limits.head_dim = 64;
          limits.mlp = n;
          d.ops().reserve(limits);
          d.ops().linear(args);
          return out.values();
        };
        INFO("activation " << static_cast<int>(act));
        check_close("linear", run(gpu, type), run(cpu, dtype::f32), paired ? n : 2 * n,
                    bound_of(type),
                    type == dtype::f32    ? 1e-5
                    : type == dtype::bf16 ? 1e-2
                                          : 2e-3);
      }
    }
  });
}

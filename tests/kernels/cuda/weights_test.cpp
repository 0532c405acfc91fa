// SPDX-License-Identifier: Apache-2.0
// prepare on a GPU: what embed, linear and add_norm read back is what the CPU reads from the same
// slices, for every stored type.
#include "tests/kernels/cuda/gpu_support.hpp"

using namespace dinfer;
using namespace dinfer::kernels;
using namespace dinfer::tests;

namespace {

// All rows of an embedding, as floats.
std::vector<float> rows_of(device& d, dtype type, const weight& table) {
  std::vector<std::int32_t> ids;
  for (std::int32_t r = 0; r < static_cast<std::int32_t>(table.rows()); ++r) ids.push_back(r);
  const auto which = indices(d, ids);
  const auto out = poisoned(d, type, table.rows(), table.columns());
  embed_args args;
  args.ids = which;
  args.table = &table;
  args.out = out;
  d.ops().embed(args);
  return out.values();
}

void check_rows(device& gpu, device& cpu, dtype type, std::span<const weight_slice> slices) {
  const auto on_gpu = ready(gpu, slices, weight_role::embedding, {true});
  const auto on_cpu = ready(cpu, slices, weight_role::embedding);
  REQUIRE(on_gpu->rows() == on_cpu->rows());
  REQUIRE(on_gpu->columns() == on_cpu->columns());
  auto right = rounded(rows_of(cpu, dtype::f32, *on_cpu), type);
  check_same("embedding", rows_of(gpu, type, *on_gpu), right, on_cpu->columns());
}

}  // namespace

TEST_CASE("expanded weights on a GPU hold what the file holds, rounded once", "[gpu]") {
  auto random = seeded(711);
  const auto cpu = open_cpu(2);
  for (const auto type : activation_types()) {
    const auto gpu = open_gpu(type);
    if (!gpu) return;
    for (const auto stored : weight_types()) {
      INFO(info(stored).name << " to " << info(type).name);
      const std::int64_t width = whole_blocks(stored, 576);
      const stored_matrix a(stored, 60, width, random), b(stored, 33, width, random);
      auto first = a.slice(), second = b.slice();
      first.row_begin = 7;
      check_rows(*gpu, *cpu, type, std::vector<weight_slice>{first, second});
      first.column_begin = second.column_begin = 64;
      first.column_end = second.column_end = 64 + 160;
      check_rows(*gpu, *cpu, type, std::vector<weight_slice>{first, second});
    }
  }
}

TEST_CASE("weights of many uploads arrive whole on a GPU", "[gpu]") {
  auto random = seeded(712);
  const auto cpu = open_cpu(2);
  for (const auto type : {dtype::f32, dtype::bf16}) {
    const auto gpu = open_gpu(type);
    if (!gpu) return;
    for (const auto stored : {dtype::f32, dtype::bf16, dtype::q8_0}) {
      const stored_matrix m(stored, 5000, 2048, random);
      const auto slice = m.slice();
      const auto w = ready(*gpu, slice, weight_role::embedding);
      auto right = rounded(m.expanded(), type);
      if (stored == dtype::q8_0 && type == dtype::bf16)
        for (float& v : right) v += 0.0F;  // packed, which has no -0
      check_same("large", rows_of(*gpu, type, *w), right, 2048);
    }
  }
}

TEST_CASE("made-up weights have the same values on a GPU as on the CPU", "[gpu]") {
  const auto cpu = open_cpu(2);
  for (const auto type : activation_types()) {
    const auto gpu = open_gpu(type);
    if (!gpu) return;
    for (const auto& numbers : {made_up_weights{1, 0x1p-9F, 0}, made_up_weights{9, 0.013F, 1.7F}}) {
      weight_slice s;
      s.stored_columns = 3000;
      s.row_begin = 11;
      s.row_end = 200;
      s.column_begin = 100;
      s.column_end = 2900;
      s.made_up = numbers;
      check_rows(*gpu, *cpu, type, {&s, 1});
    }
  }
}

TEST_CASE("vectors keep f32 on a GPU, whatever the activations are", "[gpu]") {
  auto random = seeded(713);
  for (const auto type : activation_types()) {
    const auto gpu = open_gpu(type);
    if (!gpu) return;
    const stored_matrix stored(dtype::f32, 1, 300, random);
    const auto slice = stored.slice();
    const auto gain = ready(*gpu, slice, weight_role::vector);
    CHECK(gain->rows() == 1);
    CHECK(gain->columns() == 300);
    CHECK(gain->bytes() == 1200);
    // Rows of equal values have norm 1: normed is the gain.
    const auto x = filled(*gpu, type, std::vector<float>(300, 2), 1, 300);
    const auto normed = poisoned(*gpu, type, 1, 300);
    const norm_args norm{norm_kind::rms, gain.get(), nullptr, 0};
    add_norm_args args;
    args.residual = x;
    args.norm = &norm;
    args.normed = normed;
    gpu->ops().add_norm(args);
    check_same("gain", normed.values(), rounded(stored.expanded(), type), 300);
  }
}

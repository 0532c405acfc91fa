// SPDX-License-Identifier: Apache-2.0
// rope_store against double arithmetic, on the host: every style, partly rotated heads, widths that
// packs do not divide, scattered pages; what lies beside the stored lines stays untouched.
#include "kernels/cuda/pointwise.hpp"
#include "tests/kernels/cuda/gpu_support.hpp"
#include "tests/support/cuda_on_cpu.hpp"

using namespace dinfer;
using namespace dinfer::kernels;
using namespace dinfer::tests;

namespace {

struct rope_case {
  std::int32_t query_heads, kv_heads, head_dim, rotary;
  rope_style style;
  std::int32_t block_size = 16;
};

struct tokens_of_step {
  std::vector<std::int32_t> positions{0, 1, 5, 33, 16, 70001};
  std::vector<std::int32_t> sequence{0, 0, 1, 1, 2, 2};
  std::vector<std::int32_t> table_rows{3, 0, 2};
};

double angle_of(std::int32_t position, float frequency) {
  return static_cast<double>(static_cast<float>(position) * frequency);
}

// The rows of qkv, turned.
std::vector<float> turned(const rope_case& c, std::vector<float> qkv,
                          const std::vector<std::int32_t>& positions,
                          const std::vector<float>& frequencies) {
  const std::int64_t width = std::int64_t{c.query_heads + 2 * c.kv_heads} * c.head_dim;
  for (std::size_t t = 0; t < positions.size(); ++t) {
    for (std::int32_t h = 0; h < c.query_heads + c.kv_heads; ++h) {
      float* head = qkv.data() + static_cast<std::int64_t>(t) * width + h * c.head_dim;
      for (std::int32_t i = 0; i < (c.style == rope_style::none ? 0 : c.rotary / 2); ++i) {
        const double angle = angle_of(positions[t], frequencies[static_cast<std::size_t>(i)]);
        float& a = head[c.style == rope_style::half ? i : 2 * i];
        float& b = head[c.style == rope_style::half ? i + c.rotary / 2 : 2 * i + 1];
        const double x = a, y = b;
        a = static_cast<float>(x * std::cos(angle) - y * std::sin(angle));
        b = static_cast<float>(y * std::cos(angle) + x * std::sin(angle));
      }
    }
  }
  return qkv;
}

void check_rope(device& d, dtype type, dtype stored_type, const rope_case& c,
                random_numbers& random) {
  constexpr std::int32_t layers = 2, layer = 1, pages = 20, table_width = 20000;
  const tokens_of_step step;
  const auto tokens = static_cast<std::int64_t>(step.positions.size());
  const std::int64_t width = std::int64_t{c.query_heads + 2 * c.kv_heads} * c.head_dim;
  auto raw = random.floats(tokens * width);
  raw[raw.size() - 1] = 1000;  // a value beyond what 8-bit floats have
  raw[raw.size() - 2] = -449;
  raw[raw.size() - 3] = 0x1p-10F;
  raw = rounded(raw, type);
  std::vector<float> frequencies;
  for (std::int32_t i = 0; i < c.rotary / 2; ++i) {
    frequencies.push_back(static_cast<float>(std::pow(10000.0, -2.0 * i / c.rotary)));
  }
  const auto qkv = filled(d, type, raw, tokens, width);
  const auto inverse = filled(d, dtype::f32, frequencies, frequencies.size());
  const auto positions = indices(d, step.positions), sequence = indices(d, step.sequence);
  const auto rows = indices(d, step.table_rows);
  std::vector<std::int32_t> table(4 * table_width, -1);
  std::vector<std::int32_t> page_of;
  for (std::size_t t = 0; t < step.positions.size(); ++t) {
    const auto row = step.table_rows[static_cast<std::size_t>(step.sequence[t])];
    auto& page =
        table[static_cast<std::size_t>(row * table_width + step.positions[t] / c.block_size)];
    if (page < 0) page = static_cast<std::int32_t>(19 - 3 * t);  // 0 and 1 share theirs
    page_of.push_back(page);
  }
  const auto blocks = indices(d, table, 4, table_width);
  kv_pages kv{nullptr, stored_type, pages, layers, c.kv_heads, c.block_size, c.head_dim};
  const auto memory = poisoned(d, stored_type, pages, kv.page_elements());
  kv.base = memory.data();
  step_batch batch;
  batch.tokens = static_cast<std::int32_t>(tokens);
  batch.sequences = 3;
  batch.positions = positions;
  batch.token_sequence = sequence;
  batch.table_rows = rows;
  batch.block_table = blocks;
  rope_store_args args{
      qkv, c.query_heads, c.kv_heads, c.head_dim, {c.style, c.rotary, inverse}, &batch, kv, layer};
  cuda::rope_store(args, nullptr);

  INFO(info(type).name << " D " << c.head_dim << " rotary " << c.rotary << " style "
                       << static_cast<int>(c.style));
  const auto right = turned(c, raw, step.positions, frequencies);
  const auto got = qkv.values();
  check_close("qkv", got, right, c.head_dim, bound_of(type));
  // Pages: exactly what stands in qkv, as they hold it, and nothing else.
  const auto kept = rounded(got, stored_type);
  std::vector<float> expected(static_cast<std::size_t>(pages * kv.page_elements()), poison);
  for (std::int64_t t = 0; t < tokens; ++t) {
    const auto index = static_cast<std::size_t>(t);
    for (std::int64_t h = 0; h < 2 * c.kv_heads; ++h) {
      const auto from = t * width + (c.query_heads + h) * c.head_dim;
      const auto to = page_of[index] * kv.page_elements() + layer * kv.layer_elements() +
                      (h * c.block_size + step.positions[index] % c.block_size) * c.head_dim;
      std::copy_n(kept.begin() + from, c.head_dim, expected.begin() + to);
    }
  }
  const auto stored = memory.values();
  for (std::size_t i = 0; i < stored.size(); ++i) {
    if (stored[i] == expected[i] || (std::isnan(stored[i]) && std::isnan(expected[i]))) continue;
    FAIL("page element " << i << ": " << stored[i] << " for " << expected[i]);
  }
}

}  // namespace

TEST_CASE("rope_store turns queries and keys, and stores keys and values in their pages") {
  auto random = seeded(611);
  const auto d = open_cpu(1);
  for (const std::uint64_t order : {0, 5}) {
    cuda_on_cpu::set_order(order);
    for (const auto type : activation_types()) {
      for (const auto pages : {type, dtype::f8_e4m3}) {
        for (const auto style : {rope_style::half, rope_style::interleaved, rope_style::none}) {
          const auto check = [&](const rope_case& c) { check_rope(*d, type, pages, c, random); };
          check({4, 2, 64, 64, style});
          check({9, 3, 64, 64, style});
          check({4, 1, 128, 128, style, 32});
          check({2, 1, 80, 32, style, 8});     // partly, in packs
          check({3, 1, 80, 20, style});        // partly, not in packs
          check({2, 2, 6, 4, style, 4});       // heads that packs do not divide
          check({16, 8, 256, 256, style, 4});  // more than one round
        }
      }
    }
  }
  cuda_on_cpu::set_order(0);
}

TEST_CASE("rope_store refuses pages of another type or shape") {
  const auto d = open_cpu(1);
  step_batch batch;
  kv_pages pages{nullptr, dtype::f16, 1, 1, 1, 16, 64};
  rope_store_args args{view(nullptr, dtype::bf16, 1, 192), 1, 1, 64, {}, &batch, pages, 0};
  CHECK_THROWS_AS(cuda::rope_store(args, nullptr), device_error);
  args.pages.type = dtype::bf16;
  args.pages.head_dim = 32;
  CHECK_THROWS_AS(cuda::rope_store(args, nullptr), device_error);
}

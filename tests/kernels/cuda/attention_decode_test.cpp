// SPDX-License-Identifier: Apache-2.0
// Attention of sequences that decode on a GPU: against the CPU backend over contexts of all
// lengths, and that a sequence's bits do not depend on those beside it.
#include "tests/kernels/cuda/attend.hpp"

using namespace dinfer;
using namespace dinfer::kernels;
using namespace dinfer::tests;

namespace {

std::vector<head_shape> shapes() {
  if (brief()) {
    return {{{3, 3}, 64, 32, 0, dtype::bf16},
            {{1, 5}, 128, 16, 100, dtype::f16},
            {{2, 1}, 40, 16, 0, dtype::f16},
            {{4, 4}, 128, 32, 0, dtype::bf16, true}};
  }
  return {
      {{4, 4, 4, 4, 4, 4, 4, 4}, 128, 32, 0, dtype::bf16},
      {{3, 3, 3}, 64, 32, 0, dtype::bf16},
      {{8, 8}, 128, 16, 0, dtype::f16},
      {{1, 5, 2}, 128, 64, 700, dtype::f16},
      {{16, 16}, 64, 16, 100, dtype::bf16},
      {{20, 3}, 128, 32, 0, dtype::bf16},
      {{1, 1, 1, 1}, 96, 8, 0, dtype::f16},
      {{4, 4}, 80, 16, 0, dtype::bf16},
      {{7, 7}, 256, 32, 0, dtype::bf16},
      {{2, 1}, 40, 16, 0, dtype::f16},
      {{4, 4, 4, 4, 4, 4, 4, 4}, 128, 32, 0, dtype::bf16, true},
      {{3, 3, 3}, 64, 32, 0, dtype::bf16, true},
      {{1, 5, 20}, 128, 64, 700, dtype::f16, true},
      {{1, 1, 1, 1}, 96, 8, 0, dtype::f16, true},
      {{4, 4}, 80, 16, 100, dtype::bf16, true},
      {{7, 7}, 256, 32, 0, dtype::bf16, true},
      {{2, 1}, 112, 16, 0, dtype::bf16, true},
  };
}

// One decode each, of a prompt's token at `at`; -1: padding.
std::vector<piece> decodes(const prompt& p, const std::vector<std::int32_t>& at) {
  std::vector<piece> pieces;
  for (const std::int32_t t : at) pieces.push_back({t < 0 ? nullptr : &p, std::max(t, 0), 1});
  return pieces;
}

std::vector<float> row(const std::vector<float>& all, std::size_t index, std::int64_t columns) {
  const auto begin = all.begin() + static_cast<std::int64_t>(index) * columns;
  return {begin, begin + columns};
}

}  // namespace

TEST_CASE("decode attention agrees with the CPU whatever the contexts", "[gpu]") {
  auto random = seeded(73);
  device_options four;
  four.cpu_threads = 4;
  auto cpu = open_device("cpu:0", four);
  REQUIRE(cpu);
  for (const auto& w : shapes()) {
    const std::int32_t length = brief() ? 600 : 3000;
    const auto p = make_prompt(w, length, random);
    std::vector<std::int32_t> mixed{2999, 0, 1, -1, 63, 64, 127, 128, 255, 256, 1000, 2047, -1, 31};
    for (auto& t : mixed) t = std::min(t, length - 1);
    for (int i = brief() ? 36 : 0; i < 40; ++i) mixed.push_back(random.below(600));
    for (const auto& at :
         {std::vector<std::int32_t>{5}, std::vector<std::int32_t>{length - 100}, mixed}) {
      const paged_step step(w, decodes(p, at), random);
      const auto count = static_cast<std::int32_t>(at.size());
      const auto right = attend(**cpu, dtype::f32, w, step, count);
      const auto gpu = open_gpu(w.type);
      if (!gpu) return;
      reserve(*gpu, w);
      for (int round = 0; round < 2; ++round)  // the second finds what the first left behind
        check_close(w.name(), attend(*gpu, w.type, w, step, count), right, w.head_dim,
                    bound_of(w.type));
    }
  }
}

TEST_CASE("a sequence that decodes has the same bits alone and among others", "[gpu]") {
  auto random = seeded(74);
  for (const auto& w : shapes()) {
    const auto gpu = open_gpu(w.type);
    if (!gpu) return;
    reserve(*gpu, w);
    const std::int32_t length = brief() ? 600 : 2200;
    const auto p = make_prompt(w, length, random);
    std::vector<std::int32_t> at{2199, 17, 600, -1, 128, 1500, 2000, 3};
    for (auto& t : at) t = std::min(t, length - 1);
    const auto together = attend(*gpu, w.type, w, paged_step(w, decodes(p, at), random), 8);
    for (std::size_t i = 0; i < at.size(); ++i) {
      if (at[i] < 0) continue;
      const auto alone = attend(*gpu, w.type, w, paged_step(w, decodes(p, {at[i]}), random), 1);
      check_same(w.name() + " at " + std::to_string(at[i]), row(together, i, w.out_columns()),
                 alone, w.out_columns());
    }
  }
}

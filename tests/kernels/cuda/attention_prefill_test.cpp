// SPDX-License-Identifier: Apache-2.0
// Attention over prompts on a GPU: against the CPU backend over ragged batches, and that a prompt's
// bits do not depend on how it is cut into steps, nor on what else is in them.
#include "tests/kernels/cuda/attend.hpp"

using namespace dinfer;
using namespace dinfer::kernels;
using namespace dinfer::tests;

namespace {

std::vector<head_shape> shapes() {
  if (brief()) {
    return {{{4, 4}, 128, 32, 0, dtype::bf16},
            {{3, 1}, 64, 8, 65, dtype::f16},
            {{2, 2}, 64, 16, 0, dtype::f32},
            {{4, 4}, 128, 32, 0, dtype::bf16, true}};
  }
  return {
      {{4, 4}, 128, 32, 0, dtype::bf16},
      {{8, 8, 8, 8}, 128, 16, 0, dtype::bf16},
      {{16, 16}, 64, 16, 0, dtype::bf16},
      {{3, 1}, 64, 8, 0, dtype::f16},
      {{1, 5, 2}, 128, 64, 700, dtype::f16},
      {{7, 7}, 64, 128, 100, dtype::bf16},
      {{1, 1, 1}, 128, 16, 0, dtype::f16},
      {{16}, 128, 256, 33, dtype::bf16},
      {{2, 1}, 80, 16, 0, dtype::bf16},
      {{4, 4}, 128, 16, 0, dtype::f32},
      {{3, 3}, 64, 8, 65, dtype::f32},
      {{2, 2}, 256, 32, 0, dtype::f16},
      {{4, 4}, 128, 32, 0, dtype::bf16, true},
      {{3, 1}, 64, 16, 65, dtype::f16, true},
      {{1, 5, 2}, 128, 64, 700, dtype::f16, true},
      {{7, 7}, 64, 8, 0, dtype::bf16, true},
      {{2, 1}, 80, 16, 0, dtype::bf16, true},
      {{2, 2}, 64, 16, 0, dtype::f32, true},
  };
}

}  // namespace

TEST_CASE("prefill attention agrees with the CPU over ragged batches", "[gpu]") {
  auto random = seeded(71);
  device_options four;
  four.cpu_threads = 4;
  auto cpu = open_device("cpu:0", four);
  REQUIRE(cpu);
  for (const auto& w : shapes()) {
    const auto a = make_prompt(w, 1300, random), b = make_prompt(w, 257, random);
    const auto c = make_prompt(w, 64, random), d = make_prompt(w, 1, random);
    const paged_step step(w,
                          {{&b, 256, 1},
                           {&a, 1299, 1},
                           {&c, 9, 50},
                           {&a, 411, 700},
                           {&d, 0, 1},
                           {nullptr, 0, 5},
                           {&b, 0, 257},
                           {&a, 0, 129},
                           {&b, 128, 128},
                           {&a, 1298, 1}},
                          random);
    const auto right = attend(**cpu, dtype::f32, w, step, 2);
    for (const bool batch_invariant : {false, true}) {
      const auto gpu = open_gpu(w.type, batch_invariant);
      if (!gpu) return;
      reserve(*gpu, w);
      const std::string name = w.name() + (batch_invariant ? ", batch invariant" : "");
      check_close(name, attend(*gpu, w.type, w, step, 2), right, w.head_dim, bound_of(w.type));
    }
  }
}

TEST_CASE("prefill attention's bits depend neither on chunks nor on the batch", "[gpu]") {
  auto random = seeded(72);
  for (const auto& w : shapes()) {
    const auto gpu = open_gpu(w.type, true);
    if (!gpu) return;
    reserve(*gpu, w);
    const auto a = make_prompt(w, 900, random), b = make_prompt(w, 1500, random);
    const auto right = attend(*gpu, w.type, w, paged_step(w, {{&a, 0, a.length}}, random), 0);
    for (const std::int32_t chunk : {900, 512, 230, 1}) {
      if (brief() && chunk < 512) break;
      const std::int32_t start = chunk == 1 ? 895 : 0;  // one token at a time: the last ones
      std::vector<float> all(right.begin(), right.begin() + start * w.out_columns());
      for (std::int32_t first = start; first < a.length; first += chunk) {
        const std::int32_t count = std::min(chunk, a.length - first);
        // Little else in the step, or so much that the kernel takes other tiles.
        const piece other{&b, first, first % 2 == 0 ? 1500 - first : first % 60};
        const paged_step step(w, {{&b, 1400, 1}, other, {&a, first, count}}, random);
        const auto out = attend(*gpu, w.type, w, step, 1);
        all.insert(all.end(), out.end() - count * w.out_columns(), out.end());
      }
      check_same(w.name() + " chunk " + std::to_string(chunk), all, right, w.out_columns());
    }
  }
}

TEST_CASE("8-bit floats in pages give a prompt the bits that their numbers give", "[gpu]") {
  auto random = seeded(75);
  for (auto w : shapes()) {
    if (!w.f8_pages) continue;
    const auto a = make_prompt(w, 700, random), b = make_prompt(w, 90, random);
    const paged_step step(w, {{&a, 650, 50}, {&b, 0, 90}, {&a, 0, 300}}, random);
    const auto gpu = open_gpu(w.type);
    if (!gpu) return;
    reserve(*gpu, w);
    const auto got = attend(*gpu, w.type, w, step, 0);
    w.f8_pages = false;
    check_same(w.name(), got, attend(*gpu, w.type, w, step, 0), w.out_columns());
  }
}

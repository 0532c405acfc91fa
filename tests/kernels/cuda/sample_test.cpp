// SPDX-License-Identifier: Apache-2.0
// The sampler of a GPU against the CPU's, how its draws are distributed, and recorded draws.
#include "tests/kernels/cuda/gpu_support.hpp"
#include "tests/kernels/cuda/sample_cases.hpp"
#include "tests/kernels/distribution.hpp"

using namespace dinfer;
using namespace dinfer::kernels;
using namespace dinfer::tests;

namespace {

// Every second row greedy, the others with noise; every fifth is padding.
struct mixed_rows {
  std::vector<sample_row> rows;
  std::vector<std::int32_t> slots, positions, targets;

  mixed_rows(std::uint32_t count, std::int32_t position) {
    for (std::uint32_t r = 0; r < count; ++r) {
      rows.push_back({r % 5 == 4 ? count : r, position, -1});
      slots.push_back(static_cast<std::int32_t>(rows.back().slot));
      positions.push_back(position);
      targets.push_back(-1);
    }
  }
  static void start(sampler& s, std::uint32_t count) {
    for (std::uint32_t r = 0; r < count; ++r) {
      sampling_params p;
      p.temperature = r % 2 == 0 ? 0.0F : 0.8F;
      p.seed = r;
      s.start(r, p, {});
    }
  }
};

}  // namespace

TEST_CASE("draws on a GPU are those of the CPU, whatever is asked for", "[gpu]") {
  const auto gpu = open_gpu(dtype::bf16);
  if (!gpu) return;
  const auto cpu = open_cpu(4);
  const sampler_maker make = [&](std::uint32_t slots, std::int64_t vocabulary) {
    return gpu->ops().make_sampler(slots, vocabulary);
  };
  std::uint64_t seed = 81;
  for (const auto vocabulary : few(std::vector{1003, 50'257, 1, 40, 3000, 128'256})) {
    const int rounds = brief() ? 2 : vocabulary < 10'000 ? 40 : 8;
    CHECK(compare_draws(*cpu, *gpu, make, vocabulary, 16, rounds, seed++) <= 2);
  }
}

TEST_CASE("draws on a GPU are distributed as they must be", "[gpu]") {
  const auto gpu = open_gpu(dtype::bf16);
  if (!gpu) return;
  const int draws = brief() ? 3000 : 100'000;
  check_draws(*gpu, "temperature 1", filters(1, 0, 1, 0), 50, 1000, draws);
  check_draws(*gpu, "temperature 2", filters(2, 0, 1, 0), 129, 1000, draws);
  check_draws(*gpu, "top_k", filters(1, 10, 1, 0), 100, 1000, draws);
  check_draws(*gpu, "top_p", filters(1, 0, 0.7F, 0), 100, 1000, draws);
  check_draws(*gpu, "min_p", filters(1, 0, 1, 0.2F), 100, 1000, draws);
  check_draws(*gpu, "top_k and top_p", filters(0.8F, 20, 0.9F, 0), 100, 1000, draws);
  auto p = filters(0.9F, 25, 0.9F, 0.02F);
  p.logit_biases = {{3, 2}, {10, -5}};
  p.repetition_penalty = 1.3F;
  p.presence_penalty = 0.5F;
  p.frequency_penalty = 0.7F;
  check_draws(*gpu, "everything", p, 40, 1000, draws);
}

TEST_CASE("more rows than one launch takes are drawn on a GPU", "[gpu]") {
  const auto gpu = open_gpu(dtype::bf16);
  if (!gpu) return;
  const auto cpu = open_cpu(4);
  auto random = seeded(82);
  constexpr std::uint32_t count = 2500;
  const std::int64_t vocabulary = brief() ? 301 : 4001;
  const auto right = cpu->ops().make_sampler(count, vocabulary);
  const auto other = gpu->ops().make_sampler(count, vocabulary);
  mixed_rows::start(*right, count);
  mixed_rows::start(*other, count);
  const mixed_rows mixed(count, 7);
  const auto x = random.floats(count * vocabulary, -5, 5);
  const auto a = draw_rows(*cpu, *right, x, mixed.rows, {&vocabulary, 1});
  const auto b = draw_rows(*gpu, *other, x, mixed.rows, {&vocabulary, 1});
  int apart = 0;
  for (std::size_t r = 0; r < count; ++r) {
    if (mixed.rows[r].slot < count && a[r].token != b[r].token) ++apart;
  }
  CHECK(apart <= 1);
}

TEST_CASE("a recorded draw is replayed with other rows, and feeds its tokens back", "[gpu]") {
  const auto gpu = open_gpu(dtype::bf16);
  if (!gpu) return;
  const auto cpu = open_cpu(2);
  auto random = seeded(83);
  constexpr std::uint32_t count = 10;
  const std::int64_t vocabulary = 32'000;
  const auto right = cpu->ops().make_sampler(count, vocabulary);
  const auto other = gpu->ops().make_sampler(count, vocabulary);
  auto logits = poisoned(*gpu, dtype::f32, count, vocabulary);
  const auto i32 = [&] { return poisoned(*gpu, dtype::i32, count); };
  auto slots = i32(), positions = i32(), targets = i32(), tokens = i32(), ids = i32();
  const mixed_rows recorded(count, 0);
  sample_args args;
  args.logits = logits;
  args.rows = std::span(recorded.rows).first(8);  // the others are padding when it is recorded
  args.arrays = {slots, positions, targets};
  args.shard_rows = {&vocabulary, 1};
  args.drawn.tokens = tokens;
  mixed_rows::start(*other, count);
  mixed_rows::start(*right, count);
  other->commit();
  slots.put(std::as_bytes(std::span(recorded.slots)));
  REQUIRE(other->simple(recorded.rows));
  gpu->begin_capture();
  other->sample(args);
  other->fill_last(ids, slots);
  const auto replayed = gpu->end_capture();
  for (int step = 0; step < 6; ++step) {
    mixed_rows mixed(count, 100 + step);
    std::rotate(mixed.rows.begin(), mixed.rows.begin() + step, mixed.rows.end());
    std::rotate(mixed.slots.begin(), mixed.slots.begin() + step, mixed.slots.end());
    slots.put(std::as_bytes(std::span(mixed.slots)));
    positions.put(std::as_bytes(std::span(mixed.positions)));
    targets.put(std::as_bytes(std::span(mixed.targets)));
    ids.poison();  // -1: all are to be filled
    const auto x = random.floats(count * vocabulary, -5, 5);
    logits.put(std::as_bytes(std::span(x)));
    replayed->replay();
    const auto wanted = draw_rows(*cpu, *right, x, mixed.rows, {&vocabulary, 1});
    const auto got = tokens.indices(), filled = ids.indices();
    for (std::size_t r = 0; r < count; ++r) {
      if (mixed.rows[r].slot == count) continue;
      CHECK(got[r] == wanted[r].token);
      CHECK(filled[r] == wanted[r].token);
    }
  }
}

// SPDX-License-Identifier: Apache-2.0
// The sampler of a GPU, kernels and host side, over the CPU's memory: against the CPU's sampler.
#include "kernels/cuda/sampler.hpp"
#include "tests/kernels/cuda/sample_cases.hpp"
#include "tests/support/cuda_on_cpu.hpp"

using namespace dinfer;
using namespace dinfer::kernels;
using namespace dinfer::tests;

namespace {

sampler_maker maker(device& d) {
  return [&d](std::uint32_t slots, std::int64_t vocabulary) {
    return cuda::make_cuda_sampler(d, nullptr, slots, vocabulary);
  };
}

}  // namespace

TEST_CASE("emulated draws are those of the CPU, whatever is asked for") {
  const auto d = open_cpu(1);
  std::uint64_t seed = 61;
  for (const std::int32_t vocabulary : {1, 2, 31, 40, 1003, 3000}) {
    cuda_on_cpu::set_order(seed % 4);
    CHECK(compare_draws(*d, *d, maker(*d), vocabulary, 5, 5, seed++) <= 1);
  }
}

TEST_CASE("emulated draws from vocabularies that no block can sort at once") {
  const auto d = open_cpu(1);
  cuda_on_cpu::set_order(7);
  for (const std::int32_t vocabulary : {9001, 20'000}) {
    CHECK(compare_draws(*d, *d, maker(*d), vocabulary, 6, 6, 70 + vocabulary) <= 1);
  }
}

// A row is cut over fewer blocks the more rows there are, and each works on more of it.
TEST_CASE("emulated draws of long parts of rows") {
  const auto d = open_cpu(1);
  cuda_on_cpu::set_order(5);
  random_numbers random(73);
  const std::int64_t vocabulary = 20'001,
                     all = 1024;  // most are padding, whose logits nobody reads
  const std::uint32_t slots = 60;
  const auto right = d->ops().make_sampler(slots, vocabulary);
  const auto other = cuda::make_cuda_sampler(*d, nullptr, slots, vocabulary);
  std::vector<sample_row> rows;
  std::vector<std::int32_t> who(all, slots), positions(all, 3), tokens(all, -1);
  for (std::uint32_t slot = 0; slot < slots; ++slot) {
    sampling_params p;
    p.seed = slot;
    p.temperature = slot % 10 == 0 ? 0.0F : random.uniform(0.3F, 2);
    right->start(slot, p, {});
    other->start(slot, p, {});
    rows.push_back({slot, 3, -1});
    who[slot] = static_cast<std::int32_t>(slot);
  }
  const auto memory = d->allocate(static_cast<std::size_t>(all * vocabulary) * 4, true);
  const auto x = random.floats(slots * vocabulary, -4, 4);
  std::memcpy(memory.data(), x.data(), x.size() * 4);
  sample_args args;
  args.logits = view(memory.data(), dtype::f32, all, vocabulary);
  args.rows = rows;
  args.arrays = {over(who), over(positions), {}};
  args.drawn.tokens = over(tokens);
  other->commit();
  other->sample(args);
  const auto wanted = draw_rows(*d, *right, x, rows, {&vocabulary, 1});
  for (std::size_t r = 0; r < slots; ++r) CHECK(tokens[r] == wanted[r].token);
  CHECK(tokens.back() == 0);
}

TEST_CASE("many tokens and many slots travel in pages") {
  const auto d = open_cpu(1);
  cuda_on_cpu::set_order(0);
  random_numbers random(71);
  const std::int32_t vocabulary = 100;
  const std::int64_t whole = vocabulary;
  const std::uint32_t slots = 150;
  const auto right = d->ops().make_sampler(slots, vocabulary);
  const auto other = cuda::make_cuda_sampler(*d, nullptr, slots, vocabulary);
  std::vector<token_id> history(300'000);
  for (auto& t : history) t = random.below(vocabulary / 2) + random.below(vocabulary / 2);
  sampling_params p;
  p.temperature = 0;
  p.frequency_penalty = 1e-4F;
  p.repetition_penalty = 1.1F;
  std::vector<sample_row> rows;
  for (std::uint32_t slot = 0; slot < slots; ++slot) rows.push_back({slot, 5, -1});
  for (auto* s : {right.get(), other.get()}) {
    for (const auto& row : rows) s->start(row.slot, p, {});
    s->observe(3, history, true);
    s->observe(3, std::span(history).first(70), false);
    s->observe(149, std::span(history).first(1000), true);
    s->set_last(4, 77);
  }
  const auto x = random.floats(slots * vocabulary, 0, 1);
  const auto a = draw_rows(*d, *right, x, rows, {&whole, 1});
  const auto b = draw_rows(*d, *other, x, rows, {&whole, 1});
  for (std::size_t r = 0; r < rows.size(); ++r) CHECK(a[r].token == b[r].token);
  right->set_last(4, 77);
  other->set_last(4, 77);
  other->commit();
  std::vector<std::int32_t> one{-1, 5, -1, -1}, two = one, at{4, 0, 149, 3};
  right->fill_last(over(one), over(at));
  other->fill_last(over(two), over(at));
  CHECK(one[0] == 77);
  CHECK(one == two);
}

TEST_CASE("a row's bits depend on that row alone, and not on the order of threads") {
  const auto d = open_cpu(1);
  random_numbers random(72);
  const std::int64_t vocabulary = 5000;
  sampling_params p;
  p.top_p = 0.97F;
  p.logprobs = 20;
  p.seed = 9;
  const auto x = random.floats(vocabulary, -3, 3);
  const auto draw = [&](std::uint64_t order, std::size_t rows_beside) {
    cuda_on_cpu::set_order(order);
    const auto s = cuda::make_cuda_sampler(*d, nullptr, 2, vocabulary);
    s->start(1, p, {});
    s->start(0, {}, {});
    std::vector<float> rows = x;
    std::vector<sample_row> who{{1, 17, -1}};
    for (std::size_t i = 0; i < rows_beside; ++i) {
      rows.insert(rows.begin(), x.begin(), x.end());
      who.insert(who.begin(), {0, 3, -1});
    }
    return draw_rows(*d, *s, rows, who, {&vocabulary, 1}).back();
  };
  const auto right = draw(0, 0);
  for (const std::uint64_t order : {1, 2, 3}) {
    const auto again = draw(order, 1);
    CHECK(again.token == right.token);
    CHECK(same_bits({again.logprob}, {right.logprob}));
    for (std::size_t i = 0; i < 20; ++i) {
      CHECK(again.top[i].token == right.top[i].token);
      CHECK(same_bits({again.top[i].logprob}, {right.top[i].logprob}));
    }
  }
}

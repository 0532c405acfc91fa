// SPDX-License-Identifier: Apache-2.0
// Sequences of random parameters and hostile logits, drawn by the CPU's sampler and by another one
// side by side. Tokens must be equal but where two noisy logits are nearly so; what is reported of
// them must be equal within 1e-4, ids exactly.
#pragma once

#include "kernels/cpu/choose.hpp"
#include "tests/kernels/draw.hpp"
#include "tests/kernels/support.hpp"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace dinfer::tests {

using sampler_maker =
    std::function<std::unique_ptr<kernels::sampler>(std::uint32_t slots, std::int64_t vocabulary)>;

// One sequence, as a slot sees it.
struct drawn_sequence {
  sampling_params params;
  std::vector<token_id> stops, prompt, output;
  std::int64_t position = 0;

  void start(kernels::sampler& s, std::uint32_t slot) const {
    s.start(slot, params, stops);
    s.observe(slot, prompt, false);
    s.observe(slot, output, true);
  }

  // A logit with its noise, as the CPU makes it.
  float noisy(std::vector<float> logits, token_id token) const {
    using namespace kernels::cpu;
    token_history history;
    history.drawn = static_cast<std::uint32_t>(output.size());
    for (const auto t : prompt) history.tokens[t].prompt = true;
    for (const auto t : output) ++history.tokens[t].output;
    make_finite(logits);
    adjust({logits, 0}, params, stops, history);
    float value = logits[static_cast<std::size_t>(token)];
    if (params.greedy()) return value;
    const noise_key key{params.seed, static_cast<std::uint64_t>(position),
                        static_cast<std::uint32_t>(token)};
    best_kernels().add_gumbel(&value, 1, std::min(1.0F / params.temperature, 1e30F), key);
    return value;
  }
};

inline drawn_sequence random_sequence(random_numbers& random, std::int32_t vocabulary) {
  drawn_sequence s;
  auto& p = s.params;
  const auto chance = [&](std::int32_t of) { return random.below(of) == 0; };
  const auto tokens = [&](std::int32_t n) {
    std::vector<token_id> v;
    while (n-- > 0) v.push_back(random.below(vocabulary));
    return v;
  };
  p.seed = std::uint64_t{random.bits()} << 32 | random.bits();
  s.position = random.below(100'000);
  p.temperature = chance(4) ? 0 : chance(6) ? 1e-6F : random.uniform(0.1F, 2);
  if (chance(2)) return s;  // simple
  if (chance(2)) p.top_k = chance(3) ? random.below(2 * vocabulary) : 1 + random.below(40);
  if (chance(2)) p.top_p = chance(4) ? 0.9999F : random.uniform(0.01F, 1);
  if (chance(3)) p.min_p = random.uniform(0, 0.5F);
  if (chance(3)) p.repetition_penalty = random.uniform(0.5F, 1.5F);
  if (chance(3)) p.presence_penalty = random.uniform(-2, 2);
  if (chance(3)) p.frequency_penalty = random.uniform(-2, 2);
  if (chance(3)) {
    for (auto n = random.below(300); n >= 0; --n) {  // some twice, some of another vocabulary
      p.logit_biases.push_back({random.below(vocabulary + 2), random.uniform(-9, 9)});
    }
  }
  if (chance(3)) p.logprobs = random.below(kernels::most_top + 1);
  if (chance(3)) p.prompt_logprobs = random.below(kernels::most_top + 1);
  if (chance(3)) p.min_tokens = static_cast<std::uint32_t>(random.below(6)), s.stops = tokens(40);
  s.prompt = tokens(random.below(50));
  s.output = tokens(random.below(5));
  for (auto& t : s.output) t = chance(2) ? 0 : t;
  return s;
}

inline std::vector<float> random_logits(random_numbers& random, std::int32_t vocabulary) {
  const auto kind = random.below(8);
  auto x = random.floats(vocabulary, -10, 15);
  for (auto& v : x) {
    if (kind == 1) v = std::round(v * 2) / 2;  // ties, and zeros of both signs
    if (kind == 2) v = 3.5F + v * 1e-4F;
    if (kind == 3 && random.below(3) == 0) {
      const float odd[] = {poison, -poison, HUGE_VALF, -HUGE_VALF, 3e38F, -3e38F, 1e-42F, -0.0F};
      v = odd[random.below(random.below(4) == 0 ? 8 : 2)];
    }
    if (kind == 4) v = -v * v;
    if (kind == 5) v = 0;
    if (kind == 6 && random.below(2) == 0) v = -HUGE_VALF;
  }
  return x;
}

inline bool near_tie(const drawn_sequence& s, const std::vector<float>& logits, token_id a,
                     token_id b) {
  const double x = s.noisy(logits, a), y = s.noisy(logits, b);
  return std::abs(x - y) < 1e-4 * std::max(1.0, std::abs(x));
}

inline void check_same_draw(const sampled_token& got, const sampled_token& right) {
  CHECK(std::isnan(got.logprob) == std::isnan(right.logprob));
  if (!std::isnan(right.logprob)) CHECK(got.logprob == Approx(right.logprob).margin(1e-4));
  REQUIRE(got.top.size() == right.top.size());
  for (std::size_t i = 0; i < got.top.size(); ++i) {
    CHECK(got.top[i].token == right.top[i].token);
    CHECK(got.top[i].logprob == Approx(right.top[i].logprob).margin(1e-4));
  }
}

// `rounds` batches of sequences, each drawn three times, with targets and padding in between.
// Returns how many near ties were drawn apart.
inline int compare_draws(kernels::device& cpu, kernels::device& d, const sampler_maker& make,
                         std::int32_t vocabulary, std::uint32_t slots, int rounds,
                         std::uint64_t seed) {
  random_numbers random(seed);
  const std::int64_t whole = vocabulary;
  const auto right = cpu.ops().make_sampler(slots, vocabulary), other = make(slots, vocabulary);
  int ties = 0;
  for (int round = 0; round < rounds; ++round) {
    std::vector<drawn_sequence> sequences;
    for (std::uint32_t i = 0; i < slots; ++i) {
      sequences.push_back(random_sequence(random, vocabulary));
      sequences.back().start(*right, i);
      sequences.back().start(*other, i);
    }
    for (int step = 0; step < 3; ++step) {
      std::vector<kernels::sample_row> rows;
      std::vector<float> logits;
      for (std::uint32_t i = 0; i < 2 * slots; ++i) {
        const auto slot = i % slots;
        const bool told = i >= slots;
        if (told && random.below(3) > 0) continue;
        rows.push_back({slot, sequences[slot].position, told ? random.below(vocabulary) : -1});
        if (told && random.below(3) == 0) rows.back() = {slots, 0, -1};  // padding
        const auto x = random_logits(random, vocabulary);
        logits.insert(logits.end(), x.begin(), x.end());
      }
      CHECK(other->simple(rows) == right->simple(rows));
      const auto wanted = draw_rows(cpu, *right, logits, rows, {&whole, 1});
      const auto got = draw_rows(d, *other, logits, rows, {&whole, 1});
      for (std::size_t r = 0; r < rows.size(); ++r) {
        const auto slot = rows[r].slot;
        INFO("seed " << seed << " round " << round << " step " << step << " row " << r);
        if (slot == slots) continue;
        auto& s = sequences[slot];
        if (rows[r].target < 0 && got[r].token != wanted[r].token) {
          const auto from = logits.begin() + static_cast<std::ptrdiff_t>(r) * vocabulary;
          CHECK(near_tie(s, {from, from + vocabulary}, got[r].token, wanted[r].token));
          s.start(*other, slot);  // both go on alike
          other->observe(slot, {&wanted[r].token, 1}, true);
          ++ties;
        } else {
          CHECK(got[r].token == wanted[r].token);
          check_same_draw(got[r], wanted[r]);
        }
        if (rows[r].target < 0) s.output.push_back(wanted[r].token), ++s.position;
      }
    }
  }
  return ties;
}

}  // namespace dinfer::tests

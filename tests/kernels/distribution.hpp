// SPDX-License-Identifier: Apache-2.0
// Many draws under any filter against the distribution that float64 gives, by Pearson's
// chi-square at a significance of 1e-6, at which a right sampler fails once in a million such
// tests; the seeds are fixed, so a failure is a change. Tokens outside the filter must never be
// drawn.
#pragma once

#include "tests/kernels/draw.hpp"
#include "tests/kernels/support.hpp"

#include <algorithm>
#include <map>
#include <numeric>

namespace dinfer::tests {

// The rules of request.hpp in float64, written from their words.
inline std::vector<double> distribution(const std::vector<float>& logits, const sampling_params& p,
                                        const std::map<token_id, int>& prompt,
                                        const std::map<token_id, int>& output) {
  const auto n = logits.size();
  std::vector<double> x(logits.begin(), logits.end());
  for (const auto& b : p.logit_biases)
    x[static_cast<std::size_t>(b.token)] += static_cast<double>(b.bias);
  for (std::size_t i = 0; i < n; ++i) {
    const auto token = static_cast<token_id>(i);
    const double repetition = static_cast<double>(p.repetition_penalty);
    if (prompt.count(token) + output.count(token) > 0)
      x[i] = x[i] > 0 ? x[i] / repetition : x[i] * repetition;
    if (output.count(token) > 0) {
      x[i] -= static_cast<double>(p.presence_penalty) +
              static_cast<double>(p.frequency_penalty) * output.at(token);
    }
  }
  const double peak = *std::max_element(x.begin(), x.end());
  for (auto& v : x) v = std::exp((v - peak) / static_cast<double>(p.temperature));
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return x[a] > x[b]; });
  std::size_t kept = p.top_k > 0 ? std::min<std::size_t>(n, static_cast<std::size_t>(p.top_k)) : n;
  double total = 0;
  for (std::size_t i = 0; i < kept; ++i) total += x[order[i]];
  if (p.top_p < 1) {
    double sum = 0;
    for (std::size_t i = 0; i < kept; ++i) {
      sum += x[order[i]];
      if (sum >= static_cast<double>(p.top_p) * total) kept = i + 1;
    }
  }
  while (kept > 1 && x[order[kept - 1]] < static_cast<double>(p.min_p) * x[order[0]]) --kept;
  std::vector<double> out(n, 0.0);
  total = 0;
  for (std::size_t i = 0; i < kept; ++i) total += x[order[i]];
  for (std::size_t i = 0; i < kept; ++i) out[order[i]] = x[order[i]] / total;
  return out;
}

// The value that chi-square with `k` degrees of freedom exceeds with probability 1e-6 (Wilson and
// Hilferty 1931).
inline double chi_square_limit(double k) {
  constexpr double z = 4.753424;
  const double c = 1 - 2 / (9 * k) + z * std::sqrt(2 / (9 * k));
  return k * c * c * c;
}

// `draws` draws on `d`, `batch` at a time.
inline void check_draws(kernels::device& d, const char* name, const sampling_params& params,
                        std::int64_t vocabulary, int batch, int draws = 100'000) {
  random_numbers random(static_cast<std::uint64_t>(vocabulary));
  const auto s = d.ops().make_sampler(static_cast<std::uint32_t>(batch), vocabulary);
  const auto logits = random.floats(vocabulary, -3, 4);
  const std::vector<token_id> prompt{1, 5, 7}, output{7, 9, 9, 12};
  const auto right =
      distribution(logits, params, {{1, 1}, {5, 1}, {7, 1}}, {{7, 1}, {9, 2}, {12, 1}});
  std::vector<int> seen(static_cast<std::size_t>(vocabulary));
  std::vector<float> rows;
  for (int i = 0; i < batch; ++i) rows.insert(rows.end(), logits.begin(), logits.end());
  for (int first = 0; first < draws; first += batch) {
    std::vector<kernels::sample_row> who;
    for (int i = 0; i < batch; ++i) {
      const auto slot = static_cast<std::uint32_t>(i);
      s->start(slot, params, {});
      s->observe(slot, prompt, false);
      s->observe(slot, output, true);
      who.push_back({slot, first + i, -1});
    }
    for (const auto& drawn : draw_rows(d, *s, rows, who, {&vocabulary, 1})) {
      ++seen[static_cast<std::size_t>(drawn.token)];
    }
  }
  double statistic = 0, rest_expected = 0, rest_seen = 0;
  int bins = 0;
  for (std::size_t i = 0; i < seen.size(); ++i) {
    const double expected = right[i] * draws;
    if (expected == 0) {
      INFO(name << ": token " << i << " should never be drawn");
      CHECK(seen[i] == 0);
    } else if (expected < 10) {
      rest_expected += expected;
      rest_seen += seen[i];
    } else {
      statistic += (seen[i] - expected) * (seen[i] - expected) / expected;
      ++bins;
    }
  }
  if (rest_expected > 5) {
    statistic += (rest_seen - rest_expected) * (rest_seen - rest_expected) / rest_expected;
    ++bins;
  }
  INFO(name << ": " << bins << " bins");
  REQUIRE(bins >= 2);
  CHECK(statistic < chi_square_limit(bins - 1));
}

inline sampling_params filters(float temperature, std::int32_t top_k, float top_p, float min_p) {
  sampling_params p;
  p.temperature = temperature;
  p.top_k = top_k;
  p.top_p = top_p;
  p.min_p = min_p;
  p.seed = 0x123456789ABCDEFU;
  return p;
}

}  // namespace dinfer::tests

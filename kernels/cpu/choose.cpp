// SPDX-License-Identifier: Apache-2.0
// Selection without sorting a vocabulary: a heap for the k best, and for the others a threshold
// that only the tokens that matter pass.
#include "kernels/cpu/choose.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace dinfer::kernels::cpu {

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float large = 1e38F;  // the most that a logit may be

// Finite for every temperature, so that 0 * scale is 0.
float scale_of(const sampling_params& params) { return std::min(1.0F / params.temperature, 1e30F); }

// The k best of x, best first: a heap of k whose worst stands in front.
std::vector<candidate> best_of(std::span<const float> x, std::size_t k) {
  std::vector<candidate> heap;
  if (k == 0) return heap;
  heap.reserve(std::min(k, x.size()));
  for (std::size_t i = 0; i < x.size(); ++i) {
    const candidate c{x[i], static_cast<token_id>(i)};
    if (heap.size() < k) {
      if (c.value == -infinity) continue;
      heap.push_back(c);
      std::push_heap(heap.begin(), heap.end(), better);
    } else if (better(c, heap.front())) {
      std::pop_heap(heap.begin(), heap.end(), better);
      heap.back() = c;
      std::push_heap(heap.begin(), heap.end(), better);
    }
  }
  std::sort_heap(heap.begin(), heap.end(), better);
  return heap;
}

// All tokens whose scaled logit lies within `depth` of the best, by id.
std::vector<candidate> near_best(std::span<const float> x, float best, float scale, float depth) {
  std::vector<candidate> found;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if ((x[i] - best) * scale >= -depth) found.push_back({x[i], static_cast<token_id>(i)});
  }
  return found;
}

void sort_best_first(std::vector<candidate>& found) {
  std::sort(found.begin(), found.end(), better);
}

struct row_scale {
  float best = 0, scale = 1;
  double weight(const candidate& c) const {
    return std::exp(static_cast<double>((c.value - best) * scale));
  }
};

// Keeps the shortest beginning whose weights reach `wanted`; true when it does.
bool cut_at(std::vector<candidate>& sorted, const row_scale& row, double wanted) {
  double sum = 0;
  for (std::size_t i = 0; i < sorted.size(); ++i) {
    sum += row.weight(sorted[i]);
    if (sum >= wanted) {
      sorted.resize(i + 1);
      return true;
    }
  }
  return false;
}

// The smallest set of the likeliest tokens that reaches top_p: looks ever deeper, since the tokens
// that matter are few.
std::vector<candidate> nucleus(const kernel_table& kernels, std::span<const float> x,
                               const row_scale& row, float top_p) {
  const double all =
      kernels.sum_exp(x.data(), static_cast<std::int64_t>(x.size()), row.best, row.scale);
  const double wanted = static_cast<double>(top_p) * all;
  for (float depth = 3; depth < 100; depth *= 1.5F) {
    auto found = near_best(x, row.best, row.scale, depth);
    double mass = 0;
    for (const auto& c : found) mass += row.weight(c);
    if (mass < wanted) continue;
    sort_best_first(found);
    if (cut_at(found, row, wanted)) return found;
  }
  // Rounding alone kept the sum below: nothing is cut.
  auto all_of_them = near_best(x, row.best, row.scale, std::numeric_limits<float>::max());
  sort_best_first(all_of_them);
  return all_of_them;
}

}  // namespace

void make_finite(std::span<float> x) {
  for (float& v : x) {
    v = v < large ? v : v >= large ? large : -infinity;  // NaN fails both comparisons
  }
}

void adjust(logit_span row, const sampling_params& params, std::span<const token_id> stop_tokens,
            const token_history& history) {
  const auto find = [&](token_id token) -> float* {
    const auto i = static_cast<std::int64_t>(token) - row.first;
    return i >= 0 && i < static_cast<std::int64_t>(row.x.size())
               ? &row.x[static_cast<std::size_t>(i)]
               : nullptr;
  };
  for (const auto& bias : params.logit_biases) {
    if (float* v = find(bias.token)) *v += bias.bias;
  }
  if (params.penalised()) {
    for (const auto& [token, seen] : history.tokens) {
      float* v = find(token);
      if (v == nullptr) continue;
      *v =
          *v > 0 ? std::min(*v / params.repetition_penalty, large) : *v * params.repetition_penalty;
      if (seen.output == 0) continue;
      *v -= params.presence_penalty;
      *v -= params.frequency_penalty * static_cast<float>(seen.output);
    }
  }
  if (history.drawn < params.min_tokens) {
    for (const auto token : stop_tokens) {
      if (float* v = find(token)) *v = -infinity;
    }
  }
}

candidate draw_plain(const kernel_table& kernels, logit_span row, const sampling_params& params,
                     std::int64_t position) {
  const auto n = static_cast<std::int64_t>(row.x.size());
  if (!params.greedy()) {
    const noise_key key{params.seed, static_cast<std::uint64_t>(position),
                        static_cast<std::uint32_t>(row.first)};
    kernels.add_gumbel(row.x.data(), n, scale_of(params), key);
  }
  candidate best;
  std::int64_t index = 0;
  kernels.find_max(row.x.data(), n, &best.value, &index);
  best.token = row.first + static_cast<token_id>(index);
  return best;
}

token_id draw_filtered(const kernel_table& kernels, std::span<float> x,
                       const sampling_params& params, std::int64_t position) {
  row_scale row{0, scale_of(params)};
  std::int64_t first = 0;
  kernels.find_max(x.data(), static_cast<std::int64_t>(x.size()), &row.best, &first);
  if (row.best == -infinity) return 0;
  std::vector<candidate> kept;  // best first
  const bool by_count = params.top_k > 0 && static_cast<std::size_t>(params.top_k) < x.size();
  if (by_count) {
    kept = best_of(x, static_cast<std::size_t>(params.top_k));
    if (params.top_p < 1.0F) {
      double sum = 0;
      for (const auto& c : kept) sum += row.weight(c);
      cut_at(kept, row, static_cast<double>(params.top_p) * sum);
    }
  } else if (params.top_p < 1.0F) {
    kept = nucleus(kernels, x, row, params.top_p);
  } else {
    const float depth = params.min_p > 0 ? -std::log(params.min_p) + 1e-3F : 1e30F;
    kept = near_best(x, row.best, row.scale, depth);
    sort_best_first(kept);
  }
  if (params.min_p > 0) {
    const auto end = std::find_if(kept.begin(), kept.end(), [&](const candidate& c) {
      return row.weight(c) < static_cast<double>(params.min_p);
    });
    kept.erase(end, kept.end());
  }
  candidate chosen{-infinity, kept.empty() ? 0 : kept.front().token};
  for (const auto& c : kept) {
    const noise_key key{params.seed, static_cast<std::uint64_t>(position),
                        static_cast<std::uint32_t>(c.token)};
    candidate noisy = c;
    kernels.add_gumbel(&noisy.value, 1, row.scale, key);
    if (better(noisy, chosen)) chosen = noisy;
  }
  return chosen.token;
}

sampled_token report(const kernel_table& kernels, std::span<const float> x, token_id token,
                     std::int32_t top) {
  const auto n = static_cast<std::int64_t>(x.size());
  float best = 0;
  std::int64_t index = 0;
  kernels.find_max(x.data(), n, &best, &index);
  const double log_sum = best == -infinity ? 0
                                           : static_cast<double>(best) +
                                                 std::log(kernels.sum_exp(x.data(), n, best, 1));
  const auto logprob = [&](float value) {
    // The lowest finite float where JSON has no infinity.
    const double p = static_cast<double>(value) - log_sum;
    return static_cast<float>(std::max(p, -9999.0));
  };
  sampled_token out;
  out.token = token;
  out.logprob = logprob(x[static_cast<std::size_t>(token)]);
  for (const auto& c : best_of(x, static_cast<std::size_t>(std::max(top, 0)))) {
    out.top.push_back({c.token, logprob(c.value)});
  }
  return out;
}

}  // namespace dinfer::kernels::cpu

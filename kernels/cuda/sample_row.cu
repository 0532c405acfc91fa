// SPDX-License-Identifier: Apache-2.0
// Rows with biases, penalties, forbidden tokens, filters or log-probabilities: one block each. The
// rules are those of kernels/cpu/choose.cpp. Every filter is a floor: a candidate that must stay,
// with all that are better.
#include "kernels/cuda/select.cuh"

namespace dinfer::kernels::cuda {

namespace {

struct row_state {
  row_view view;
  const slot_params* params;
  word64 best = 0;        // the best candidate; 0: no logit is a number
  candidate_range range;  // all but -infinity
};

__device__ void add_biases(const row_view& row, const token_bias* biases, std::int32_t count) {
  for (auto i = static_cast<std::int32_t>(threadIdx.x); i < count; i += row_threads) {
    const std::int32_t token = biases[i].token;
    if (i > 0 && biases[i - 1].token == token) continue;  // its first one does the work
    float v = finite(row.logits[token]);
    for (std::int32_t j = i; j < count && biases[j].token == token; ++j) {
      v = __fadd_rn(v, biases[j].bias);
    }
    row.logits[token] = v;
  }
  __syncthreads();
}

// Rounded step by step, as on the CPU.
__device__ float penalise(float v, std::uint32_t count, const slot_params& p) {
  v = v > 0 ? fminf(__fdiv_rn(v, p.repetition), large_logit) : __fmul_rn(v, p.repetition);
  const std::uint32_t drawn = count & most_counted;
  if (drawn == 0) return v;
  v = __fsub_rn(v, p.presence);
  return __fsub_rn(v, __fmul_rn(p.frequency, static_cast<float>(drawn)));
}

__device__ void add_penalties(const row_view& row, const std::uint16_t* counts,
                              std::int64_t counts_width, const slot_params& p) {
  const auto* packs = reinterpret_cast<const uint4*>(counts);
  for (std::int64_t i = threadIdx.x; i < counts_width / 8; i += row_threads) {
    const uint4 pack = packs[i];
    if ((pack.x | pack.y | pack.z | pack.w) == 0) continue;
    for (std::int64_t token = 8 * i; token < 8 * i + 8; ++token) {
      const std::uint32_t count = counts[token];  // 0 past the vocabulary
      if (count != 0) row.logits[token] = penalise(finite(row.logits[token]), count, p);
    }
  }
  __syncthreads();
}

__device__ void adjust(const row_view& row, const slot_arrays& slots, std::int64_t slot,
                       const slot_params& p) {
  if (p.biases > 0) add_biases(row, slots.biases + slot * most_biases, p.biases);
  if (p.penalised) {
    add_penalties(row, slots.counts + slot * slots.counts_width, slots.counts_width, p);
  }
  if (p.stops == 0 || slots.drawn[slot] >= p.min_tokens) return;
  const std::int32_t* stops = slots.stops + slot * most_stop_tokens;
  for (auto i = static_cast<std::int32_t>(threadIdx.x); i < p.stops; i += row_threads) {
    row.logits[stops[i]] = minus_infinity();
  }
  __syncthreads();
}

__device__ void find_range(row_shared& s, row_state& row) {
  thread_best mine;
  float least = large_logit;
  row.view.each([&](float v, std::int32_t id) {
    mine.take(v, id);
    if (v > minus_infinity()) least = fminf(least, v);
  });
  row.best = block_max(s.words, mine.word());
  const word64 turned = block_max(s.words, ~candidate(least, 0x7FFFFFFF));
  row.range = {~turned, row.best};
}

// exp((v - best) * scale) in units of 2^-40.
struct weigher {
  float best, scale;
  __device__ __forceinline__ word64 operator()(float v) const {
    return static_cast<word64>(expf((v - best) * scale) * weight_one);
  }
};

// The last candidate that top_k and top_p leave.
__device__ word64 filter_floor(row_shared& s, const row_state& row) {
  const slot_params& p = *row.params;
  candidate_range range = row.range;
  auto most = static_cast<std::uint32_t>(row.view.count);
  if (p.top_k > 0 && p.top_k < row.view.count) {
    const auto k = static_cast<word64>(p.top_k);
    range.low = floor_of(s, row.view, range, most, one_each{},
                         [k](word64 total) { return k < total ? k : total; });
    most = static_cast<std::uint32_t>(k);
  }
  if (!(p.top_p < 1)) return range.low;
  const float best = value_of(row.best);
  const float weightless = finite(best - 28 / p.scale);  // e^-28 is no whole unit
  const word64 lightest = candidate(weightless, 0x7FFFFFFF);
  if (range.low < lightest) range.low = lightest;
  const double part = p.top_p;
  return floor_of(s, row.view, range, most, weigher{best, p.scale}, [part](word64 total) {
    const auto wanted = static_cast<word64>(ceil(part * static_cast<double>(total)));
    return wanted < 1 ? 1 : wanted < total ? wanted : total;
  });
}

__device__ std::int32_t draw(row_shared& s, const row_state& row, std::uint64_t position) {
  const slot_params& p = *row.params;
  if (row.best == 0) return 0;
  if (p.greedy) return token_of(row.best);
  const word64 floor = p.filtered ? filter_floor(s, row) : 0;
  const row_noise noise{p.scale, position, p.seed};
  const float best = value_of(row.best), least_depth = p.least_depth;
  thread_best mine;
  row.view.each([&](float v, std::int32_t id) {
    if (candidate(v, id) < floor || (v - best) * noise.scale < least_depth) return;
    mine.take_noisy(v, id, noise, mine.value);
  });
  const word64 chosen = block_max(s.words, mine.word());
  return chosen != 0 ? token_of(chosen) : p.filtered ? token_of(row.best) : 0;
}

// Log-probabilities: of `token`, and of the `top` best.
__device__ void report(row_shared& s, const row_state& row, const draw_rows& rows, std::int64_t at,
                       std::int32_t token, std::int32_t top) {
  const float best = value_of(row.best);
  word64 mine = 0, total = 0;
  if (row.best != 0) {
    const weigher weight{best, 1};
    row.view.each([&](float v, std::int32_t) { mine += weight(v); });
    block_scan(s.words, mine, total);
  }
  const double log_sum =
      row.best == 0 ? 0 : best + log(static_cast<double>(total) / static_cast<double>(weight_one));
  const auto logprob = [&](float v) {  // the lowest finite number where JSON has no infinity
    return static_cast<float>(fmax(v - log_sum, -9999.0));
  };
  if (threadIdx.x == 0) rows.logprobs[at] = logprob(finite(row.view.logits[token]));
  if (top <= 0) return;
  std::uint32_t count = 0;
  if (row.best != 0) {
    const auto wanted = static_cast<word64>(top);
    candidate_range range = row.range;
    range.low = floor_of(s, row.view, range, static_cast<std::uint32_t>(row.view.count), one_each{},
                         [wanted](word64 all) { return wanted < all ? wanted : all; });
    count = gather(s, row.view, range);
  }
  const auto i = static_cast<std::int32_t>(threadIdx.x);
  if (i >= top) return;
  const bool there = threadIdx.x < count;
  rows.top_tokens[at * most_top + i] = there ? token_of(s.sorted[i]) : -1;
  rows.top_logprobs[at * most_top + i] = there ? logprob(value_of(s.sorted[i])) : minus_infinity();
}

__device__ void finish(const slot_arrays& slots, std::int64_t slot, std::int32_t token,
                       bool penalised) {
  slots.last[slot] = token;
  ++slots.drawn[slot];
  if (!penalised) return;
  std::uint16_t& count = slots.counts[slot * slots.counts_width + token];
  if ((count & most_counted) < most_counted) ++count;
}

__global__ void __launch_bounds__(row_threads)
    row_kernel(slot_arrays slots, draw_rows rows, bool aligned) {
  DINFER_SHARED(row_shared, shared);
  const std::int64_t at = blockIdx.x;
  const std::int64_t slot = rows.slots[at];
  if (slot == slots.slots) return;
  const slot_params params = slots.params[slot];
  const std::int32_t target = rows.targets == nullptr ? -1 : rows.targets[at];
  if (simple_row(params, slots.drawn[slot], target)) return;

  row_state row{{rows.logits + at * slots.vocabulary, slots.vocabulary, aligned}, &params, 0, {}};
  if (target < 0) adjust(row.view, slots, slot, params);
  find_range(*shared, row);
  const auto position = static_cast<std::uint32_t>(rows.positions[at]);
  const std::int32_t token = target >= 0 ? target : draw(*shared, row, position);
  if (target >= 0 || params.logprobs >= 0) {  // a target: what the model itself says
    report(*shared, row, rows, at, token, target >= 0 ? params.prompt_logprobs : params.logprobs);
  }
  if (threadIdx.x > 0) return;
  rows.tokens[at] = token;
  if (target < 0) finish(slots, slot, token, params.penalised);
}

}  // namespace

void draw_others(const slot_arrays& slots, const draw_rows& rows, cudaStream_t stream) {
  launch(row_kernel, dim3(static_cast<unsigned>(rows.rows)), dim3(row_threads), sizeof(row_shared),
         stream, slots, rows, rows_aligned(rows, slots.vocabulary));
}

}  // namespace dinfer::kernels::cuda

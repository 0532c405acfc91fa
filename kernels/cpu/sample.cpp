// SPDX-License-Identifier: Apache-2.0
// Slots, and rows of logits that may be cut over the ranks. When no row of a step needs more than
// the best candidate, ranks exchange candidates, 8 bytes a row; else they exchange their shards and
// all do the same work. Which way is taken never changes a token: choose.hpp.
#include "kernels/cpu/sample.hpp"

#include "dinfer/error.hpp"
#include "kernels/cpu/choose.hpp"
#include "kernels/device.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

namespace dinfer::kernels::cpu {

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

struct slot_state {
  sampling_params params;
  std::vector<token_id> stop_tokens;
  token_history history;
  token_id last = 0;
};

// Row r of the results; `top` is how many candidates were asked for.
void write(const drawn_arrays& out, std::size_t r, const sampled_token& drawn, bool logprob,
           std::int32_t top) {
  out.tokens.as<std::int32_t>()[r] = drawn.token;
  if (!logprob) return;
  out.logprobs.as<float>()[r] = drawn.logprob;
  DINFER_ASSERT(top <= most_top);
  for (std::size_t i = 0; i < static_cast<std::size_t>(top); ++i) {
    const auto at = r * most_top + i;
    const bool there = i < drawn.top.size();
    out.top_tokens.as<std::int32_t>()[at] = there ? drawn.top[i].token : -1;
    out.top_logprobs.as<float>()[at] = there ? drawn.top[i].logprob : -infinity;
  }
}

class cpu_sampler final : public sampler {
 public:
  cpu_sampler(std::uint32_t slots, std::int64_t vocabulary, thread_pool& pool,
              const kernel_table& kernels)
      : slots_(slots + std::size_t{1}), vocabulary_(vocabulary), pool_(pool), kernels_(kernels) {
    slots_.back().params.temperature = 0;  // padding: no noise is made for it
  }

  void start(std::uint32_t slot, const sampling_params& params,
             std::span<const token_id> stop_tokens) override;
  void observe(std::uint32_t slot, std::span<const token_id> tokens, bool output) override;
  void set_last(std::uint32_t slot, token_id token) override { at(slot).last = token; }
  void commit() override {}
  bool simple(std::span<const sample_row> rows) const override;
  void sample(const sample_args& args) override;
  void fill_last(tensor ids, tensor slots) override;

 private:
  slot_state& at(std::uint32_t slot) {
    DINFER_ASSERT(slot + std::size_t{1} < slots_.size());
    return slots_[slot];
  }
  // The best candidate of each shard is enough for such a row.
  bool plain(const sample_row& row) const {
    const auto& params = slots_[row.slot].params;
    return row.target < 0 && params.logprobs < 0 && (params.greedy() || !params.filtered());
  }
  std::vector<sampled_token> draw(const sample_args& args);
  void count(slot_state& slot, token_id token, bool output);
  candidate draw_shard(const sample_row& row, logit_span shard);
  sampled_token draw_whole(const sample_row& row, std::span<float> x);
  std::vector<sampled_token> exchange_candidates(tensor logits, std::span<const sample_row> rows,
                                                 std::span<const std::int64_t> shard_rows,
                                                 communicator* tp);
  float* exchange_shards(tensor logits, std::int64_t rows, std::span<const std::int64_t> shard_rows,
                         communicator& tp);

  std::vector<slot_state> slots_;
  std::int64_t vocabulary_;
  thread_pool& pool_;
  const kernel_table& kernels_;
  std::vector<float> sent_, received_, whole_;
};

void cpu_sampler::start(std::uint32_t slot, const sampling_params& params,
                        std::span<const token_id> stop_tokens) {
  at(slot) = {params, {stop_tokens.begin(), stop_tokens.end()}, {}, 0};
}

void cpu_sampler::count(slot_state& slot, token_id token, bool output) {
  if (output) ++slot.history.drawn;
  if (!slot.params.penalised()) return;
  auto& seen = slot.history.tokens[token];
  if (output) {
    ++seen.output;
  } else {
    seen.prompt = true;
  }
}

void cpu_sampler::observe(std::uint32_t slot, std::span<const token_id> tokens, bool output) {
  for (const auto token : tokens) count(at(slot), token, output);
}

bool cpu_sampler::simple(std::span<const sample_row> rows) const {
  return std::all_of(rows.begin(), rows.end(), [this](const sample_row& row) {
    DINFER_ASSERT(row.slot < slots_.size());
    const auto& slot = slots_[row.slot];
    return plain(row) && slot.params.logit_biases.empty() && !slot.params.penalised() &&
           (slot.stop_tokens.empty() || slot.history.drawn >= slot.params.min_tokens);
  });
}

candidate cpu_sampler::draw_shard(const sample_row& row, logit_span shard) {
  const auto& slot = slots_[row.slot];
  make_finite(shard.x);
  adjust(shard, slot.params, slot.stop_tokens, slot.history);
  return draw_plain(kernels_, shard, slot.params, row.position);
}

sampled_token cpu_sampler::draw_whole(const sample_row& row, std::span<float> x) {
  const auto& slot = slots_[row.slot];
  const auto& params = slot.params;
  make_finite(x);
  if (row.target >= 0) {  // of the prompt: what the model itself says
    return report(kernels_, x, row.target, params.prompt_logprobs);
  }
  adjust({x, 0}, params, slot.stop_tokens, slot.history);
  sampled_token drawn;
  std::vector<float> before;  // the draw destroys the row
  if (params.logprobs >= 0) before.assign(x.begin(), x.end());
  if (params.greedy() || !params.filtered()) {
    const auto best = draw_plain(kernels_, {x, 0}, params, row.position);
    drawn.token = best.value == -infinity ? 0 : best.token;
  } else {
    drawn.token = draw_filtered(kernels_, x, params, row.position);
  }
  if (params.logprobs >= 0) drawn = report(kernels_, before, drawn.token, params.logprobs);
  return drawn;
}

std::vector<sampled_token> cpu_sampler::exchange_candidates(
    tensor logits, std::span<const sample_row> rows, std::span<const std::int64_t> shard_rows,
    communicator* tp) {
  const auto ranks = shard_rows.size();
  const auto rank = tp == nullptr ? 0 : static_cast<std::size_t>(tp->rank());
  const auto first =
      std::accumulate(shard_rows.begin(), shard_rows.begin() + rank, std::int64_t{0});
  const auto width = static_cast<std::size_t>(logits.columns());
  std::vector<candidate> mine(rows.size()), all(rows.size() * ranks);
  pool_.run(static_cast<std::int64_t>(rows.size()), [&](std::int64_t i, std::uint32_t) {
    const auto r = static_cast<std::size_t>(i);
    const std::span<float> x(logits.as<float>() + r * width, width);
    mine[r] = draw_shard(rows[r], {x, static_cast<token_id>(first)});
  });
  if (ranks > 1) {
    tp->all_gather(view(mine.data(), dtype::i32, rows.size(), 2),
                   view(all.data(), dtype::i32, rows.size() * ranks, 2));
  } else {
    all = mine;
  }
  std::vector<sampled_token> drawn(rows.size());
  for (std::size_t r = 0; r < rows.size(); ++r) {
    candidate best{-infinity, 0};
    for (std::size_t p = 0; p < ranks; ++p) {
      const auto& c = all[p * rows.size() + r];
      if (c.value != -infinity && (best.value == -infinity || better(c, best))) best = c;
    }
    drawn[r].token = best.token;
  }
  return drawn;
}

// Shards may differ in width: they travel padded to the widest.
float* cpu_sampler::exchange_shards(tensor logits, std::int64_t rows,
                                    std::span<const std::int64_t> shard_rows, communicator& tp) {
  const auto ranks = static_cast<std::int64_t>(shard_rows.size());
  const auto widest = *std::max_element(shard_rows.begin(), shard_rows.end());
  const auto own = logits.columns();
  sent_.assign(static_cast<std::size_t>(rows * widest), 0.0F);
  received_.resize(static_cast<std::size_t>(ranks * rows * widest));
  whole_.resize(static_cast<std::size_t>(rows * vocabulary_));
  for (std::int64_t r = 0; r < rows; ++r) {
    std::copy_n(logits.as<float>() + r * own, own, sent_.data() + r * widest);
  }
  tp.all_gather(view(sent_.data(), dtype::f32, rows, widest),
                view(received_.data(), dtype::f32, ranks * rows, widest));
  std::int64_t first = 0;
  for (std::int64_t p = 0; p < ranks; ++p) {
    const auto width = shard_rows[static_cast<std::size_t>(p)];
    for (std::int64_t r = 0; r < rows; ++r) {
      std::copy_n(received_.data() + (p * rows + r) * widest, width,
                  whole_.data() + r * vocabulary_ + first);
    }
    first += width;
  }
  return whole_.data();
}

std::vector<sampled_token> cpu_sampler::draw(const sample_args& args) {
  const auto& rows = args.rows;
  if (std::all_of(rows.begin(), rows.end(), [this](const auto& row) { return plain(row); })) {
    return exchange_candidates(args.logits, rows, args.shard_rows, args.tp);
  }
  const auto count = static_cast<std::int64_t>(rows.size());
  float* whole = args.shard_rows.size() > 1
                     ? exchange_shards(args.logits, count, args.shard_rows, *args.tp)
                     : args.logits.as<float>();
  std::vector<sampled_token> drawn(rows.size());
  pool_.run(count, [&](std::int64_t i, std::uint32_t) {
    const auto r = static_cast<std::size_t>(i);
    const auto width = static_cast<std::size_t>(vocabulary_);
    drawn[r] = draw_whole(rows[r], {whole + r * width, width});
  });
  return drawn;
}

void cpu_sampler::sample(const sample_args& args) {
  const auto& rows = args.rows;
  const auto& logits = args.logits;
  if (rows.empty()) return;
  const auto ranks = args.tp == nullptr ? 1 : static_cast<std::size_t>(args.tp->size());
  const auto rank = args.tp == nullptr ? 0 : static_cast<std::size_t>(args.tp->rank());
  DINFER_ASSERT(logits.type == dtype::f32 && args.shard_rows.size() == ranks);
  DINFER_ASSERT(logits.rows() == static_cast<std::int64_t>(rows.size()) || logits.columns() == 0);
  DINFER_ASSERT(logits.columns() == args.shard_rows[rank]);
  DINFER_ASSERT(std::accumulate(args.shard_rows.begin(), args.shard_rows.end(), std::int64_t{0}) ==
                vocabulary_);
  for (const auto& row : rows) DINFER_ASSERT(row.slot < slots_.size());
  const auto drawn = draw(args);
  for (std::size_t r = 0; r < rows.size(); ++r) {
    auto& slot = slots_[rows[r].slot];
    const bool told = rows[r].target >= 0;
    const auto asked = told ? slot.params.prompt_logprobs : slot.params.logprobs;
    write(args.drawn, r, drawn[r], told || asked >= 0, std::max(asked, 0));
    if (told) continue;
    slot.last = drawn[r].token;
    count(slot, drawn[r].token, true);
  }
}

void cpu_sampler::fill_last(tensor ids, tensor slots) {
  DINFER_ASSERT(ids.elements() == slots.elements());
  for (std::int64_t i = 0; i < ids.elements(); ++i) {
    auto& id = ids.as<std::int32_t>()[i];
    if (id >= 0) continue;
    const auto slot = static_cast<std::uint32_t>(slots.as<std::int32_t>()[i]);
    DINFER_ASSERT(slot < slots_.size());
    id = slots_[slot].last;
  }
}

}  // namespace

std::unique_ptr<sampler> make_cpu_sampler(std::uint32_t slots, std::int64_t vocabulary,
                                          thread_pool& pool, const kernel_table& kernels) {
  DINFER_ASSERT(vocabulary > 0);
  return std::make_unique<cpu_sampler>(slots, vocabulary, pool, kernels);
}

}  // namespace dinfer::kernels::cpu

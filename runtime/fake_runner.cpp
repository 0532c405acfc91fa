// SPDX-License-Identifier: Apache-2.0
// The fake runner: checks a plan, moves the pretended cache, draws by hash.
#include "runtime/fake_runner.hpp"

#include "runtime/fake_cache.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <utility>

namespace dinfer::runtime {

namespace {

token_id draw(std::uint64_t chain, std::uint64_t seed, std::int32_t vocabulary,
              std::span<const token_id> forbidden) {
  std::uint64_t h = chain ^ seed;
  token_id token = 0;
  for (int attempt = 0; attempt < 64; ++attempt) {
    h = fake_chain(h, attempt);
    token = static_cast<token_id>(h % static_cast<std::uint64_t>(vocabulary));
    if (std::ranges::find(forbidden, token) == forbidden.end()) return token;
  }
  for (token_id t = 0; t < vocabulary; ++t)
    if (std::ranges::find(forbidden, t) == forbidden.end()) return t;
  return token;
}

float logprob_after(std::uint64_t chain, token_id token) {
  return -static_cast<float>(fake_chain(~chain, token) % 4096) / 256.0F;
}

std::uint64_t chain_over(std::span<const token_id> tokens) {
  std::uint64_t chain = fake_chain_begin;
  for (const token_id t : tokens) chain = fake_chain(chain, t);
  return chain;
}

// A token with the log-probabilities that were asked for: its own, and `count` in order.
sampled_token describe(std::uint64_t chain, token_id token, std::int32_t count) {
  sampled_token out;
  out.token = token;
  if (count < 0) return out;
  out.logprob = logprob_after(chain, token);
  for (token_id t = 0; t < count; ++t) out.top.push_back({t, logprob_after(chain, t)});
  std::ranges::sort(out.top, std::ranges::greater{}, &token_logprob::logprob);
  return out;
}

class fake_runner final : public runner {
 public:
  explicit fake_runner(fake_options options) : options_(std::move(options)) {}

  result<void> load(const load_progress& progress) override {
    if (progress) progress(1, 1);
    return {};
  }
  result<cache_size> size_cache() override {
    cache_size size{options_.block_size, {}, 1};
    for (const fake_group& g : options_.groups) size.blocks.push_back(g.blocks);
    return size;
  }
  result<std::string> card() override { return std::string("fake"); }
  result<void> connect(std::span<const std::string>, std::chrono::milliseconds) override {
    aborted_ = false;
    broken_ = false;
    return {};
  }
  result<void> start_cache(std::span<const std::uint32_t> blocks, epoch_id epoch) override;
  void execute(const step_plan& plan, const result_sink& sink) override;
  rank_report report() const override {
    rank_report r;
    r.device_description = "a pretended device";
    return r;
  }
  void abort() noexcept override { aborted_ = true; }

 private:
  struct slot_state {
    bool taken = false;
    sequence_start start;
    std::vector<fake_table> tables;  // per group
    std::uint32_t next = 0;          // position that comes next
    bool stepped = false;            // since it was taken
    std::uint32_t drawn_at = 0;      // position of the token drawn last, 0: none
    token_id drawn = 0;
    step_id last_step = 0;
  };
  // One sequence of a plan on its way through the step.
  struct work {
    const sequence_step* step;
    slot_state* slot;
    std::vector<token_id> tokens;
    std::uint64_t before;
    std::vector<std::uint64_t> chains;  // after each token
  };

  result<step_result> run(const step_plan& plan);
  result<void> take_note(const step_plan& plan);
  result<void> start(const sequence_start& s);
  result<work> prepare(const sequence_step& s, step_id step);
  result<void> check_shape(const sequence_step& s, const slot_state& slot) const;
  result<void> store(work& w);
  result<sequence_result> answer(work& w);
  tl::unexpected<error> wrong(slot_id slot, const std::string& what) const {
    return fail(errc::internal, fmt::format("step {}, slot {}: {}", step_ + 1, slot, what));
  }

  fake_options options_;
  std::vector<fake_cache> caches_;  // per group
  std::vector<slot_state> slots_;
  epoch_id epoch_ = 0;
  step_id step_ = 0;
  bool broken_ = false;
  std::atomic<bool> aborted_{false};
};

result<void> fake_runner::start_cache(std::span<const std::uint32_t> blocks, epoch_id epoch) {
  if (blocks.size() != options_.groups.size())
    return fail(errc::mismatch, fmt::format("{} KV groups were announced, the runner has {}",
                                            blocks.size(), options_.groups.size()));
  caches_.clear();
  for (std::size_t g = 0; g < blocks.size(); ++g)
    caches_.emplace_back(options_.block_size, blocks[g], options_.groups[g].window);
  slots_.assign(options_.max_num_seqs, {});
  epoch_ = epoch;
  step_ = 0;
  return {};
}

void fake_runner::execute(const step_plan& plan, const result_sink& sink) {
  if (broken_) return;
  if (options_.on_step) options_.on_step(plan.step, true);
  result<step_result> done = run(plan);
  const auto time = options_.step_time + options_.token_time * plan.token_count();
  if (options_.sleep && time.count() > 0) options_.sleep(time);
  if (aborted_) done = fail(errc::cancelled, "the step was aborted");
  if (options_.fail_step)
    if (auto failure = options_.fail_step(plan)) done = tl::unexpected(std::move(*failure));
  if (done) done->compute_us = static_cast<std::uint32_t>(time.count());
  if (options_.on_step) options_.on_step(plan.step, false);
  broken_ = !done;
  if (broken_ || (options_.layout.last() && options_.layout.tp_rank == 0)) sink(std::move(done));
}

result<step_result> fake_runner::run(const step_plan& plan) {
  DINFER_CHECK(take_note(plan));
  // As on a device: everything is read as it was before the step, but for the step's own tokens.
  std::vector<work> works;
  works.reserve(plan.sequences.size());
  for (const sequence_step& s : plan.sequences) {
    DINFER_TRY(work w, prepare(s, plan.step));
    works.push_back(std::move(w));
  }
  for (work& w : works) DINFER_CHECK(store(w));
  step_result out{plan.epoch, plan.step, {}, 0};
  for (work& w : works) {
    DINFER_TRY(sequence_result r, answer(w));
    if (!r.tokens.empty() || !r.prompt.empty()) out.sequences.push_back(std::move(r));
  }
  step_ = plan.step;
  return out;
}

result<void> fake_runner::take_note(const step_plan& plan) {
  if (caches_.empty()) return fail(errc::internal, "a plan came before start_cache");
  if (plan.epoch != epoch_ || plan.step != step_ + 1)
    return fail(errc::mismatch, fmt::format("epoch {} step {} came, epoch {} step {} was due",
                                            plan.epoch, plan.step, epoch_, step_ + 1));
  if (plan.token_count() > options_.max_num_batched_tokens)
    return fail(errc::internal, fmt::format("step {} has {} tokens, more than {}", plan.step,
                                            plan.token_count(), options_.max_num_batched_tokens));
  for (const slot_id slot : plan.releases) {
    if (slot >= slots_.size() || !slots_[slot].taken) return wrong(slot, "released but not taken");
    for (std::size_t g = 0; g < caches_.size(); ++g) caches_[g].release(slots_[slot].tables[g]);
    slots_[slot] = {};
  }
  for (const sequence_start& s : plan.starts) DINFER_CHECK(start(s));
  for (const block_append& b : plan.blocks) {
    if (b.slot >= slots_.size() || !slots_[b.slot].taken)
      return wrong(b.slot, "given blocks but not taken");
    if (b.group >= caches_.size()) return wrong(b.slot, "given blocks of an unknown group");
    DINFER_CHECK(caches_[b.group].append(slots_[b.slot].tables[b.group], b.blocks));
  }
  return {};
}

result<void> fake_runner::start(const sequence_start& s) {
  if (s.slot >= slots_.size() || slots_[s.slot].taken)
    return wrong(s.slot, "taken, but it is not free");
  if (s.prompt_tokens == 0) return wrong(s.slot, "a sequence without a prompt");
  slot_state& slot = slots_[s.slot];
  slot.taken = true;
  slot.start = s;
  slot.tables.assign(caches_.size(), fake_table{s.slot, {}, 0});
  return {};
}

result<void> fake_runner::check_shape(const sequence_step& s, const slot_state& slot) const {
  if (slot.last_step == step_ + 1) return wrong(s.slot, "twice in one plan");
  if (s.query_count == 0) return wrong(s.slot, "no queries");
  if (slot.stepped && s.first_position != slot.next)
    return wrong(s.slot, fmt::format("position {} came, {} was due", s.first_position, slot.next));
  const std::uint64_t end = std::uint64_t{s.first_position} + s.query_count;
  if (options_.max_model_len > 0 && end >= options_.max_model_len)
    return wrong(s.slot, "a query from which no further token may be drawn");
  if (s.tokens.empty()
          ? s.query_count != 1 || slot.drawn_at == 0 || slot.drawn_at != s.first_position
          : s.tokens.size() != s.query_count)
    return wrong(s.slot, "tokens do not match the queries");
  if (!s.tokens.empty() && slot.drawn_at == s.first_position && slot.drawn_at != 0 &&
      s.tokens[0] != slot.drawn)
    return wrong(s.slot, "another token than the one that was drawn");
  if (s.logit_rows > s.query_count || s.targets.size() + s.sample != s.logit_rows)
    return wrong(s.slot, "logit rows do not match targets and draw");
  if (s.sample && end < slot.start.prompt_tokens)
    return wrong(s.slot, "a draw in the middle of the prompt");
  if (slot.start.sampling.penalised() && !slot.stepped &&
      slot.start.history.size() != s.first_position)
    return wrong(s.slot, "the history of a penalised sequence is not what it does not compute");
  return {};
}

result<fake_runner::work> fake_runner::prepare(const sequence_step& s, step_id step) {
  if (s.slot >= slots_.size() || !slots_[s.slot].taken)
    return wrong(s.slot, "a step, but not taken");
  slot_state& slot = slots_[s.slot];
  DINFER_CHECK(check_shape(s, slot));
  work w{&s, &slot, s.tokens, 0, {}};
  if (w.tokens.empty()) w.tokens = {slot.drawn};
  for (std::size_t g = 0; g < caches_.size(); ++g) {
    DINFER_TRY(const std::uint64_t before, caches_[g].before(slot.tables[g], s.first_position));
    if (g > 0 && before != w.before) return wrong(s.slot, "KV groups hold different prefixes");
    w.before = before;
  }
  if (!slot.stepped && !slot.start.history.empty() && chain_over(slot.start.history) != w.before)
    return wrong(s.slot, "the history is not what the cache holds");
  slot.last_step = step;
  slot.stepped = true;
  return w;
}

result<void> fake_runner::store(work& w) {
  std::uint64_t chain = w.before;
  std::uint32_t position = w.step->first_position;
  for (const token_id token : w.tokens) {
    const std::uint64_t next = fake_chain(chain, token);
    for (std::size_t g = 0; g < caches_.size(); ++g)
      DINFER_CHECK(caches_[g].write(w.slot->tables[g], position, chain, next));
    w.chains.push_back(chain = next);
    ++position;
  }
  w.slot->next = position;
  return {};
}

result<sequence_result> fake_runner::answer(work& w) {
  const sequence_step& s = *w.step;
  slot_state& slot = *w.slot;
  const sampling_params& sampling = slot.start.sampling;
  for (std::size_t g = 0; g < caches_.size(); ++g) {
    DINFER_CHECK(caches_[g].check_visible(slot.tables[g], s.first_position));
    DINFER_CHECK(caches_[g].check_visible(slot.tables[g], slot.next - 1));
    caches_[g].slide(slot.tables[g], slot.next);
  }
  sequence_result out;
  out.slot = s.slot;
  const std::size_t first_row = w.chains.size() - s.logit_rows;
  for (std::size_t i = 0; i < s.targets.size(); ++i) {
    const std::size_t row = first_row + i;
    if (row + 1 < w.tokens.size() && w.tokens[row + 1] != s.targets[i])
      return wrong(s.slot, "a target is not the prompt token that follows");
    out.prompt.push_back(describe(w.chains[row], s.targets[i], sampling.prompt_logprobs));
  }
  if (!s.sample) return out;
  const bool early = slot.next - slot.start.prompt_tokens < sampling.min_tokens;
  const std::span<const token_id> forbidden =
      early ? std::span<const token_id>(slot.start.stop_tokens) : std::span<const token_id>();
  slot.drawn_at = slot.next;
  slot.drawn = draw(w.chains.back(), fake_seed(options_.seed, sampling.seed), options_.vocabulary,
                    forbidden);
  out.tokens.push_back(describe(w.chains.back(), slot.drawn, sampling.logprobs));
  return out;
}

}  // namespace

std::unique_ptr<runner> make_fake_runner(fake_options options) {
  return std::make_unique<fake_runner>(std::move(options));
}

std::uint64_t fake_seed(std::uint64_t options_seed, std::uint64_t request_seed) {
  return fake_chain(options_seed, 0) ^ request_seed;
}

token_id fake_next_token(std::span<const token_id> tokens, std::uint64_t seed,
                         std::int32_t vocabulary, std::span<const token_id> forbidden) {
  return draw(chain_over(tokens), seed, vocabulary, forbidden);
}

float fake_logprob(std::span<const token_id> tokens, token_id token) {
  return logprob_after(chain_over(tokens), token);
}

}  // namespace dinfer::runtime

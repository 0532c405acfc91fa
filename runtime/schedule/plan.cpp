// SPDX-License-Identifier: Apache-2.0
// What a step computes. Decodes take their part of the token budget first, prefill chunks share the
// rest; then all of them take their blocks in order of rank, so whoever ranks before may take the
// blocks of whoever ranks after.
//
// With several stages, a plan takes about running / stages of the decoding sequences, and those
// that the last stages - 1 plans did not take: then every stage has a plan to work on and none
// waits for a token that is still on its way. When only such sequences are left, the one planned
// longest ago goes, so that a lone sequence always has its next step queued.
#include "runtime/schedule/scheduler_impl.hpp"

#include <algorithm>
#include <utility>

namespace dinfer::runtime {

namespace {

constexpr std::uint32_t ceil_div(std::uint32_t a, std::uint32_t b) { return (a + b - 1) / b; }

// The least chunk that a prompt is cut into to keep several stages busy: smaller ones cost more
// than they hide.
constexpr std::uint32_t least_shared_chunk = 128;

}  // namespace

std::optional<step_plan> scheduler::impl::plan() {
  if (in_flight.size() >= config.max_in_flight) return std::nullopt;
  step_plan out;
  out.epoch = config.epoch;
  out.step = last_step + 1;
  out.releases = std::exchange(releases, {});
  free_slots.insert(free_slots.end(), out.releases.begin(), out.releases.end());
  current = {out.step, false, {}};
  preempted = false;

  compose(out, false);
  // Nobody chosen could take a block, and no result will free one: let every sequence try, the
  // first of which takes what it needs.
  if (current.entries.empty() && in_flight.empty()) compose(out, true);
  if (current.entries.empty() && out.releases.empty() && out.starts.empty()) return std::nullopt;

  // Only now, so that no prefix is found in the plan that computes it.
  for (const flight_entry& e : current.entries)
    blocks.commit(e.seq->table,
                  std::span(e.seq->tokens).first(std::min(e.seq->planned, e.seq->known())));
  const auto decode = [](const sequence_step& s) { return s.query_count == 1; };
  if (!std::ranges::is_partitioned(out.sequences, decode))
    std::stable_partition(out.sequences.begin(), out.sequences.end(), decode);
  last_step = out.step;
  in_flight.push_back(std::exchange(current, {}));
  return out;
}

void scheduler::impl::compose(step_plan& out, bool all) {
  const std::uint32_t decodes = choose_decodes(all);
  const std::uint32_t most = decodes == 0
                                 ? config.max_num_batched_tokens
                                 : std::min(std::max(config.max_num_mixed_tokens, decodes + 1),
                                            config.max_num_batched_tokens);
  std::uint32_t prefill_budget = prefill_share(most - decodes);
  plan_running(out, prefill_budget);
  if (!preempted) admit(out, prefill_budget);
}

// Marks the sequences that decode in this plan; returns how many.
std::uint32_t scheduler::impl::choose_decodes(bool all) {
  candidates.clear();
  std::uint32_t decoding = 0;
  std::uint32_t early = 0;  // candidates that the last plans took
  for (const sequence_ptr& seq : running) {
    const bool ready = seq->remaining() == 1;
    if (!ready && seq->draws == 0) continue;
    ++decoding;
    if (!ready) continue;
    early += seq->draws > 0 && seq->last_step + config.stages > current.step;
    candidates.push_back(seq.get());
  }
  const auto count = static_cast<std::uint32_t>(candidates.size());
  std::uint32_t quota = all ? count : decode_quota(count - early, decoding);
  std::uint32_t most = config.max_num_batched_tokens;
  // A prefill that ranks first is never shut out by decodes.
  if (!running.empty() && running.front()->remaining() > 1) --most;
  quota = std::min(quota, most);

  if (quota < count) {  // those planned longest ago; ties by rank, which `running` is sorted by
    const auto older = [](const sequence* a, const sequence* b) {
      return a->last_step != b->last_step ? a->last_step < b->last_step : ranks_before(*a, *b);
    };
    std::nth_element(candidates.begin(), candidates.begin() + quota, candidates.end(), older);
    candidates.resize(quota);
  }
  for (sequence* seq : candidates) seq->chosen = current.step;
  return quota;
}

// `eligible` sequences wait on no recent plan; `decoding` counts all that decode.
std::uint32_t scheduler::impl::decode_quota(std::uint32_t eligible, std::uint32_t decoding) const {
  const std::uint32_t share = ceil_div(decoding, config.stages);
  if (eligible == 0) return share;
  const auto recent = std::min<std::size_t>(config.stages - 1, in_flight.size());
  const auto plans = static_cast<std::uint32_t>(
      std::count_if(in_flight.end() - static_cast<std::ptrdiff_t>(recent), in_flight.end(),
                    [](const flight& f) { return f.decodes; }));
  return std::min(share, ceil_div(eligible, config.stages - plans));
}

// With several stages a prompt is cut so that its chunks can lie on all of them.
std::uint32_t scheduler::impl::prefill_share(std::uint32_t budget) const {
  if (config.stages == 1) return budget;
  std::uint64_t open = waiting_tokens;
  for (const sequence_ptr& seq : running) open += seq->remaining();
  const std::uint64_t share = (open + config.stages - 1) / config.stages;
  return static_cast<std::uint32_t>(
      std::min<std::uint64_t>(budget, std::max<std::uint64_t>(share, least_shared_chunk)));
}

void scheduler::impl::plan_running(step_plan& out, std::uint32_t& prefill_budget) {
  // make_room() shortens `running` from its end, and never as far as the sequence it is called for.
  for (std::size_t i = 0; i < running.size(); ++i) {
    const sequence_ptr& seq = running[i];
    const std::uint32_t open = seq->remaining();
    const bool decodes = seq->chosen == current.step && open == 1;
    std::uint32_t count = decodes ? 1 : open > 1 ? std::min(open, prefill_budget) : 0;
    if (count == 0) continue;
    count = std::min(count, make_room(out, *seq));
    if (count == 0) continue;
    plan_queries(out, seq, count);
    if (decodes) current.decodes = true;
    else prefill_budget -= count;
  }
}

// How many queries of `seq` the cache can take, at least one if that is possible by preempting
// sequences that rank after it. Where it is not, the sequence waits and keeps what it has: others
// take it when they need it.
std::uint32_t scheduler::impl::make_room(step_plan& out, sequence& seq) {
  blocks.slide(seq.table, seq.planned);
  while (blocks.room(seq.table) <= seq.planned) {
    if (running.back().get() == &seq) return 0;
    preempt_last(out);
  }
  return static_cast<std::uint32_t>(
      std::min<std::uint64_t>(blocks.room(seq.table) - seq.planned, config.max_num_batched_tokens));
}

void scheduler::impl::preempt_last(step_plan& out) {
  const sequence_ptr victim = running.back();
  DINFER_ASSERT(victim->last_step != current.step);
  running.pop_back();
  leave_running(*victim);
  out.releases.push_back(victim->slot);
  free_slots.push_back(victim->slot);
  enqueue(victim);
  preempted = true;
  ++totals.preemptions;
}

void scheduler::impl::plan_queries(step_plan& out, const sequence_ptr& seq, std::uint32_t count) {
  const std::uint32_t first = seq->planned;
  const std::uint32_t end = first + count;
  blocks.cover(seq->table, end);
  send_blocks(out, *seq);

  sequence_step& step = out.sequences.emplace_back();
  step.slot = seq->slot;
  step.first_position = first;
  step.query_count = count;
  const auto token = [&seq](std::uint32_t i) { return seq->tokens.begin() + i; };
  if (seq->draws == 0) step.tokens.assign(token(first), token(end));
  step.sample = end == seq->known() + seq->draws;
  // The row of a position tells the log-probability of the prompt token after it. A sequence that
  // is computed again has had some of them.
  const std::uint32_t from = std::max(first, seq->rows_planned);
  const std::uint32_t to = std::min(end, seq->prompt_tokens - 1);
  if (seq->wants_prompt_rows() && from < to) {
    step.targets.assign(token(from + 1), token(to + 1));
    seq->rows_planned = to;
  }
  step.logit_rows = static_cast<std::uint32_t>(step.targets.size()) + (step.sample ? 1 : 0);

  current.entries.push_back(
      {seq, seq->slot, end, static_cast<std::uint32_t>(step.targets.size()), step.sample});
  seq->planned = end;
  seq->draws += step.sample;
  ++seq->steps;
  seq->last_step = current.step;
}

void scheduler::impl::send_blocks(step_plan& out, sequence& seq) {
  for (std::uint32_t g = 0; g < blocks.groups(); ++g) {
    const auto& table = seq.table.groups[g];
    if (seq.sent[g] == table.size()) continue;
    out.blocks.push_back({seq.slot, g, {table.begin() + seq.sent[g], table.end()}});
    seq.sent[g] = static_cast<std::uint32_t>(table.size());
  }
}

}  // namespace dinfer::runtime

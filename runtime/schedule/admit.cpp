// SPDX-License-Identifier: Apache-2.0
// Who leaves the queue. In order of rank, and only with blocks for all its known tokens on top of
// what running prefills still need and a small reserve for decodes: a sequence that is let in too
// early is preempted soon and its work done twice.
#include "runtime/schedule/scheduler_impl.hpp"

#include <algorithm>

namespace dinfer::runtime {

namespace {

constexpr step_id retry_steps = 8;

std::uint32_t held(const block_table& table, std::uint32_t group) {
  return static_cast<std::uint32_t>(table.groups[group].size()) - table.live[group];
}

}  // namespace

void scheduler::impl::admit(step_plan& out, std::uint32_t& prefill_budget) {
  while (!waiting.empty() && prefill_budget > 0 && !free_slots.empty()) {
    const sequence_ptr seq = *waiting.begin();
    // Preempted a moment ago: its last tokens are still to come.
    if (seq->steps > 0 || !worth_a_look(*seq)) return;
    // The last query is always computed: its logits are not cached.
    const std::uint32_t lookup = std::min(seq->known(), seq->compute_limit()) - 1;
    const std::uint32_t found =
        blocks.open(seq->table, std::span(seq->tokens).first(lookup), seq->cache_salt, seq->adapter,
                    !seq->wants_prompt_rows());
    if (!running.empty() && !fits(*seq)) {
      blocks.close(seq->table);
      return;
    }
    seq->planned = found;
    start(out, seq);
    const std::uint32_t count = std::min({seq->remaining(), prefill_budget, make_room(out, *seq)});
    if (count == 0) return;
    plan_queries(out, seq, count);
    prefill_budget -= count;
  }
}

bool scheduler::impl::worth_a_look(const sequence& seq) const {
  return running.empty() || current.step >= seq.retry_step ||
         blocks.available(seq.retry_group) >= seq.retry_blocks;
}

bool scheduler::impl::fits(sequence& seq) {
  for (std::uint32_t g = 0; g < blocks.groups(); ++g) {
    const std::uint64_t need = blocks.blocks_for(g, seq.known()) -
                               std::min(held(seq.table, g), blocks.blocks_for(g, seq.known()));
    const std::uint64_t reserve = std::min<std::uint64_t>(running.size(), 1 + blocks.total(g) / 50);
    const std::uint64_t wanted = need + promised(g) + reserve;
    if (wanted <= blocks.available(g)) continue;
    seq.retry_group = g;
    seq.retry_blocks = wanted;
    seq.retry_step = current.step + retry_steps;
    return false;
  }
  return true;
}

// Blocks that running prefills will take for tokens that are known already.
std::uint64_t scheduler::impl::promised(std::uint32_t group) const {
  std::uint64_t sum = 0;
  for (const sequence_ptr& seq : running) {
    if (seq->remaining() <= 1) continue;
    const std::uint32_t in_all = blocks.blocks_for(group, seq->known());
    sum += in_all - std::min(in_all, held(seq->table, group));
  }
  return sum;
}

void scheduler::impl::start(step_plan& out, const sequence_ptr& seq) {
  dequeue(seq);
  seq->phase = sequence_phase::running;
  seq->slot = free_slots.back();
  free_slots.pop_back();
  seq->sent.assign(blocks.groups(), 0);
  seq->rows_planned = seq->prompt_rows;
  running.insert(std::upper_bound(running.begin(), running.end(), seq, by_rank{}), seq);

  if (!seq->admitted_before) {
    seq->admitted_before = true;
    seq->cached_tokens = seq->planned;
    totals.prompt_tokens += seq->prompt_tokens;
    if (config.prefix_caching && !seq->wants_prompt_rows()) {
      totals.prefix_queries += seq->prompt_tokens;
      totals.prefix_hits += seq->planned;
    }
  }
  sequence_start& s = out.starts.emplace_back();
  s.slot = seq->slot;
  s.request = seq->id;
  s.sampling = seq->sampling;
  s.prompt_tokens = seq->prompt_tokens;
  s.adapter = seq->adapter;
  if (seq->sampling.min_tokens > 0) s.stop_tokens = seq->stop_tokens;
  if (seq->sampling.penalised())
    s.history.assign(seq->tokens.begin(), seq->tokens.begin() + seq->planned);
}

}  // namespace dinfer::runtime

// SPDX-License-Identifier: Apache-2.0
// Requests come and go: admission to the queue, cancellation, interruption, counts.
#include "runtime/schedule/scheduler.hpp"

#include "runtime/schedule/scheduler_impl.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <limits>
#include <utility>

namespace dinfer::runtime {

namespace {

std::vector<slot_id> all_slots(std::uint32_t count) {
  std::vector<slot_id> slots(count);
  for (std::uint32_t i = 0; i < count; ++i) slots[i] = count - 1 - i;  // slot 0 is taken first
  return slots;
}

block_manager make_blocks(const scheduler_config& c) {
  return block_manager(c.block_size, c.groups, c.prefix_caching);
}

sequence_ptr make_sequence(generate_request request, const scheduler_config& config) {
  auto seq = std::make_shared<sequence>();
  seq->id = request.id;
  seq->priority = request.priority;
  seq->cache_salt = std::move(request.cache_salt);
  seq->adapter = request.adapter;
  seq->prompt_tokens = static_cast<std::uint32_t>(request.prompt.size());
  seq->tokens = std::move(request.prompt);
  seq->sampling = std::move(request.sampling);
  seq->stop_tokens = seq->sampling.stop_token_ids;
  if (!seq->sampling.ignore_eos)
    seq->stop_tokens.insert(seq->stop_tokens.end(), config.eos_tokens.begin(),
                            config.eos_tokens.end());
  return seq;
}

}  // namespace

scheduler::impl::impl(scheduler_config c)
    : config(std::move(c)),
      blocks(make_blocks(config)),
      free_slots(all_slots(config.max_num_seqs)),
      result_of_slot(config.max_num_seqs, nullptr) {
  DINFER_ASSERT(config.max_num_seqs > 0 && config.max_num_batched_tokens > 0 &&
                config.max_num_mixed_tokens > 0);
  DINFER_ASSERT(config.stages > 0 && config.max_in_flight > 0);
}

// Tokens that the request may reach. The last one is never computed, so it needs no block.
std::uint64_t scheduler::impl::length_limit(const generate_request& request) const {
  std::uint64_t limit = std::uint64_t{request.prompt.size()} + request.sampling.max_tokens;
  if (config.max_model_len > 0) limit = std::min<std::uint64_t>(limit, config.max_model_len);
  return std::min(
      {limit, blocks.capacity() + 1, std::uint64_t{std::numeric_limits<std::uint32_t>::max()}});
}

result<void> scheduler::impl::add(generate_request request) {
  const std::uint64_t prompt = request.prompt.size();
  if (prompt == 0) return fail(errc::invalid_argument, "the prompt has no tokens", "prompt");
  if (config.max_model_len > 0 && prompt + 1 > config.max_model_len)
    return fail(errc::invalid_argument,
                fmt::format("the prompt has {} tokens; with one token to generate at most {} fit "
                            "the model's context of {}",
                            prompt, config.max_model_len - 1, config.max_model_len),
                "prompt");
  if (prompt > blocks.capacity())
    return fail(
        errc::invalid_argument,
        fmt::format("the prompt has {} tokens; the KV cache holds {}", prompt, blocks.capacity()),
        "prompt");
  if (by_id.contains(request.id))
    return fail(errc::invalid_argument, fmt::format("request {} exists", request.id), "id");
  if (waiting.size() >= config.max_queued_requests)
    return fail(errc::queue_full, fmt::format("{} requests wait already", waiting.size()));
  // A prompt larger than the limit may still wait alone.
  if (!waiting.empty() && waiting_tokens + prompt > config.max_queued_tokens)
    return fail(errc::queue_full, fmt::format("{} prompt tokens wait already", waiting_tokens));

  const std::uint64_t limit = length_limit(request);
  sequence_ptr seq = make_sequence(std::move(request), config);
  seq->arrival = arrivals++;
  seq->length_limit = static_cast<std::uint32_t>(limit);
  by_id.emplace(seq->id, seq);
  enqueue(seq);
  if (seq->compute_limit() == 0) {  // one prompt token and nothing to generate
    finish(seq, finish_reason::length);
    events.push_back({seq->id, {}, {}, finish_reason::length, {}, seq->used(), {}});
  }
  return {};
}

void scheduler::impl::cancel(request_id id, finish_reason reason) {
  const auto it = by_id.find(id);
  if (it == by_id.end()) return;
  const sequence_ptr seq = it->second;
  if (reason == finish_reason::none) reason = finish_reason::abort;
  finish(seq, reason);
  events.push_back({id, {}, {}, reason, {}, seq->used(), {}});
}

void scheduler::impl::enqueue(const sequence_ptr& seq) {
  seq->phase = sequence_phase::waiting;
  waiting.insert(seq);
  waiting_tokens += seq->known();
}

void scheduler::impl::dequeue(const sequence_ptr& seq) {
  const auto erased = waiting.erase(seq);
  DINFER_ASSERT(erased == 1);
  waiting_tokens -= seq->known();
}

void scheduler::impl::leave_running(sequence& seq) {
  // What is computed stays findable: a preempted sequence may meet its own blocks again.
  const auto computed = std::min(seq.planned, seq.known());
  blocks.commit(seq.table, std::span(seq.tokens).first(computed));
  blocks.close(seq.table);
  seq.planned = 0;
  seq.sent.clear();
}

void scheduler::impl::finish(const sequence_ptr& seq, finish_reason reason) {
  if (seq->phase == sequence_phase::waiting) {
    dequeue(seq);
  } else {
    const auto it = std::lower_bound(running.begin(), running.end(), seq, by_rank{});
    DINFER_ASSERT(it != running.end() && *it == seq);
    leave_running(*seq);
    releases.push_back(seq->slot);
    running.erase(it);
  }
  seq->phase = sequence_phase::finished;
  totals.finished_stop += reason == finish_reason::stop;
  totals.finished_length += reason == finish_reason::length;
  totals.finished_abort += reason == finish_reason::abort;
  totals.finished_error += reason == finish_reason::error;
  by_id.erase(seq->id);
}

void scheduler::impl::interrupt(const std::string& why) {
  in_flight.clear();
  blocks = make_blocks(config);
  for (const sequence_ptr& seq : running) {
    seq->table = {};
    seq->sent.clear();
    seq->planned = 0;
    enqueue(seq);
  }
  running.clear();
  releases.clear();
  std::vector<sequence_ptr> suspects;
  for (const sequence_ptr& seq : waiting) {
    if (seq->steps > 0 && std::exchange(seq->interrupted, true)) suspects.push_back(seq);
    seq->draws = seq->steps = 0;
    seq->last_step = seq->chosen = seq->retry_step = 0;
  }
  free_slots = all_slots(config.max_num_seqs);
  for (const sequence_ptr& seq : suspects) {
    finish(seq, finish_reason::error);
    events.push_back({seq->id, {}, {}, finish_reason::error, {}, seq->used(), why});
  }
}

void scheduler::impl::restart(epoch_id epoch, std::span<const std::uint32_t> block_counts) {
  DINFER_ASSERT(in_flight.empty() && running.empty());
  DINFER_ASSERT(block_counts.size() == config.groups.size());
  config.epoch = epoch;
  last_step = 0;
  for (std::size_t g = 0; g < block_counts.size(); ++g) config.groups[g].blocks = block_counts[g];
  blocks = make_blocks(config);
  const auto most = blocks.capacity() + 1;
  for (const sequence_ptr& seq : std::vector(waiting.begin(), waiting.end())) {
    if (seq->length_limit <= most) continue;
    seq->length_limit = static_cast<std::uint32_t>(most);
    if (seq->known() <= most) continue;
    finish(seq, finish_reason::length);  // the cache has become too small for it
    events.push_back({seq->id, {}, {}, finish_reason::length, {}, seq->used(), {}});
  }
}

scheduler::scheduler(scheduler_config config) : impl_(std::make_unique<impl>(std::move(config))) {}
scheduler::~scheduler() = default;
scheduler::scheduler(scheduler&&) noexcept = default;
scheduler& scheduler::operator=(scheduler&&) noexcept = default;

result<void> scheduler::add(generate_request request) { return impl_->add(std::move(request)); }
void scheduler::cancel(request_id id, finish_reason reason) { impl_->cancel(id, reason); }
std::optional<step_plan> scheduler::plan() { return impl_->plan(); }
result<std::vector<token_event>> scheduler::apply(const step_result& result) {
  return impl_->apply(result);
}
std::vector<token_event> scheduler::take_events() { return std::exchange(impl_->events, {}); }
void scheduler::interrupt(const std::string& why) { impl_->interrupt(why); }
void scheduler::restart(epoch_id epoch, std::span<const std::uint32_t> blocks) {
  impl_->restart(epoch, blocks);
}
const scheduler_config& scheduler::config() const noexcept { return impl_->config; }

scheduler_stats scheduler::stats() const {
  scheduler_stats s = impl_->totals;
  s.running = static_cast<std::uint32_t>(impl_->running.size());
  s.waiting = static_cast<std::uint32_t>(impl_->waiting.size());
  s.in_flight = static_cast<std::uint32_t>(impl_->in_flight.size());
  const block_manager& b = impl_->blocks;
  std::uint32_t tightest = 0;
  const auto free_part = [&b](std::uint32_t g) {
    return static_cast<double>(b.available(g)) / std::max(1U, b.total(g));
  };
  for (std::uint32_t g = 1; g < b.groups(); ++g)
    if (free_part(g) < free_part(tightest)) tightest = g;
  s.blocks_total = b.total(tightest);
  s.blocks_used = b.total(tightest) - b.available(tightest);
  s.blocks_cached = b.cached(tightest);
  return s;
}

void scheduler::check_integrity() const {
  const impl& s = *impl_;
  DINFER_ASSERT(std::is_sorted(s.running.begin(), s.running.end(), by_rank{}));
  DINFER_ASSERT(s.by_id.size() == s.running.size() + s.waiting.size());
  DINFER_ASSERT(s.in_flight.size() <= s.config.max_in_flight);
  std::vector<bool> taken(s.config.max_num_seqs, false);
  const auto take = [&taken](slot_id slot) {
    DINFER_ASSERT(!taken.at(slot));
    taken[slot] = true;
  };
  for (const slot_id slot : s.free_slots) take(slot);
  for (const slot_id slot : s.releases) take(slot);

  std::unordered_map<const sequence*, std::pair<std::uint32_t, std::uint32_t>> flights;
  for (const flight& f : s.in_flight)
    for (const flight_entry& e : f.entries) {
      auto& [steps, draws] = flights[e.seq.get()];
      ++steps;
      draws += e.sample;
    }
  std::vector<const block_table*> tables;
  for (const sequence_ptr& seq : s.running) {
    take(seq->slot);
    tables.push_back(&seq->table);
    DINFER_ASSERT(seq->phase == sequence_phase::running && seq->draws <= 2);
    DINFER_ASSERT(seq->planned < seq->known() + seq->draws);
    DINFER_ASSERT(seq->planned <= seq->compute_limit());
    DINFER_ASSERT(flights[seq.get()] == std::pair(seq->steps, seq->draws));
    for (const auto& group : seq->table.groups)
      DINFER_ASSERT(group.size() * s.config.block_size >= seq->planned);
  }
  DINFER_ASSERT(std::ranges::find(taken, false) == taken.end());
  std::uint64_t tokens = 0;
  for (const sequence_ptr& seq : s.waiting) {
    tokens += seq->known();
    DINFER_ASSERT(seq->phase == sequence_phase::waiting && seq->planned == 0);
    DINFER_ASSERT(flights[seq.get()] == std::pair(seq->steps, seq->draws));
  }
  DINFER_ASSERT(tokens == s.waiting_tokens);
  s.blocks.check_integrity(tables);
}

}  // namespace dinfer::runtime

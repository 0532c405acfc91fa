// SPDX-License-Identifier: Apache-2.0
// What a step gave: tokens are appended, ends are found, events are made. A result is checked as a
// whole before anything changes.
#include "runtime/schedule/scheduler_impl.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

namespace dinfer::runtime {

// Fills result_of_slot. Every entry of the plan must have what it asked for, and nothing else may
// be there.
result<void> scheduler::impl::check_result(const step_result& result) {
  const flight& f = in_flight.front();
  const auto wrong = [&](slot_id slot) {
    return fail(errc::mismatch,
                fmt::format("the result of step {} does not answer its plan at slot "
                            "{}",
                            result.step, slot));
  };
  for (const sequence_result& r : result.sequences) {
    if (r.slot >= config.max_num_seqs || result_of_slot[r.slot] != nullptr) return wrong(r.slot);
    result_of_slot[r.slot] = &r;
  }
  std::size_t answered = 0;
  for (const flight_entry& e : f.entries) {
    const sequence_result* got = result_of_slot[e.slot];
    answered += got != nullptr;
    const std::size_t tokens = got == nullptr ? 0 : got->tokens.size();
    const std::size_t prompt = got == nullptr ? 0 : got->prompt.size();
    if (tokens != (e.sample ? 1U : 0U) || prompt != e.targets) return wrong(e.slot);
    if (tokens == 1 && got->tokens[0].token < 0) return wrong(e.slot);
  }
  if (answered != result.sequences.size())
    return fail(
        errc::mismatch,
        fmt::format("the result of step {} holds slots that its plan did not", result.step));
  return {};
}

result<std::vector<token_event>> scheduler::impl::apply(const step_result& result) {
  if (in_flight.empty() || result.epoch != config.epoch || result.step != in_flight.front().step)
    return fail(
        errc::mismatch,
        fmt::format("a result of epoch {} step {} came, epoch {} step {} was due", result.epoch,
                    result.step, config.epoch, in_flight.empty() ? 0 : in_flight.front().step));
  std::ranges::fill(result_of_slot, nullptr);
  DINFER_CHECK(check_result(result));

  const flight done = std::move(in_flight.front());
  in_flight.pop_front();
  ++totals.steps;
  std::vector<token_event> out;
  out.reserve(done.entries.size());
  for (const flight_entry& e : done.entries)
    if (auto event = settle(e, result_of_slot[e.slot])) out.push_back(std::move(*event));
  return out;
}

std::optional<token_event> scheduler::impl::settle(const flight_entry& entry,
                                                   const sequence_result* got) {
  sequence& seq = *entry.seq;
  --seq.steps;
  seq.draws -= entry.sample;
  if (seq.phase == sequence_phase::finished) return std::nullopt;  // drawn after its end

  token_event event;
  event.id = seq.id;
  if (got != nullptr) event.prompt_logprobs = got->prompt;
  seq.prompt_rows += entry.targets;
  if (entry.sample) {
    event.tokens = got->tokens;
    seq.tokens.push_back(got->tokens[0].token);
    seq.interrupted = false;
    waiting_tokens += seq.phase == sequence_phase::waiting;
    ++totals.generation_tokens;
  }
  end_if_done(entry.seq, entry, event);
  event.used = seq.used();
  if (event.tokens.empty() && event.prompt_logprobs.empty() && event.finish == finish_reason::none)
    return std::nullopt;
  return event;
}

void scheduler::impl::end_if_done(const sequence_ptr& seq, const flight_entry& entry,
                                  token_event& event) {
  if (entry.sample && seq->stops_at(seq->tokens.back())) {
    event.finish = finish_reason::stop;
    event.stop_token = seq->tokens.back();
  } else if (seq->known() == seq->length_limit && entry.end == seq->compute_limit()) {
    event.finish = finish_reason::length;
  }
  if (event.finish != finish_reason::none) finish(seq, event.finish);
}

}  // namespace dinfer::runtime

// SPDX-License-Identifier: Apache-2.0
// The scheduler's inside, shared by its own files: scheduler.cpp (requests come and go), plan.cpp
// (what a step computes), apply.cpp (what it gave). Include it nowhere else.
//
// Invariants, checked by check_integrity():
// - `running` is sorted by rank; a victim of preemption is always the last, so a sequence is
// planned
//   only after all that could take its blocks, and a planned one is never preempted in that plan.
// - Blocks and slots are given up at once, and taken only in plan(): every step that could still
//   touch them was planned before.
// - A waiting sequence is admitted only when no plan in flight holds it.
#pragma once

#include "runtime/kv/block_manager.hpp"
#include "runtime/schedule/scheduler.hpp"
#include "runtime/schedule/sequence.hpp"

#include <deque>
#include <memory>
#include <set>
#include <unordered_map>
#include <vector>

namespace dinfer::runtime {

using sequence_ptr = std::shared_ptr<sequence>;

struct by_rank {
  bool operator()(const sequence_ptr& a, const sequence_ptr& b) const noexcept {
    return ranks_before(*a, *b);
  }
};

// What a plan in flight asked for one sequence.
struct flight_entry {
  sequence_ptr seq;
  slot_id slot = 0;
  std::uint32_t end = 0;      // positions computed once it is done
  std::uint32_t targets = 0;  // prompt log-probabilities it will give
  bool sample = false;
};

struct flight {
  step_id step = 0;
  bool decodes = false;
  std::vector<flight_entry> entries;
};

struct scheduler::impl {
  explicit impl(scheduler_config c);

  // scheduler.cpp
  result<void> add(generate_request request);
  void cancel(request_id id, finish_reason reason);
  void interrupt(const std::string& why);
  void restart(epoch_id epoch, std::span<const std::uint32_t> block_counts);
  void finish(const sequence_ptr& seq, finish_reason reason);  // from any phase
  void leave_running(sequence& seq);  // gives up its blocks; slot and place are for the caller
  void enqueue(const sequence_ptr& seq);
  void dequeue(const sequence_ptr& seq);
  std::uint64_t length_limit(const generate_request& request) const;

  // plan.cpp
  std::optional<step_plan> plan();
  void compose(step_plan& out, bool all);
  std::uint32_t choose_decodes(bool all);
  std::uint32_t decode_quota(std::uint32_t eligible, std::uint32_t decoding) const;
  void plan_running(step_plan& out, std::uint32_t& prefill_budget);
  std::uint32_t prefill_share(std::uint32_t budget) const;
  std::uint32_t make_room(step_plan& out, sequence& seq);
  void preempt_last(step_plan& out);
  void plan_queries(step_plan& out, const sequence_ptr& seq, std::uint32_t count);
  void send_blocks(step_plan& out, sequence& seq);

  // admit.cpp
  void admit(step_plan& out, std::uint32_t& prefill_budget);
  bool worth_a_look(const sequence& seq) const;
  bool fits(sequence& seq);
  std::uint64_t promised(std::uint32_t group) const;
  void start(step_plan& out, const sequence_ptr& seq);

  // apply.cpp
  result<std::vector<token_event>> apply(const step_result& result);
  result<void> check_result(const step_result& result);
  std::optional<token_event> settle(const flight_entry& entry, const sequence_result* got);
  void end_if_done(const sequence_ptr& seq, const flight_entry& entry, token_event& event);

  scheduler_config config;
  block_manager blocks;
  std::unordered_map<request_id, sequence_ptr> by_id;
  std::set<sequence_ptr, by_rank> waiting;
  std::vector<sequence_ptr> running;
  std::vector<slot_id> free_slots;
  std::vector<slot_id> releases;  // for the next plan
  std::deque<flight> in_flight;
  std::vector<token_event> events;
  flight current;                                      // of the plan that is being made
  bool preempted = false;                              // in that plan
  std::vector<sequence*> candidates;                   // scratch of choose_decodes()
  std::vector<const sequence_result*> result_of_slot;  // scratch of apply()

  step_id last_step = 0;
  std::uint64_t arrivals = 0;
  std::uint64_t waiting_tokens = 0;
  scheduler_stats totals;
};

}  // namespace dinfer::runtime

// SPDX-License-Identifier: Apache-2.0
// Decides what every step computes: continuous batching (Yu et al. 2022, Orca), chunked prefill
// under a token budget (Agrawal et al. 2024, Sarathi-Serve), paged KV with prefix caching (Kwon et
// al. 2023, vLLM), preemption by recompute. Pure and deterministic: the same calls give the same
// plans. No clock, thread, device or log; whoever owns one calls it from one thread.
//
//   add() / cancel()            at any time
//   plan()                      when fewer than max_in_flight plans wait for a result
//   apply()                     once per plan, in order
//
// Cancelled or finished sequences free their blocks in the next plan: shards run plans in order, so
// a block that is handed out again is written only after the last step that could still read or
// write it.
//
// What always holds:
// - A sequence gives way only to one that ranks before it (priority, then arrival), and admission
//   never preempts: the first in rank among the running goes on in spite of all others.
// - A preempted sequence keeps its tokens, takes those still in flight, and is let in again once
//   none is; it never gives other tokens than it would have given alone.
// - After interrupt() and restart() every sequence gives the tokens that it would have given: none
//   is told twice, and what was drawn but not told is drawn again.
// - A request ends with `length` where the cache holds no more of it, even alone.
// - A prefix is found from the plan after the one that computes it, and the last token of a
//   sequence that is let in is always computed.
#pragma once

#include "dinfer/error.hpp"
#include "dinfer/request.hpp"
#include "runtime/kv/kv_group_config.hpp"
#include "runtime/schedule/step.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace dinfer::runtime {

struct scheduler_config {
  std::uint32_t max_num_seqs = 256;  // slots
  std::uint32_t max_num_batched_tokens = 2048;
  std::uint32_t max_num_mixed_tokens = 2048;  // of a plan in which sequences decode: they wait for
                                              // the prompts beside them
  std::uint32_t max_model_len = 0;
  std::uint32_t max_queued_requests = 1024;
  std::uint64_t max_queued_tokens = 1ULL << 24;
  std::uint32_t block_size = 16;
  std::vector<kv_group_config> groups;  // at least one
  bool prefix_caching = true;
  std::uint32_t stages = 1;  // pipeline stages: running sequences are spread over that many plans
  std::uint32_t max_in_flight = 2;  // stages + 1
  std::vector<token_id> eos_tokens;
  epoch_id epoch = 1;
};

struct scheduler_stats {
  std::uint32_t running = 0, waiting = 0, in_flight = 0;
  std::uint32_t blocks_total = 0, blocks_used = 0,
                blocks_cached = 0;  // used + cached <= total; of the tightest group
  std::uint64_t steps = 0, prompt_tokens = 0, generation_tokens = 0;
  std::uint64_t preemptions = 0, prefix_queries = 0, prefix_hits = 0;  // queries and hits in tokens
  std::uint64_t finished_stop = 0, finished_length = 0, finished_abort = 0, finished_error = 0;
};

class scheduler {
 public:
  explicit scheduler(scheduler_config config);
  ~scheduler();
  scheduler(scheduler&&) noexcept;
  scheduler& operator=(scheduler&&) noexcept;

  // Errors: invalid_argument (empty prompt, prompt + 1 > max_model_len or larger than the whole
  // cache, duplicate id), queue_full. Nothing is changed on error.
  result<void> add(generate_request request);

  // Ends a request wherever it is. `reason` is reported in its last event: stop (the gateway saw a
  // stop string) or abort. Unknown ids are ignored: the request may have just finished.
  void cancel(request_id id, finish_reason reason);

  // Nothing to do, or max_in_flight reached: nullopt. A plan may hold releases alone.
  std::optional<step_plan> plan();

  // Tokens that became known, one event per touched request. Error: mismatch when epoch or step is
  // not the oldest plan in flight.
  result<std::vector<token_event>> apply(const step_result& result);

  // Events of requests that ended without a step: cancelled while waiting or running.
  std::vector<token_event> take_events();

  // The shards are gone: plans in flight are forgotten, and every running sequence goes back to the
  // queue with its tokens. One that was in flight the last time too, and has drawn nothing since,
  // ends with the error `why`: it may be what breaks the shards. plan() only after restart().
  void interrupt(const std::string& why);

  // The shards start over as `epoch` with empty caches of so many blocks, one number for each
  // group.
  void restart(epoch_id epoch, std::span<const std::uint32_t> blocks);

  scheduler_stats stats() const;
  const scheduler_config& config() const noexcept;
  // Panics (DINFER_ASSERT) when any count, table or hash disagrees. For tests; O(blocks).
  void check_integrity() const;

 private:
  friend struct scheduler_sabotage;  // plants bugs that the simulator has to find
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace dinfer::runtime

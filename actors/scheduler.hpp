// SPDX-License-Identifier: Apache-2.0
// runtime::scheduler as an actor: requests come in, plans go out at step boundaries, one batch of
// tokens a gateway goes back per step. Lives on the first node; groups of shards come and go under
// it, and its requests outlast the loss of one where the next serves soon enough. Detached: no pool
// thread between a result and the next plan.
#pragma once

#include "actors/interfaces.hpp"
#include "dinfer/config.hpp"
#include "runtime/schedule/scheduler.hpp"
#include "runtime/schedule/step_codec.hpp"

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

namespace dinfer::actors {

struct scheduler_setup {
  runtime::scheduler_config config;
  supervisor_actor supervisor;
  health_section health;
  std::function<void(const runtime::scheduler&)> on_change;  // may be empty
  std::uint32_t result_rank = 0;                             // whose results come here
};

class scheduler {
 public:
  using handle_type = scheduler_actor;
  using self_type = std::remove_pointer_t<scheduler_actor::pointer>;
  static inline const char* name = "dinfer.scheduler";

  scheduler(scheduler_actor::pointer self, scheduler_setup setup);
  scheduler_actor::behavior_type make_behavior();

 private:
  struct counted {  // tokens so far
    clock_time at;
    std::uint64_t prompt = 0, generated = 0;
  };
  struct sent_step {
    std::uint64_t step = 0;
    clock_time at;
  };

  void add(const submit& message);
  void reject(request_id id, error why);
  void take(const step_done& message);
  void watch_gateway(std::uint32_t index, const token_sink_actor& gateway);
  void lose_gateway(std::uint32_t index);
  void plan_soon();
  void plan_all();
  void deliver(std::vector<token_event> events);
  void send_batch(std::uint32_t gateway, const runtime::token_batch& batch);
  void interrupt(const std::string& reason);
  void resume(const resume_engine& message, const stage_list& stages);
  bool waited_long_enough() const;
  void give_up_waiting();
  void fail_all(const std::string& reason);
  runtime::epoch_id epoch() const noexcept { return core_.config().epoch; }
  void beat();
  void publish();
  engine_load load() const;

  scheduler_actor::pointer self_;
  scheduler_setup setup_;
  down_watch<self_type> watch_;
  runtime::scheduler core_;
  std::map<std::uint32_t, token_sink_actor> gateways_;
  std::unordered_set<request_id> open_;
  std::deque<sent_step> in_flight_;
  clock_time last_result_;
  std::deque<counted> counts_;           // one a heartbeat, for the last few seconds
  std::uint64_t overdue_ = 0;            // step that was reported
  bool planning_ = false;                // a plan_tick is on its way
  stage_list stages_;                    // every part of every stage; empty: there is no group
  std::string interrupted_;              // why there is none
  std::optional<clock_time> resume_by_;  // until a step had a result since the last fault
  std::vector<caf::typed_response_promise<drained>> draining_;
  bool closed_ = false;  // no more submits, until the next group stands
};

}  // namespace dinfer::actors

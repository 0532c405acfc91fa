// SPDX-License-Identifier: Apache-2.0
// See scheduler.hpp. Every decision is runtime::scheduler's; here are the mailbox, the deadline of
// a step, and who gets which event.
#include "actors/scheduler.hpp"

#include "actors/wire.hpp"
#include "runtime/base/log.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace dinfer::actors {

namespace {

constexpr milliseconds rate_window{5000};  // that tokens a second are counted over

std::uint32_t gateway_of(request_id id) noexcept { return static_cast<std::uint32_t>(id >> 48); }

std::uint64_t milliseconds_between(clock_time from, clock_time to) {
  if (to <= from) return 0;
  return static_cast<std::uint64_t>(std::chrono::duration_cast<milliseconds>(to - from).count());
}

}  // namespace

scheduler::scheduler(scheduler_actor::pointer self, scheduler_setup setup)
    : self_(self), setup_(std::move(setup)), watch_(self), core_(setup_.config) {}

scheduler_actor::behavior_type scheduler::make_behavior() {
  later(self_, milliseconds(setup_.health.heartbeat_ms), me<scheduler_actor>(self_), pulse_tick{});
  return {
      [this](const submit& message) { add(message); },
      [this](const cancel& message) {
        core_.cancel(message.id, static_cast<finish_reason>(message.reason));
        deliver(core_.take_events());
        plan_soon();  // its blocks are free at the next plan
      },
      [this](const step_done& message) { take(message); },
      [this](const add_gateway& message, const token_sink_actor& gateway) {
        watch_gateway(message.index, gateway);
      },
      [this](const resume_engine& message, const stage_list& stages) { resume(message, stages); },
      [this](const interrupt_engine& message) { interrupt(message.reason); },
      [this](const fail_engine& message) {
        fail_all(message.reason);
        self_->quit();
      },
      [this](const drain_engine&) -> caf::result<drained> {
        closed_ = true;
        auto promise = self_->make_response_promise<drained>();
        draining_.push_back(promise);
        deliver({});
        return promise;
      },
      [this](const plan_tick&) {
        planning_ = false;
        plan_all();
      },
      [this](const resume_tick&) { give_up_waiting(); },
      [this](const pulse_tick&) { beat(); },
      [this](const status_query&) {
        cluster_status out;
        out.load = load();
        return out;
      },
  };
}

void scheduler::add(const submit& message) {
  if (closed_) return reject(message.id, {errc::unavailable, "the engine is draining", {}});
  if (waited_long_enough()) return reject(message.id, {errc::unavailable, interrupted_, {}});
  auto request = runtime::decode_request(message.blob);
  if (!request) return reject(message.id, std::move(request).error());
  if (request->id != message.id)
    return reject(message.id, {errc::mismatch, "a request under another id", "id"});
  const auto id = request->id;
  if (auto added = core_.add(std::move(*request)); !added)
    return reject(id, std::move(added).error());
  open_.insert(id);
  plan_soon();
}

void scheduler::reject(request_id id, error why) {
  runtime::token_batch batch;
  batch.rejected.emplace_back(id, std::move(why));
  send_batch(gateway_of(id), batch);
}

void scheduler::take(const step_done& message) {
  if (stages_.empty() || message.epoch != epoch()) return;  // of a group that is gone
  auto done = runtime::decode_result(message.blob);
  auto events = done ? core_.apply(*done) : tl::unexpected(done.error());
  if (!events) {
    // Only a shard that computes something else than was asked for gets here.
    tell(self_, setup_.supervisor,
         shard_failed{setup_.result_rank, epoch(), static_cast<std::uint8_t>(events.error().code),
                      "step " + std::to_string(message.step) + ": " + events.error().message});
    return;
  }
  if (!in_flight_.empty()) in_flight_.pop_front();
  last_result_ = now(self_);
  resume_by_.reset();
  plan_all();  // first: the devices should not wait for the tokens to be sent
  deliver(std::move(*events));
  publish();
}

void scheduler::plan_soon() {
  if (std::exchange(planning_, true)) return;
  tell(self_, me<scheduler_actor>(self_), plan_tick{});
}

void scheduler::plan_all() {
  while (!stages_.empty()) {
    const auto plan = core_.plan();
    if (!plan) break;
    const run_step message{plan->epoch, plan->step, runtime::encode(*plan)};
    for (const auto& stage : stages_) tell(self_, stage, message);
    in_flight_.push_back({plan->step, now(self_)});
  }
  deliver(core_.take_events());
}

void scheduler::deliver(std::vector<token_event> events) {
  std::map<std::uint32_t, runtime::token_batch> parts;
  for (auto& event : events) {
    if (event.finish != finish_reason::none) open_.erase(event.id);
    parts[gateway_of(event.id)].tokens.push_back(std::move(event));
  }
  for (const auto& [gateway, part] : parts) send_batch(gateway, part);
  if (!open_.empty()) return;
  for (auto& promise : std::exchange(draining_, {})) promise.deliver(drained{});
}

void scheduler::send_batch(std::uint32_t gateway, const runtime::token_batch& batch) {
  auto found = gateways_.find(gateway);
  if (found == gateways_.end()) return;  // lost: nobody waits
  const auto stats = core_.stats();
  tell(self_, found->second, token_batch{stats.running, stats.waiting, runtime::encode(batch)});
}

void scheduler::watch_gateway(std::uint32_t index, const token_sink_actor& gateway) {
  if (auto old = gateways_.find(index); old != gateways_.end()) {
    if (old->second == gateway) return;
    watch_.forget(old->second);
    lose_gateway(index);
  }
  gateways_[index] = gateway;
  watch_.on_down(gateway, [this, index](const caf::error& why) {
    if (why != caf::exit_reason::user_shutdown)
      DINFER_LOG_WARN("gateway {} is gone: {}", index, text_of(why));
    lose_gateway(index);
  });
}

void scheduler::lose_gateway(std::uint32_t index) {
  gateways_.erase(index);
  std::vector<request_id> orphans;
  std::copy_if(open_.begin(), open_.end(), std::back_inserter(orphans),
               [index](request_id id) { return gateway_of(id) == index; });
  std::sort(orphans.begin(), orphans.end());  // the same order in every run
  for (auto id : orphans) core_.cancel(id, finish_reason::abort);
  deliver(core_.take_events());
  plan_soon();
}

// The bound runs from the first fault since a step had a result: a group that breaks again and
// again does not keep its clients waiting for ever.
void scheduler::interrupt(const std::string& reason) {
  if (stages_.empty()) return;
  stages_.clear();
  in_flight_.clear();
  interrupted_ = reason;
  core_.interrupt(reason);
  deliver(core_.take_events());
  if (!resume_by_) resume_by_ = now(self_) + milliseconds(setup_.health.resume_timeout_ms);
  if (waited_long_enough()) return give_up_waiting();
  const auto left = std::chrono::ceil<milliseconds>(*resume_by_ - now(self_));
  later(self_, left, me<scheduler_actor>(self_), resume_tick{});
  if (!open_.empty())
    DINFER_LOG_WARN("{} requests wait for the engine, at most {} ms: {}", open_.size(),
                    left.count(), reason);
}

bool scheduler::waited_long_enough() const {
  return stages_.empty() && resume_by_ && now(self_) >= *resume_by_;
}

void scheduler::resume(const resume_engine& message, const stage_list& stages) {
  core_.restart(message.epoch, message.blocks);
  stages_ = stages;
  overdue_ = 0;
  const auto stats = core_.stats();
  counts_.assign(1, {now(self_), stats.prompt_tokens, stats.generation_tokens});
  last_result_ = now(self_);
  if (open_.empty()) resume_by_.reset();
  closed_ = false;
  plan_all();
}

void scheduler::give_up_waiting() {
  if (!waited_long_enough()) return;
  fail_all(setup_.health.resume_timeout_ms == 0
               ? interrupted_
               : fmt::format("{}; the engine did not serve again within {} ms", interrupted_,
                             setup_.health.resume_timeout_ms));
}

void scheduler::fail_all(const std::string& reason) {
  std::vector<request_id> ids(open_.begin(), open_.end());
  std::sort(ids.begin(), ids.end());
  if (!ids.empty()) DINFER_LOG_ERROR("{} requests fail: {}", ids.size(), reason);
  for (auto id : ids) core_.cancel(id, finish_reason::error);
  auto events = core_.take_events();
  for (auto& event : events)
    if (event.finish == finish_reason::error) event.message = reason;
  deliver(std::move(events));
}

void scheduler::beat() {
  later(self_, milliseconds(setup_.health.heartbeat_ms), me<scheduler_actor>(self_), pulse_tick{});
  const auto stats = core_.stats();
  std::uint64_t age = 0;
  if (!in_flight_.empty()) {
    const auto& oldest = in_flight_.front();
    age = milliseconds_between(std::max(oldest.at, last_result_), now(self_));
    if (age >= setup_.health.step_timeout_ms && std::exchange(overdue_, oldest.step) != oldest.step)
      tell(self_, setup_.supervisor, step_overdue{epoch(), oldest.step, age});
  }
  for (const auto& [index, gateway] : gateways_)
    tell(self_, gateway, engine_pulse{epoch(), stats.running, stats.waiting, age});
  counts_.push_back({now(self_), stats.prompt_tokens, stats.generation_tokens});
  while (now(self_) - counts_.front().at > rate_window) counts_.pop_front();
  publish();
}

engine_load scheduler::load() const {
  const auto stats = core_.stats();
  engine_load out;
  out.known = true;
  out.running = stats.running;
  out.waiting = stats.waiting;
  out.block_size = core_.config().block_size;
  out.blocks = stats.blocks_total;
  out.blocks_used = stats.blocks_used;
  out.blocks_kept = stats.blocks_cached;
  if (counts_.empty()) return out;
  const auto& since = counts_.front();
  out.window_ms = milliseconds_between(since.at, now(self_));
  out.prompt_tokens = stats.prompt_tokens - since.prompt;
  out.generated_tokens = stats.generation_tokens - since.generated;
  return out;
}

void scheduler::publish() {
  if (setup_.on_change) setup_.on_change(core_);
}

}  // namespace dinfer::actors

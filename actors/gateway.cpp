// SPDX-License-Identifier: Apache-2.0
// See gateway.hpp.
#include "actors/gateway.hpp"

#include "actors/status_text.hpp"
#include "actors/wire.hpp"
#include "runtime/base/log.hpp"
#include "runtime/schedule/step_codec.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace dinfer::actors {

namespace {

// CAF has no backpressure and a frame blocks the link: what crosses at once is bounded.
constexpr std::size_t max_submit_bytes = 1 << 20;

constexpr milliseconds status_timeout{2500};  // longer than the directory waits itself

net::engine_events rejection(request_id id, error why) {
  net::engine_events events;
  events.rejected.emplace_back(id, std::move(why));
  return events;
}

error too_large(const std::string& blob) {
  const auto request = runtime::decode_request(blob);
  const auto tokens = request ? request->prompt.size() : 0;
  const auto rest = blob.size() - std::min(blob.size(), tokens * sizeof(token_id));
  const auto most = (max_submit_bytes - std::min(rest, max_submit_bytes)) / sizeof(token_id);
  return {errc::invalid_argument,
          fmt::format("the prompt has {} tokens; at most {} fit the {} bytes that a request may "
                      "take inside the cluster",
                      tokens, most, max_submit_bytes),
          "prompt"};
}

error not_ready(const net::engine_status& status) {
  std::string text = "the engine is not ready: " + status.stage;
  if (!status.reason.empty()) text += " (" + status.reason + ")";
  return {errc::unavailable, std::move(text), {}};
}

}  // namespace

gateway::gateway(gateway_actor::pointer self, gateway_setup setup)
    : self_(self), setup_(std::move(setup)), watch_(self) {
  show({net::engine_state::loading, "joining", {}, 0, 0, 0});
}

gateway::~gateway() { fail_open("the server was stopped"); }

gateway_actor::behavior_type gateway::make_behavior() {
  return {
      [this](const token_batch& message) { take(message); },
      [this](const engine_pulse& message) {
        if (message.epoch == epoch_)
          count(message.running, message.waiting, message.last_step_age_ms);
      },
      [this](const submit& message) { forward(message); },
      [this](const cancel& message) {
        if (scheduler_ && open_.contains(message.id)) tell(self_, scheduler_, message);
      },
      [this](const engine_ready& message, const scheduler_actor& scheduler) {
        use(message, scheduler);
      },
      [this](const engine_notice& message) { note(message); },
      [this](const fail_engine& message) {
        show({net::engine_state::dead, "ended", message.reason, 0, 0, 0});
        fail_open(message.reason);
      },
      [this](const drain_engine&) -> caf::result<drained> {
        auto promise = self_->make_response_promise<drained>();
        leaving_ = true;
        show(status_);
        draining_.push_back(promise);
        answer_drains();
        return promise;
      },
      [this](const welcome&, const status_source_actor& directory) { directory_ = directory; },
      [this](const show_cluster& message) { show_cluster_of(message.id); },
  };
}

void gateway::forward(const submit& message) {
  if (status_.state != net::engine_state::ready || !scheduler_ || leaving_)
    return setup_.deliver(rejection(message.id, not_ready(setup_.board->status())));
  if (message.blob.size() > max_submit_bytes)
    return setup_.deliver(rejection(message.id, too_large(message.blob)));
  open_.insert(message.id);
  tell(self_, scheduler_, message);
}

void gateway::take(const token_batch& message) {
  auto events = runtime::decode_batch(message.blob);
  if (!events) {
    DINFER_LOG_ERROR("gateway {}: unreadable tokens: {}", setup_.index, events.error().message);
    return fail_open("tokens could not be read: " + events.error().message);
  }
  // What is not open any more has had its last event.
  net::engine_events out;
  for (auto& event : events->tokens) {
    const auto found = open_.find(event.id);
    if (found == open_.end()) continue;
    if (event.finish != finish_reason::none) open_.erase(found);
    out.tokens.push_back(std::move(event));
  }
  for (auto& rejected : events->rejected)
    if (open_.erase(rejected.first) > 0) out.rejected.push_back(std::move(rejected));
  count(message.running, message.waiting, 0);
  if (!out.tokens.empty() || !out.rejected.empty()) setup_.deliver(std::move(out));
  answer_drains();
}

void gateway::use(const engine_ready& message, const scheduler_actor& scheduler) {
  epoch_ = message.epoch;
  if (scheduler_ != scheduler) {
    if (scheduler_) watch_.forget(scheduler_);
    fail_open("the engine started over");
    scheduler_ = scheduler;
    watch_.on_down(scheduler, [this](const caf::error& why) {
      scheduler_ = scheduler_actor{};
      fail_open("the scheduler is gone: " + text_of(why));
      if (status_.state == net::engine_state::dead) return;
      show({net::engine_state::dead, "scheduler lost", text_of(why), 0, 0, 0});
    });
  }
  show({net::engine_state::ready, "serving", {}, 0, 0, 0});
}

void gateway::note(const engine_notice& message) {
  // Ready is what engine_ready says, which brings the scheduler's handle.
  if (message.state == static_cast<std::uint8_t>(net::engine_state::ready) && !scheduler_) return;
  const auto state = static_cast<net::engine_state>(
      std::min<std::uint8_t>(message.state, static_cast<std::uint8_t>(net::engine_state::dead)));
  auto status = status_;
  status.state = state;
  status.stage = message.stage;
  status.reason = message.reason;
  if (state != net::engine_state::draining) status.running = status.waiting = 0;
  show(std::move(status));
}

void gateway::fail_open(const std::string& reason) {
  net::engine_events events;
  for (const auto id : std::exchange(open_, {})) {
    token_event event;
    event.id = id;
    event.finish = finish_reason::error;
    event.message = reason;
    events.tokens.push_back(std::move(event));
  }
  if (!events.tokens.empty()) setup_.deliver(std::move(events));
  answer_drains();
}

void gateway::answer_drains() {
  if (!open_.empty()) return;
  for (auto& promise : std::exchange(draining_, {})) promise.deliver(drained{});
}

void gateway::show(net::engine_status status) {
  status_ = std::move(status);
  auto shown = status_;
  if (leaving_ && shown.state == net::engine_state::ready) {
    shown.state = net::engine_state::draining;
    shown.stage = "draining";
    shown.reason = "this node leaves";
  }
  setup_.board->set(std::move(shown));
}

void gateway::count(std::uint32_t running, std::uint32_t waiting, std::uint64_t age_ms) {
  auto status = status_;
  status.running = running;
  status.waiting = waiting;
  status.last_step_age_ms = age_ms;
  show(std::move(status));
}

void gateway::show_cluster_of(request_id id) {
  const auto answer = [deliver = setup_.deliver, id](result<std::string> text) {
    net::engine_events events;
    events.clusters.emplace_back(id, std::move(text));
    deliver(std::move(events));
  };
  if (!directory_)
    return answer(fail(errc::unavailable, "this node has not joined the cluster yet"));
  ask(self_, directory_, status_timeout, status_query{})
      .then([answer](const cluster_status& status) { answer(render_status(status)); },
            [answer](const caf::error& why) {
              answer(fail(errc::unavailable, "the first node does not tell: " + text_of(why)));
            });
}

void gateway_link::show_cluster(request_id id) { post(gateway_, actors::show_cluster{id}); }

void gateway_link::submit(generate_request request) {
  post(gateway_, actors::submit{request.id, runtime::encode(request)});
}

void gateway_link::cancel(request_id id, finish_reason reason) {
  post(gateway_, actors::cancel{id, static_cast<std::uint8_t>(reason)});
}

}  // namespace dinfer::actors

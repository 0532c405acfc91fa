// SPDX-License-Identifier: Apache-2.0
// See token_desk.hpp.
#include "actors/token_desk.hpp"

#include "actors/wire.hpp"
#include "runtime/base/log.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

namespace dinfer::actors {

namespace {

constexpr std::uint32_t most_credit = 4096;
constexpr std::uint32_t most_kept = 256;  // events, as many as HTTP keeps for a slow reader
constexpr milliseconds end_limit{1000};

template <class T>
void append(std::vector<T>& to, const std::vector<T>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

// The second follows the first, of the same stream.
void merge(stream_event& first, const stream_event& second) {
  auto& into = first.event;
  const auto& from = second.event;
  append(into.tokens, from.tokens);
  append(into.prompt_logprobs, from.prompt_logprobs);
  into.id = from.id;
  into.finish = from.finish;
  into.stop_token = from.stop_token;
  into.used = from.used;
  into.message = from.message;
  first.code = second.code;
}

// The last event of a stream, with what was kept of it.
stream_event ended(stream_event kept, request_id id, errc code, std::string why) {
  kept.event.id = id;
  kept.event.finish = finish_reason::error;
  kept.event.message = std::move(why);
  kept.code = code;
  return kept;
}

}  // namespace

token_desk::token_desk(token_desk_actor::pointer self, std::shared_ptr<net::engine_link> link)
    : self_(self), link_(std::move(link)), watch_(self) {}

token_desk::~token_desk() { end_all("the engine was stopped"); }

token_desk_actor::behavior_type token_desk::make_behavior() {
  return {
      [this](const open_stream& message) { return open(message); },
      [this](const grant_credit& message) { grant(message); },
      [this](const close_stream& message) {
        if (streams_.contains(message.id)) link_->cancel(message.id, finish_reason::abort);
      },
      [this](const stream_event& message) { take(message); },
      [this](const fail_engine& message) {
        end_all(message.reason);
        self_->quit();
      },
  };
}

caf::result<stream_opened> token_desk::open(const open_stream& message) {
  const auto consumer = caf::actor_cast<caf::actor>(self_->current_sender());
  if (!consumer)
    return to_caf({errc::invalid_argument,
                   "open_stream came from nobody: tokens go to the actor that requests a stream",
                   "open_stream"});
  auto request = message.request;
  request.id = link_->next_id();
  const auto id = request.id;
  auto& made = streams_[id];
  made.consumer = consumer;
  made.credit = std::min(message.credit, most_credit);
  const auto [known, fresh] = consumers_.try_emplace(consumer);
  known->second.insert(id);
  // One that is gone already is told of like one that goes.
  if (fresh) watch_.on_down(consumer, [this, consumer](const caf::error&) { lose(consumer); });
  link_->submit(std::move(request));
  return stream_opened{id};
}

void token_desk::grant(const grant_credit& message) {
  const auto found = streams_.find(message.id);
  if (found == streams_.end()) return;
  auto& to = found->second;
  to.credit += std::min(message.events, most_credit - to.credit);
  if (to.kept_events == 0 || to.credit == 0) return;
  --to.credit;
  to.kept_events = 0;
  post(to.consumer, std::exchange(to.kept, {}));
}

void token_desk::take(const stream_event& message) {
  const auto id = message.event.id;
  const auto found = streams_.find(id);
  if (found == streams_.end()) return;
  auto& to = found->second;
  const bool last = message.event.finish != finish_reason::none;
  if (to.kept_events == 0 && (last || to.credit > 0)) {
    if (to.credit > 0) --to.credit;
    post(to.consumer, message);
    if (last) forget(id);
    return;
  }
  merge(to.kept, message);
  ++to.kept_events;
  const bool slow = !last && to.kept_events >= most_kept;
  if (slow) {
    link_->cancel(id, finish_reason::abort);
    to.kept = ended(std::move(to.kept), id, errc::cancelled,
                    fmt::format("the consumer granted no credit for {} steps", most_kept));
  }
  if (!last && !slow) return;
  post(to.consumer, std::move(to.kept));
  forget(id);
}

void token_desk::lose(const caf::actor& consumer) {
  const auto found = consumers_.find(consumer);
  if (found == consumers_.end()) return;
  for (const auto id : found->second) {
    link_->cancel(id, finish_reason::abort);
    streams_.erase(id);
  }
  consumers_.erase(found);
}

void token_desk::forget(request_id id) {
  const auto found = streams_.find(id);
  const auto consumer = found->second.consumer;
  streams_.erase(found);
  const auto of_it = consumers_.find(consumer);
  of_it->second.erase(id);
  if (!of_it->second.empty()) return;
  watch_.forget(consumer);
  consumers_.erase(of_it);
}

void token_desk::end_all(const std::string& reason) {
  for (auto& [id, to] : std::exchange(streams_, {}))
    post(to.consumer, ended(std::move(to.kept), id, errc::unavailable, reason));
  consumers_.clear();
}

desk_front::desk_front(caf::actor_system& system, std::shared_ptr<net::engine_link> link)
    : system_(system),
      link_(std::move(link)),
      desk_(spawn_state<token_desk>(system, true, link_)) {}

void desk_front::deliver(net::engine_events events) {
  for (auto& event : events.tokens) {
    const auto code = event.finish == finish_reason::error ? errc::unavailable : errc::none;
    post(desk_, stream_event{std::move(event), code});
  }
  for (auto& [id, why] : events.rejected)
    post(desk_, ended({}, id, why.code, std::move(why.message)));
}

// What was delivered before is told first: all comes through one mailbox.
void desk_front::stop(std::chrono::milliseconds) {
  if (!desk_) return;
  const caf::scoped_actor self{system_};
  self->monitor(desk_);
  post(desk_, fail_engine{"the engine was stopped"});
  self->receive([](const caf::down_msg&) {},
                caf::after(end_limit) >>
                    [] { DINFER_LOG_ERROR("streams to actors do not end; leaving without them"); });
  desk_ = token_desk_actor{};
}

}  // namespace dinfer::actors

// SPDX-License-Identifier: Apache-2.0
// One loop: while there are requests, a step; each step gives each request one token.
#include "tests/support/simulated_engine.hpp"

#include <algorithm>

namespace dinfer::tests {

simulated_engine::simulated_engine(settings s) : settings_(s) {
  status_.state = net::engine_state::ready;
  status_.stage = "serving";
  thread_ = std::thread([this] { run(); });
}

simulated_engine::~simulated_engine() { stop(); }

void simulated_engine::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    deliver_ = nullptr;
  }
  work_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void simulated_engine::connect(std::function<void(net::engine_events)> deliver) {
  const std::lock_guard lock(mutex_);
  deliver_ = std::move(deliver);
}

void simulated_engine::change(const std::function<void(settings&)>& edit) {
  {
    const std::lock_guard lock(mutex_);
    edit(settings_);
  }
  work_.notify_all();
}

void simulated_engine::report(net::engine_status status) {
  const std::lock_guard lock(mutex_);
  status_ = std::move(status);
}

void simulated_engine::submit(generate_request request) {
  {
    const std::lock_guard lock(mutex_);
    submitted_.push_back(request);
    const auto id = request.id;
    if (running_.size() >= settings_.queue)
      pending_.rejected.emplace_back(id, error{errc::queue_full, "the queue is full", {}});
    else running_.emplace(id, sequence{std::move(request), 0});
  }
  work_.notify_all();
}

void simulated_engine::cancel(request_id id, finish_reason reason) {
  const std::lock_guard lock(mutex_);
  cancelled_.emplace_back(id, reason);
  if (running_.erase(id) == 0) return;
  token_event event;
  event.id = id;
  event.finish = reason;
  pending_.tokens.push_back(std::move(event));
}

void simulated_engine::show_cluster(request_id id) {
  const std::lock_guard lock(mutex_);
  pending_.clusters.emplace_back(id, R"({"nodes":[]})");
  work_.notify_all();
}

net::engine_status simulated_engine::status() const {
  const std::lock_guard lock(mutex_);
  auto out = status_;
  if (out.running == 0) out.running = static_cast<std::uint32_t>(running_.size());
  return out;
}

std::vector<std::pair<request_id, finish_reason>> simulated_engine::cancelled() const {
  const std::lock_guard lock(mutex_);
  return cancelled_;
}

std::vector<generate_request> simulated_engine::submitted() const {
  const std::lock_guard lock(mutex_);
  return submitted_;
}

std::size_t simulated_engine::running() const {
  const std::lock_guard lock(mutex_);
  return running_.size();
}

token_event simulated_engine::advance(sequence& s) const {
  const auto& sampling = s.request.sampling;
  const auto& prompt = s.request.prompt;
  token_event event;
  event.id = s.request.id;
  const auto drawn = [&](token_id token, float logprob) {
    sampled_token out{token, logprob, {}};
    for (std::int32_t i = 0; i < sampling.logprobs; ++i)
      out.top.push_back({token + i, logprob - static_cast<float>(i)});
    return out;
  };
  if (s.made == 0 && sampling.prompt_logprobs >= 0)
    for (std::size_t i = 1; i < prompt.size(); ++i)
      event.prompt_logprobs.push_back(drawn(prompt[i], -0.25F));
  const auto token = prompt[s.made % prompt.size()];
  event.tokens.push_back(drawn(token, -0.5F));
  ++s.made;
  event.used = {static_cast<std::uint32_t>(prompt.size()), 0, s.made};
  const auto& stops = sampling.stop_token_ids;
  const bool ends = std::find(stops.begin(), stops.end(), token) != stops.end() ||
                    (settings_.eos == token && !sampling.ignore_eos);
  if (ends && s.made > sampling.min_tokens) {
    event.stop_token = token;
    event.finish = finish_reason::stop;
  } else if (settings_.fail_after > 0 && s.made > settings_.fail_after) {
    event.tokens.clear();
    event.finish = finish_reason::error;
    event.message = "the simulated device failed";
  } else if (s.made >= sampling.max_tokens) event.finish = finish_reason::length;
  return event;
}

net::engine_events simulated_engine::step() {
  auto out = std::exchange(pending_, {});
  if (settings_.frozen) return out;
  for (auto it = running_.begin(); it != running_.end();) {
    out.tokens.push_back(advance(it->second));
    if (out.tokens.back().finish != finish_reason::none) it = running_.erase(it);
    else ++it;
  }
  return out;
}

void simulated_engine::run() {
  std::unique_lock lock(mutex_);
  std::chrono::steady_clock::time_point next;
  while (!stopping_) {
    const auto ready = [this] {
      return stopping_ || !pending_.tokens.empty() || !pending_.rejected.empty() ||
             !pending_.clusters.empty() || (!running_.empty() && !settings_.frozen);
    };
    work_.wait(lock, ready);
    if (stopping_) return;
    auto events = step();
    const auto deliver = deliver_;
    const auto pause = settings_.step_time;
    lock.unlock();
    if (deliver) deliver(std::move(events));
    // A step of a real engine takes time; without any, other threads still get their turn. Being
    // woken late does not add up over the steps.
    next = std::max(next, std::chrono::steady_clock::now() - pause) + pause;
    if (pause.count() > 0) std::this_thread::sleep_until(next);
    else std::this_thread::yield();
    lock.lock();
  }
}

}  // namespace dinfer::tests

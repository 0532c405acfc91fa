// SPDX-License-Identifier: Apache-2.0
// An engine_link without a model: every request answers with its own prompt, token by token and
// over again, so that what a client must see is known. One thread makes the steps. Settings may be
// changed between requests.
#pragma once

#include "net/openai/engine_link.hpp"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

namespace dinfer::tests {

class simulated_engine final : public net::engine_link {
 public:
  struct settings {
    std::chrono::microseconds step_time{0};
    std::uint32_t queue = 1U << 20U;  // more at once are rejected with queue_full
    std::optional<token_id> eos;      // ends a request when it comes up, unless ignore_eos
    bool frozen = false;              // requests are taken but no step is made
    std::uint32_t fail_after = 0;     // not 0: a request fails once it has so many tokens
  };

  simulated_engine() : simulated_engine(settings{}) {}
  explicit simulated_engine(settings s);
  ~simulated_engine() override;
  // Where events go; set before the first request.
  void connect(std::function<void(net::engine_events)> deliver);
  void change(const std::function<void(settings&)>& edit);
  void report(net::engine_status status);  // what status() says, but for running

  void submit(generate_request request) override;
  void cancel(request_id id, finish_reason reason) override;
  void show_cluster(request_id id) override;
  request_id next_id() noexcept override { return next_.fetch_add(1); }
  net::engine_status status() const override;

  std::vector<std::pair<request_id, finish_reason>> cancelled() const;
  std::vector<generate_request> submitted() const;
  std::size_t running() const;
  void stop();

 private:
  struct sequence {
    generate_request request;
    std::uint32_t made = 0;
  };
  void run();
  net::engine_events step();
  token_event advance(sequence& s) const;

  mutable std::mutex mutex_;
  std::condition_variable work_;
  settings settings_;
  net::engine_status status_;
  std::function<void(net::engine_events)> deliver_;
  std::map<request_id, sequence> running_;
  net::engine_events pending_;
  std::vector<std::pair<request_id, finish_reason>> cancelled_;
  std::vector<generate_request> submitted_;
  std::atomic<request_id> next_{1};
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace dinfer::tests

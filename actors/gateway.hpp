// SPDX-License-Identifier: Apache-2.0
// net::engine_link over the cluster: one actor a front, which keeps the set of open requests, so
// that each of them gets exactly one last event whatever is lost on the way. The link may be called
// from any thread; it lives as long as anybody holds it.
#pragma once

#include "actors/interfaces.hpp"
#include "net/openai/engine_link.hpp"

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_set>
#include <vector>

namespace dinfer::actors {

// What a front's threads read of the engine. The gateway actor writes it.
class gateway_board {
 public:
  gateway_board(std::uint32_t index, std::uint64_t first_counter)
      : prefix_(static_cast<std::uint64_t>(index) << 48), counter_(first_counter) {}

  request_id next_id() noexcept { return prefix_ | (counter_.fetch_add(1) & 0xffff'ffff'ffffULL); }
  net::engine_status status() const {
    const std::lock_guard lock(mutex_);
    return status_;
  }
  void set(net::engine_status status) {
    const std::lock_guard lock(mutex_);
    status_ = std::move(status);
  }

 private:
  std::uint64_t prefix_;
  std::atomic<std::uint64_t> counter_;
  mutable std::mutex mutex_;
  net::engine_status status_;
};

using deliver_events = std::function<void(net::engine_events)>;

struct gateway_setup {
  std::uint32_t index = 0;  // as in add_gateway
  std::shared_ptr<gateway_board> board;
  deliver_events deliver;
};

class gateway {
 public:
  using handle_type = gateway_actor;
  using self_type = std::remove_pointer_t<gateway_actor::pointer>;
  static inline const char* name = "dinfer.gateway";

  gateway(gateway_actor::pointer self, gateway_setup setup);
  ~gateway();
  gateway(const gateway&) = delete;
  gateway& operator=(const gateway&) = delete;
  gateway_actor::behavior_type make_behavior();

 private:
  void forward(const submit& message);
  void take(const token_batch& message);
  void use(const engine_ready& message, const scheduler_actor& scheduler);
  void note(const engine_notice& message);
  void show(net::engine_status status);
  void answer_drains();
  void fail_open(const std::string& reason);
  void show_cluster_of(request_id id);
  void count(std::uint32_t running, std::uint32_t waiting, std::uint64_t age_ms);

  gateway_actor::pointer self_;
  gateway_setup setup_;
  down_watch<self_type> watch_;
  net::engine_status status_;
  std::uint32_t epoch_ = 0;
  scheduler_actor scheduler_;
  status_source_actor directory_;
  bool leaving_ = false;  // this node drains, whatever the engine does
  std::vector<caf::typed_response_promise<drained>> draining_;
  std::unordered_set<request_id> open_;
};

// The link of a gateway actor. `bind` once, before a front uses it.
class gateway_link : public net::engine_link {
 public:
  explicit gateway_link(std::shared_ptr<gateway_board> board) : board_(std::move(board)) {}
  void bind(gateway_actor gateway) { gateway_ = std::move(gateway); }

  void submit(generate_request request) override;
  void cancel(request_id id, finish_reason reason) override;
  void show_cluster(request_id id) override;
  request_id next_id() noexcept override { return board_->next_id(); }
  net::engine_status status() const override { return board_->status(); }

 private:
  std::shared_ptr<gateway_board> board_;
  gateway_actor gateway_;
};

}  // namespace dinfer::actors

// SPDX-License-Identifier: Apache-2.0
// One device and its runner as an actor: detached, so that waiting for the device holds no pool
// thread, and everything of the device happens on one thread. Results go straight to the scheduler.
#pragma once

#include "actors/interfaces.hpp"
#include "actors/parts.hpp"
#include "actors/shard_board.hpp"

#include <cstdint>
#include <memory>
#include <span>

namespace dinfer::actors {

struct shard_setup {
  std::uint32_t rank = 0;
  runtime::runner_options options;
  runner_factory make_runner;
  node_section here;
  fault_sink_actor faults;
  std::shared_ptr<shard_board> board;
};

class shard {
 public:
  using handle_type = shard_actor;
  static inline const char* name = "dinfer.shard";

  shard(shard_actor::pointer self, shard_setup setup);
  ~shard();
  shard(const shard&) = delete;
  shard& operator=(const shard&) = delete;
  shard_actor::behavior_type make_behavior();

 private:
  result<shard_loaded> load();
  result<void> check_loaded(const char* order) const;
  result<cache_offer> size();
  result<shard_card> card();
  result<void> connect(const connect_shard& order);
  result<links_checked> check(const check_links& order);
  result<shard_ready> start(const start_cache& order, const scheduler_actor& scheduler);
  void run(const run_step& order);

  shard_actor::pointer self_;
  shard_setup setup_;
  std::unique_ptr<runtime::runner> runner_;
  runtime::result_sink sink_;
  std::uint32_t epoch_ = 0;  // 0: no step may run
};

}  // namespace dinfer::actors

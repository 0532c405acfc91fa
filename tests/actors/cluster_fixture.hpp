// SPDX-License-Identifier: Apache-2.0
// A whole cluster in one thread: supervisor, directory, nodes, shards on fake devices and gateways
// under CAF's test scheduler. The order in which actors run is drawn from a seed, time moves only
// when told, and every event that a gateway hands out is kept and checked.
#pragma once

#include "actors/directory.hpp"
#include "actors/fake_parts.hpp"
#include "actors/gateway.hpp"
#include "actors/node.hpp"
#include "actors/supervisor.hpp"
#include "actors/system.hpp"
#include "tests/support/catch.hpp"

#include <caf/scheduler/test_coordinator.hpp>

#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace dinfer::actors::tests {

struct cluster_options {
  std::uint32_t nodes = 1, devices_per_node = 1;
  std::uint32_t tensor_parallel_size = 1, pipeline_parallel_size = 1;
  std::uint32_t gateways = 1;
  std::uint32_t max_num_seqs = 8;
  std::uint32_t blocks = 256;
  std::uint32_t max_model_len = 128;
  std::uint32_t seed = 1;
  std::uint32_t resume_timeout_ms = 0;
  bool kept = false;  // the last node is kept by the one before it
  std::function<void(runtime::fake_options&)> adjust = {};
  // Puts a runner around a rank's fake.
  std::function<std::unique_ptr<runtime::runner>(std::unique_ptr<runtime::runner>,
                                                 const runtime::rank_layout&)>
      wrap = {};
};

// What became of one request.
struct outcome {
  std::vector<token_id> tokens;
  std::uint32_t lasts = 0;  // last events and rejections: must end as 1
  finish_reason finish = finish_reason::none;
  std::string message;
  bool rejected = false;
};

class sim_cluster {
 public:
  explicit sim_cluster(cluster_options options);
  ~sim_cluster();

  // Runs until no actor has anything to do; `most` bounds the jobs.
  void run(std::size_t most = 1'000'000);
  void run_some(std::size_t jobs);
  // Moves the clock in small steps and runs what became due.
  void pass(milliseconds time);
  void start() { pass(milliseconds(50)); }

  // Submits through gateway `g`; returns the id under which outcome() knows it.
  request_id submit(std::uint32_t g, std::vector<token_id> prompt, std::uint32_t max_tokens);
  void cancel(std::uint32_t g, request_id id);
  const std::map<request_id, outcome>& outcomes() const { return outcomes_; }
  // The tokens that the fakes give this request when it runs alone.
  std::vector<token_id> expected(const std::vector<token_id>& prompt,
                                 std::uint32_t max_tokens) const;

  // Asks gateway `g`; shown() has the answer.
  request_id show_cluster(std::uint32_t g);
  const std::map<request_id, result<std::string>>& shown() const { return shown_; }

  void kill_node(std::uint32_t index);
  void restart_node(std::uint32_t index);
  void kill_gateway(std::uint32_t g);
  net::engine_status status(std::uint32_t g) const { return gateways_[g].board->status(); }
  node_actor node(std::uint32_t index) const { return nodes_[index]; }
  std::uint32_t processes() const { return processes_; }  // the number of the newest one
  gateway_actor gateway_handle(std::uint32_t g) const { return gateways_[g].actor; }
  const runtime::scheduler_stats& stats() const { return stats_; }
  const std::vector<std::string>& lines() const { return lines_; }
  bool said(const std::string& part) const;
  const std::vector<int>& exits() const { return exits_; }
  int runners_made() const { return runners_made_; }
  cluster_status cluster_state();
  std::mt19937& random() { return random_; }

 private:
  struct gateway_entry {
    std::shared_ptr<gateway_board> board;
    std::shared_ptr<gateway_link> link;
    gateway_actor actor;
  };
  void spawn_node(std::uint32_t index);
  void take(net::engine_events events);

  cluster_options options_;
  std::mt19937 random_;
  std::shared_ptr<cluster_config> config_;
  system_config settings_;
  caf::actor_system system_;
  caf::scheduler::test_coordinator& scheduler_;
  node_parts parts_;
  supervisor_actor supervisor_;
  directory_actor directory_;
  std::vector<node_actor> nodes_;
  std::vector<gateway_entry> gateways_;
  std::map<request_id, outcome> outcomes_;
  std::map<request_id, result<std::string>> shown_;
  runtime::scheduler_stats stats_;
  std::vector<std::string> lines_;
  std::vector<int> exits_;
  int runners_made_ = 0;
  std::uint32_t processes_ = 0;
};

}  // namespace dinfer::actors::tests

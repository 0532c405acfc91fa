// SPDX-License-Identifier: Apache-2.0
// One per process: joins the cluster, spawns the shards and stages that the supervisor orders,
// watches the first node and ends the process when it is lost or refuses us.
#pragma once

#include "actors/interfaces.hpp"
#include "actors/parts.hpp"
#include "actors/shard_board.hpp"

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace dinfer::actors {

struct node_setup {
  std::shared_ptr<const cluster_config> config;
  std::size_t index = 0;
  runner_factory make_runner;
  std::shared_ptr<void> life;  // held until the last shard has ended
  hello ours;
  std::vector<std::pair<std::uint32_t, gateway_actor>> gateways;  // of this node
  directory_actor directory;                                      // on the first node
  dialer_actor dialer;                                            // on the others
  bool detached = true;     // shards have threads of their own
  bool stages_too = false;  // have them: the system's pool is not ours alone
  std::function<void(const engine_notice&)> on_notice;
  std::function<void(int code, const std::string& reason)> on_exit;         // once
  std::function<void(const std::string&)> on_progress;                      // may be empty
  std::function<void(std::size_t index, std::uint32_t process)> end_child;  // may be empty
};

class node {
 public:
  using handle_type = node_actor;
  using self_type = std::remove_pointer_t<node_actor::pointer>;
  static inline const char* name = "dinfer.node";

  node(node_actor::pointer self, node_setup setup);
  ~node();
  node(const node&) = delete;
  node& operator=(const node&) = delete;
  node_actor::behavior_type make_behavior();

 private:
  struct local_shard {
    shard_actor handle;
    std::int32_t stage = 0;
    std::shared_ptr<shard_board> board;
  };

  caf::result<shard_actor> spawn_shard(const shard_order& order, const fault_sink_actor& faults);
  stage_actor spawn_stage(std::uint32_t stage);
  void abort_all();
  void drop_all();
  progress_report progress() const;

  void join();
  void say_hello(const directory_actor& directory);
  void joined(const directory_actor& directory, const supervisor_actor& supervisor);
  void not_joined(const error& why);
  void end(int code, const std::string& reason);
  void drain(std::uint32_t timeout_ms);

  node_actor::pointer self_;
  node_setup setup_;
  down_watch<self_type> watch_;
  std::map<std::uint32_t, local_shard> shards_;  // by rank
  std::vector<stage_actor> stages_;
  supervisor_actor supervisor_;
  clock_time started_;
  milliseconds backoff_;
  std::string said_;
  bool ending_ = false;
};

}  // namespace dinfer::actors

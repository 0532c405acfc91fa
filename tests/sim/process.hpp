// SPDX-License-Identifier: Apache-2.0
// One life of a simulated process: the actors that node_process spawns, in an actor system of their
// own under CAF's test scheduler, with a clock that stands still while the process is paused. Its
// destruction is the process's sudden death.
#pragma once

#include "actors/directory.hpp"
#include "actors/gateway.hpp"
#include "actors/node.hpp"
#include "actors/parts.hpp"
#include "actors/supervisor.hpp"
#include "actors/system.hpp"
#include "tests/sim/clients.hpp"
#include "tests/sim/devices.hpp"
#include "tests/sim/network.hpp"

#include <caf/scheduler/test_coordinator.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace dinfer::sim {

// What all processes of a cluster have around them.
struct surroundings {
  world& time;
  network& net;
  device_room& devices;
  clients& people;
  std::shared_ptr<const cluster_config> config;
  caf::actor_system_config& settings;
  std::function<void(process_id, int code)> on_exit;
  std::function<void(process_id)> end_child;  // that a process keeps: it is to be killed
  std::function<void(const runtime::scheduler&)> on_change;
  std::function<void(const std::string& node, const std::string& cause)> on_fault;
};

// Answers dials through the simulated network.
class sim_dialer {
 public:
  using handle_type = actors::dialer_actor;
  static inline const char* name = "sim.dialer";
  struct setup {
    network* net = nullptr;
    process_id id = 0;
  };

  sim_dialer(actors::dialer_actor::pointer self, setup how) : self_(self), setup_(how) {}
  actors::dialer_actor::behavior_type make_behavior();

 private:
  actors::dialer_actor::pointer self_;
  setup setup_;
};

class process {
 public:
  process(surroundings& around, process_id id, std::uint32_t node);
  ~process();
  process(const process&) = delete;
  process& operator=(const process&) = delete;

  process_id id() const noexcept { return id_; }
  std::uint32_t node() const noexcept { return node_index_; }

  // Actors that have a message; none while paused.
  std::size_t jobs() const noexcept { return paused() ? 0 : scheduler_.jobs.size(); }
  void run_job(std::size_t which);
  std::optional<usec> next_timer() const;
  void catch_up();  // its clock follows the world's

  bool paused() const noexcept { return end_.paused(); }
  void pause();
  void resume();
  // As soon as it runs.
  void when_awake(std::function<void()> event);

  // Leaving: asked to, or at the end of its node actor.
  void terminate(actors::milliseconds timeout);
  void close_gateways();
  // The process of a child that it keeps has ended.
  void tell_child_ended(std::uint32_t node, process_id child, const std::string& how);
  bool leaving() const noexcept { return leaving_; }
  void set_leaving() noexcept { leaving_ = true; }

  bool ready() const;  // all of its gateways would take requests
  bool has_gateway(std::uint32_t index) const { return gateway(index) != nullptr; }
  net::engine_link* link(std::uint32_t index) const;

 private:
  struct served_gateway {
    std::uint32_t index = 0;
    std::shared_ptr<actors::gateway_board> board;
    std::shared_ptr<actors::gateway_link> link;
    actors::gateway_actor actor;
  };
  const served_gateway* gateway(std::uint32_t index) const;
  void spawn_gateways();
  void spawn_first();
  void spawn_node();
  void check_result(const caf::type_erased_tuple& message);

  surroundings& around_;
  process_id id_;
  std::uint32_t node_index_;
  caf::actor_system system_;
  caf::scheduler::test_coordinator& scheduler_;
  endpoint end_;
  actors::node_parts parts_;
  bool dead_ = false, leaving_ = false;
  std::uint64_t steps_ = 0;                  // that the scheduler applied
  std::uint32_t epoch_ = 0;                  // of the scheduler
  std::vector<std::function<void()>> held_;  // while paused
  std::vector<served_gateway> gateways_;
  actors::dialer_actor dialer_;
  actors::supervisor_actor supervisor_;
  actors::directory_actor directory_;
  actors::node_actor node_;
};

}  // namespace dinfer::sim

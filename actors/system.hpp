// SPDX-License-Identifier: Apache-2.0
// cluster_config to CAF's settings, and the registration of every message type. The settings are
// the measured ones: one work queue without polling, no hop between socket and actor, heartbeats
// on every node. Call before the actor system is made, on that thread.
#pragma once

#include "actors/seam.hpp"
#include "dinfer/config.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace dinfer::actors {

struct system_options {
  health_section health;
  std::uint32_t protocol = 0;
  bool network = true;         // several nodes: load the middleman
  bool deterministic = false;  // CAF's test scheduler runs the actors, for tests
};

class system_config : public caf::actor_system_config {
 public:
  explicit system_config(const system_options& options);
};

// The actor system of a process that has no other.
class own_system {
 public:
  explicit own_system(const system_options& options);
  ~own_system();  // as it is: without end() it is left behind
  caf::actor_system& system() { return *system_; }
  // Once no actor is left. False: it does not end within the limit, and is left behind.
  bool end(milliseconds limit);

 private:
  std::unique_ptr<system_config> settings_;
  std::unique_ptr<caf::actor_system> system_;
};

// For a configuration that is not ours; both may be called again.
void add_types(caf::actor_system_config& config);
// Loads the middleman. `names` are the networks that this system belongs to, in CAF's words; nodes
// with none in common do not speak.
void add_network(caf::actor_system_config& config, const health_section& health,
                 const std::vector<std::string>& names);
// That of the clusters of a protocol.
std::string network_name(std::uint32_t protocol);

}  // namespace dinfer::actors

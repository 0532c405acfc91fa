// SPDX-License-Identifier: Apache-2.0
// cluster_config to CAF's settings, and the registration of every message type. The settings are
// the measured ones: one work queue without polling, no hop between socket and actor, heartbeats
// on every node. Call on the thread that makes the actor system.
#pragma once

#include "actors/seam.hpp"
#include "dinfer/config.hpp"

#include <cstdint>

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

}  // namespace dinfer::actors

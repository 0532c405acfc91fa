// SPDX-License-Identifier: Apache-2.0
// What a seed stands for: the shape of a cluster, its clients' requests and the faults that it has
// to live through. Drawn before anything runs.
#pragma once

#include "dinfer/config.hpp"
#include "dinfer/request.hpp"
#include "tests/sim/world.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace dinfer::sim {

enum class fault_kind : std::uint8_t {
  kill,       // a process dies and is started again
  terminate,  // a process is asked to leave, and is started again
  pause,      // a process stands still, then goes on
  partition,  // nothing passes between two nodes
  one_way,    // nothing passes from one node to another
  cut,        // a connection is lost with what is under way in it
  slow,       // messages from one node to another are late
  device_fails,
  device_hangs,
};

struct fault {
  fault_kind kind = fault_kind::kill;
  usec at = 0, lasts = 0;  // of a process that ends: until it is started again
  std::uint32_t node = 0;  // of two nodes the other is the first, as all talk to that one alone
  bool to_first = false;   // of one_way and slow: the direction
  usec extra = 0;          // of slow
};

struct planned_request {
  usec at = 0;
  std::uint32_t gateway = 0;
  generate_request request;  // without its id
  usec cancel_after = 0;     // 0: never
};

struct scenario {
  std::shared_ptr<cluster_config> config;
  std::vector<planned_request> requests;
  std::vector<fault> faults;
};

scenario draw_scenario(std::uint64_t seed);
std::string words_of(const scenario& s);
std::string words_of(const fault& f);

}  // namespace dinfer::sim

// SPDX-License-Identifier: Apache-2.0
// A whole simulated cluster: runs a scenario message by message, in an order that the seed draws,
// plays the faults and the requests, starts processes again, and judges what came of it.
#pragma once

#include "tests/sim/process.hpp"
#include "tests/sim/scenario.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace dinfer::sim {

// Bugs that only the simulator can have, to see that it would find them.
enum class plant : std::uint8_t {
  none,
  lost_result,  // the network loses a message and keeps the connection
  double_free,  // the scheduler frees the blocks of a running sequence
  stale_epoch,  // a device answers with what it computed in the epoch before
};

struct outcome {
  std::string failure;  // the first invariant that broke; empty: none
  std::uint64_t hash = 0;
  tally counts;
  std::uint64_t messages = 0, lives = 0, faults_told = 0;
  usec time = 0;
  usec recovery = 0;  // from the last fault's end until every request has ended and all is ready
};

class cluster {
 public:
  cluster(std::uint64_t seed, scenario what, plant bug, bool tracing);
  outcome run();

 private:
  void plan_faults();
  void plan_requests();
  void plan_bug();
  void start(std::uint32_t node);
  // Ends a process and all that it keeps; it is started again.
  void end(std::uint32_t node, usec restart_after, const std::string& how);
  std::optional<std::uint32_t> parent_of(std::uint32_t node) const;
  void leave(process_id id, int code);
  void kill_child(process_id child);
  process* find(process_id id);
  void in_process(process_id id, usec delay, std::function<void()> event);

  void begin_fault(const fault& f);
  void end_fault(const fault& f);
  void freeze(const fault& f);
  void submit(const planned_request& planned, int tries);
  bool give(generate_request request, std::uint32_t gateway, usec cancel_after);

  void step();
  bool run_message();
  void look();
  bool healthy() const;
  void check_idle();
  void check_patience();
  void note_change(const runtime::scheduler& core);
  void note_fault(const std::string& node, const std::string& cause);

  scenario scenario_;
  plant bug_;
  world world_;
  actors::system_config settings_;
  network net_;
  clients people_;
  device_room devices_;
  surroundings around_;
  std::vector<std::unique_ptr<process>> processes_;  // by node; nullptr: none now
  process_id lives_ = 0, first_life_ = 0;            // so far; of the first node's first process
  std::uint64_t messages_ = 0, faults_told_ = 0;
  usec excused_until_ = -1;   // until then faults may be told
  usec scripted_until_ = 0;   // from then on nothing is broken or asked any more
  std::size_t unplayed_ = 0;  // requests that nobody has taken yet
  runtime::scheduler_stats stats_;
  enum class phase { playing, asking, resting, done } phase_ = phase::playing;
  std::vector<request_id> fresh_;
  usec rest_until_ = 0, recovery_ = 0;
};

}  // namespace dinfer::sim

// SPDX-License-Identifier: Apache-2.0
// Pretended devices that work beside their shards: a step takes simulated time, is complete once
// every rank of the group has begun it, and its result comes later, as a GPU's does. They can fail,
// hang, lose a peer, and they check that no shard gets a plan that it cannot follow.
#pragma once

#include "runtime/runner.hpp"
#include "tests/sim/network.hpp"

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>

namespace dinfer::sim {

class device;
struct device_group;

class device_room {
 public:
  // Runs an event in a process: later while it is paused, never once it is dead.
  using deliver = std::function<void(process_id, usec delay, std::function<void()>)>;

  device_room(world& w, const network& net, usec collective_timeout, deliver in_process)
      : world_(w), net_(net), timeout_(collective_timeout), in_process_(std::move(in_process)) {}

  std::unique_ptr<runtime::runner> make(std::unique_ptr<runtime::runner> fake, process_id owner,
                                        std::uint32_t node);

  // Faults: the next step that a device of this node begins fails, or is never done.
  void fail_on(std::uint32_t node) { fail_on_ = node; }
  void hang_on(std::uint32_t node) { hang_on_ = node; }
  void spare() {
    fail_on_.reset();
    hang_on_.reset();
  }
  // A planted bug: a result of the epoch before stands in for one of this epoch.
  void reuse_results() { reuse_ = true; }

  // No step is under way, hanging ones included.
  bool idle() const;
  // Whether this was computed as that step of that epoch.
  bool computed(const runtime::step_result& result) const;

 private:
  friend class device;
  friend struct device_group;

  world& world_;
  const network& net_;
  usec timeout_;
  deliver in_process_;
  bool reuse_ = false;
  std::optional<std::uint32_t> fail_on_, hang_on_;
  std::uint64_t cards_ = 0;
  std::map<std::string, device*> by_card_;
  std::map<std::string, std::weak_ptr<device_group>> groups_;  // by all cards
  std::set<std::pair<std::pair<std::uint32_t, std::uint64_t>, std::uint64_t>> computed_;
};

}  // namespace dinfer::sim

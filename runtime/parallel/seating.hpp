// SPDX-License-Identifier: Apache-2.0
// The devices of a cluster and who sits where: used by place() alone. Pure.
#pragma once

#include "runtime/parallel/placement.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace dinfer::runtime {

struct device_slot {
  std::size_t node = 0;
  std::size_t machine = 0;       // nodes may share one
  std::string name;              // "cuda:1"
  std::string kind;              // "cuda"
  std::uint64_t own_bytes = 0;   // 0: works in the machine's memory
  std::uint64_t used_bytes = 0;  // of these, by others
  bool fp8 = true;               // a GPU that multiplies 8-bit floats
};

class seating {
 public:
  seating(const cluster_config& config, std::span<const host_facts> hosts);

  // Errors: invalid_argument (no device, kinds mixed), internal (hosts are not those of config).
  result<void> check() const;

  const std::vector<device_slot>& devices() const noexcept { return devices_; }
  std::uint32_t most_in_a_node() const noexcept;
  std::string inventory() const;  // "4 (a: 3, b: 1)"

  // A device for every rank, stages whole inside a node; across nodes only where `may_cross` and
  // there is no other way. Error: invalid_argument, when a stage finds no node.
  result<std::vector<const device_slot*>> seat(std::uint32_t tp, std::uint32_t pp,
                                               bool may_cross) const;

  // CPU threads of each rank: `configured`, or the machine's cores shared out over its ranks;
  // pinned where the cores suffice.
  void share_cores(std::uint32_t configured, const std::vector<const device_slot*>& seats,
                   std::vector<placed_rank>& ranks) const;

  // Weights, workspace and cache of each rank, and the blocks that all can hold. Error:
  // out_of_memory.
  result<void> share_memory(const model_shape& shape, const weight_estimate& weights,
                            const std::vector<const device_slot*>& seats, placement& plan) const;

 private:
  struct machine_slot {
    std::string name;
    host_facts facts;
  };
  struct memory_budget {
    std::uint64_t bytes = 0;  // for everything of one rank
    bool known = false;
    bool own_memory = false;
  };
  std::size_t machine_of(const host_facts& facts);
  memory_budget budget_of(const device_slot& seat, std::size_t ranks_on_machine) const;
  result<std::uint64_t> blocks_of(const placed_rank& rank, const memory_budget& budget,
                                  std::uint64_t block_bytes, const placement& plan) const;
  std::string rank_text(const placed_rank& rank) const;

  const cluster_config& config_;
  bool hosts_match_ = false;
  std::vector<machine_slot> machines_;
  std::vector<device_slot> devices_;  // in the configuration's order
};

}  // namespace dinfer::runtime

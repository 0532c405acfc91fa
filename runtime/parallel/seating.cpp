// SPDX-License-Identifier: Apache-2.0
// Devices, cores and memory of machines, dealt to ranks.
#include "runtime/parallel/seating.hpp"

#include "runtime/base/config_defaults.hpp"
#include "runtime/parallel/memory_plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

namespace dinfer::runtime {
namespace {

constexpr double usable_fraction = 0.9;  // of a machine's memory; the rest is the system's
constexpr std::uint64_t most_cpu_cache = std::uint64_t{4} << 30;  // per rank, when not configured
constexpr std::uint32_t least_cached_tokens = 4096;  // of one request, when max_model_len is open

std::uint64_t fraction_of(std::uint64_t bytes, double fraction) noexcept {
  return static_cast<std::uint64_t>(static_cast<double>(bytes) * fraction);
}

std::uint64_t blocks_for(std::uint64_t tokens, std::uint32_t block_size) noexcept {
  return (tokens + block_size - 1) / block_size;
}

}  // namespace

seating::seating(const cluster_config& config, std::span<const host_facts> hosts)
    : config_(config), hosts_match_(hosts.size() == config.nodes.size()) {
  if (!hosts_match_) return;
  for (std::size_t node = 0; node < hosts.size(); ++node) {
    const std::size_t here = machine_of(hosts[node]);
    const auto& names = config.nodes[node].devices;
    for (std::size_t i = 0; i < names.size(); ++i) {
      device_slot slot;
      slot.node = node;
      slot.machine = here;
      slot.name = names[i];
      slot.kind = names[i].substr(0, names[i].find(':'));
      slot.fp8 = hosts[node].fp8;
      if (i < hosts[node].device_bytes.size()) slot.own_bytes = hosts[node].device_bytes[i];
      if (i < hosts[node].device_free_bytes.size())
        slot.used_bytes =
            slot.own_bytes - std::min(slot.own_bytes, hosts[node].device_free_bytes[i]);
      devices_.push_back(std::move(slot));
    }
  }
}

std::size_t seating::machine_of(const host_facts& facts) {
  for (std::size_t i = 0; i < machines_.size() && !facts.machine.empty(); ++i)
    if (machines_[i].name == facts.machine) return i;
  machines_.push_back({facts.machine, facts});
  return machines_.size() - 1;
}

result<void> seating::check() const {
  if (!hosts_match_) return fail(errc::internal, "facts of hosts are not those of the nodes");
  if (devices_.empty())
    return fail(errc::invalid_argument, "node.devices: no node lists a device; name one, \"cpu:0\"",
                "node.devices");
  for (const device_slot& device : devices_)
    if (device.kind != devices_.front().kind)
      return fail(errc::invalid_argument,
                  fmt::format("node.devices: {} and {} are of different kinds; one kind serves a "
                              "model",
                              devices_.front().name, device.name),
                  "node.devices");
  return {};
}

std::uint32_t seating::most_in_a_node() const noexcept {
  std::size_t most = 0;
  for (const node_section& node : config_.nodes) most = std::max(most, node.devices.size());
  return static_cast<std::uint32_t>(most);
}

std::string seating::inventory() const {
  std::string out;
  for (const node_section& node : config_.nodes)
    out += fmt::format("{}{}: {}", out.empty() ? "" : ", ", node.name, node.devices.size());
  return fmt::format("{} ({})", devices_.size(), out);
}

result<std::vector<const device_slot*>> seating::seat(std::uint32_t tp, std::uint32_t pp,
                                                      bool may_cross) const {
  std::vector<const device_slot*> seats;
  std::size_t next = 0;  // devices before it are taken or given up
  for (std::uint32_t stage = 0; stage < pp; ++stage) {
    while (next + tp <= devices_.size() && devices_[next].node != devices_[next + tp - 1].node)
      ++next;
    if (next + tp > devices_.size()) break;
    for (std::uint32_t i = 0; i < tp; ++i) seats.push_back(&devices_[next++]);
  }
  if (seats.size() == std::size_t{tp} * pp) return seats;
  if (!may_cross || devices_.size() < std::size_t{tp} * pp)
    return fail(errc::invalid_argument,
                fmt::format("tensor_parallel_size = {}: {} stages do not find as many devices each "
                            "inside a node; the nodes list {}",
                            tp, pp, inventory()),
                "tensor_parallel_size");
  seats.clear();
  for (std::size_t i = 0; i < std::size_t{tp} * pp; ++i) seats.push_back(&devices_[i]);
  return seats;
}

void seating::share_cores(std::uint32_t configured, const std::vector<const device_slot*>& seats,
                          std::vector<placed_rank>& ranks) const {
  for (std::size_t m = 0; m < machines_.size(); ++m) {
    const host_facts& facts = machines_[m].facts;
    const auto here = static_cast<std::uint32_t>(
        std::count_if(seats.begin(), seats.end(), [m](auto s) { return s->machine == m; }));
    if (here == 0) continue;
    std::uint32_t spare = facts.cores % here;  // ranks that get a core more
    if (configured != 0 || facts.cores < here) spare = 0;
    const std::uint32_t each =
        configured != 0 ? configured : std::max<std::uint32_t>(facts.cores / here, 1);
    const bool pinned = facts.first_core >= 0 && std::uint64_t{each} * here + spare <= facts.cores;
    std::int32_t core = facts.first_core;
    for (std::size_t i = 0; i < seats.size(); ++i) {
      if (seats[i]->machine != m) continue;
      ranks[i].cpu_threads = each + (spare > 0 ? 1 : 0);
      if (spare > 0) --spare;
      if (!pinned) continue;
      ranks[i].first_core = core;
      core += static_cast<std::int32_t>(ranks[i].cpu_threads);
    }
  }
}

seating::memory_budget seating::budget_of(const device_slot& seat,
                                          std::size_t ranks_on_machine) const {
  memory_budget out;
  out.own_memory = seat.own_bytes != 0;
  const std::uint64_t machine = machines_[seat.machine].facts.memory_bytes;
  out.known = out.own_memory || machine != 0;
  if (out.own_memory) {
    const std::uint64_t ours = fraction_of(seat.own_bytes, memory_fraction(config_));
    out.bytes = ours - std::min(ours, seat.used_bytes);
  } else {
    out.bytes = fraction_of(machine / ranks_on_machine, usable_fraction);
  }
  return out;
}

std::string seating::rank_text(const placed_rank& rank) const {
  return fmt::format("rank {} on {}/{}", rank.layout.rank, config_.nodes[rank.node].name,
                     rank.device);
}

// Blocks of this rank's cache, the null block included, such that the rank stays within its budget.
result<std::uint64_t> seating::blocks_of(const placed_rank& rank, const memory_budget& budget,
                                         std::uint64_t block_bytes, const placement& plan) const {
  const std::uint64_t fixed = rank.weight_bytes + rank.steps.sum();
  const std::uint64_t room = !budget.known          ? std::numeric_limits<std::uint64_t>::max()
                             : budget.bytes > fixed ? budget.bytes - fixed
                                                    : 0;
  const cache_section& cache = config_.cache;
  const std::uint64_t one_request = config_.model.max_model_len != 0
                                        ? plan.max_model_len
                                        : std::min(plan.max_model_len, least_cached_tokens);
  std::uint64_t least = blocks_for(one_request, plan.block_size) + 1;
  std::uint64_t wanted = 0;
  if (cache.blocks != 0) least = wanted = std::uint64_t{cache.blocks} + 1;
  else if (cache.memory_bytes != 0) least = wanted = cache.memory_bytes / block_bytes;
  else {
    const std::uint64_t useful =
        blocks_for(plan.max_model_len, plan.block_size) * config_.scheduler.max_num_seqs + 1;
    const std::uint64_t bytes = budget.own_memory ? room : std::min(room / 2, most_cpu_cache);
    wanted = std::max(std::min(bytes / block_bytes, useful), least);
  }
  if (cache.memory_bytes != 0 && wanted < 2)
    return fail(errc::invalid_argument,
                fmt::format("cache.memory: {} hold no block of {} on {}; at least {}",
                            size_text(cache.memory_bytes), size_text(block_bytes), rank_text(rank),
                            size_text(2 * block_bytes)),
                "cache.memory");
  if (wanted <= room / block_bytes) return wanted;
  return fail(errc::out_of_memory,
              fmt::format("{} needs {} of weights, {} for its steps and {} of cache ({} tokens); "
                          "there are {} for it",
                          rank_text(rank), size_text(rank.weight_bytes),
                          size_text(rank.steps.sum()), size_text(least * block_bytes),
                          (least - 1) * plan.block_size, size_text(budget.bytes)),
              rank.device);
}

result<void> seating::share_memory(const model_shape& shape, const weight_estimate& weights,
                                   const std::vector<const device_slot*>& seats,
                                   placement& plan) const {
  const device_rules rules = rules_for(config_, shape, weights);
  plan.block_size = rules.block_size;
  plan.max_model_len = rules.max_model_len;
  std::vector<std::size_t> ranks_on(machines_.size(), 0);
  for (const device_slot* seat : seats) ++ranks_on[seat->machine];

  std::uint64_t blocks = std::numeric_limits<std::uint32_t>::max();
  for (std::size_t i = 0; i < plan.ranks.size(); ++i) {
    placed_rank& rank = plan.ranks[i];
    device_rules own = rules;
    own.keeps_f8 = rules.keeps_f8 && seats[i]->fp8;
    rank.weight_bytes = planned_weight_bytes(shape, rank.layout, weights, own);
    rank.steps = planned_step_memory(shape, rank.layout, own);
    const std::uint64_t block_bytes = planned_block_bytes(shape, rank.layout, rules);
    const memory_budget budget = budget_of(*seats[i], ranks_on[seats[i]->machine]);
    if (budget.known) rank.budget_bytes = budget.bytes;
    DINFER_TRY(const auto held, blocks_of(rank, budget, block_bytes, plan));
    blocks = std::min(blocks, held);
  }
  // The pool is as large as the smallest rank's; nobody keeps more.
  plan.cache_blocks = static_cast<std::uint32_t>(blocks - 1);
  for (placed_rank& rank : plan.ranks)
    rank.cache_bytes = blocks * planned_block_bytes(shape, rank.layout, rules);
  return {};
}

}  // namespace dinfer::runtime

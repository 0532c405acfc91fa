// SPDX-License-Identifier: Apache-2.0
// See scenario.hpp.
#include "tests/sim/scenario.hpp"

#include "runtime/fake_runner.hpp"
#include "tests/sim/clients.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace dinfer::sim {

namespace {

constexpr usec first_request = 500 * millisecond, last_request = 6 * second;
constexpr usec first_fault = 600 * millisecond, last_fault = 6 * second;
constexpr usec most_between = 400 * millisecond;
constexpr std::uint32_t block_size = 4, longest_prompt = 24, most_tokens = 12;

std::uint32_t pick(dice& d, std::uint32_t least, std::uint32_t most) {
  return static_cast<std::uint32_t>(d.between(least, most));
}

// Three or four nodes, two to four ranks on them; the last node may have no device at all.
void draw_shape(dice& d, cluster_config& config) {
  const auto nodes = pick(d, 3, 4);
  std::uint32_t devices = 0;
  for (std::uint32_t n = 0; n < nodes; ++n) {
    node_section node;
    node.name = std::string(1, static_cast<char>('a' + n));
    node.address = std::to_string(n);
    const bool none = n + 1 == nodes ? d.chance(30) : n == 0 && d.chance(20);
    for (std::uint32_t i = none ? 0 : pick(d, 1, 4) / 4 + 1; i > 0 && devices < 4; --i, ++devices)
      node.devices.push_back("fake:" + std::to_string(node.devices.size()));
    config.nodes.push_back(std::move(node));
  }
  // Some are kept by another one, as with a process for each device.
  if (d.chance(40))
    for (std::uint32_t n = 1; n < nodes; ++n)
      if (d.chance(60)) config.nodes[n].parent = config.nodes[n > 1 && d.chance(30) ? 1 : 0].name;
  if (!config.nodes[1].parent.empty())
    for (auto& node : config.nodes)
      if (node.parent == config.nodes[1].name) node.parent = config.nodes[0].name;
  config.parallel.pipeline_parallel_size = pick(d, 1, devices);
  config.parallel.tensor_parallel_size = devices / config.parallel.pipeline_parallel_size;
  for (std::uint32_t n = 0; n < nodes; ++n) {
    if (n != 0 && !d.chance(40)) continue;
    gateway_section gateway;
    gateway.node = config.nodes[n].name;
    config.gateways.push_back(std::move(gateway));
  }
}

void draw_limits(dice& d, cluster_config& config) {
  config.scheduler.max_num_seqs = pick(d, 2, 8);
  config.scheduler.max_num_batched_tokens = pick(d, 8, 48);
  config.cache.block_size = block_size;
  config.cache.blocks = pick(d, (longest_prompt + most_tokens) / block_size, 40);
  config.cache.prefix_caching = d.chance(80);
  config.model.max_model_len = 64;
  config.health.collective_timeout_ms = 3000;
  config.health.step_timeout_ms = 5000;
  config.health.startup_timeout_ms = 20'000;
  constexpr std::array<std::uint32_t, 4> patience{0, 1500, 8000, 30'000};
  config.health.resume_timeout_ms = patience[d.below(patience.size())];
}

fault draw_fault(dice& d, std::uint32_t nodes) {
  // What ends the first node ends all: it is not drawn too often.
  constexpr std::array<fault_kind, 14> kinds{
      fault_kind::kill,         fault_kind::kill,        fault_kind::kill,  fault_kind::terminate,
      fault_kind::pause,        fault_kind::pause,       fault_kind::pause, fault_kind::partition,
      fault_kind::partition,    fault_kind::one_way,     fault_kind::cut,   fault_kind::slow,
      fault_kind::device_fails, fault_kind::device_hangs};
  fault f;
  f.kind = kinds[d.below(kinds.size())];
  f.at = d.between(first_fault, last_fault);
  f.lasts = d.chance(50) ? d.between(20, 600) * millisecond : d.between(600, 5000) * millisecond;
  const bool of_two = f.kind == fault_kind::partition || f.kind == fault_kind::one_way ||
                      f.kind == fault_kind::cut || f.kind == fault_kind::slow;
  f.node = !of_two && d.chance(20) ? 0 : pick(d, 1, nodes - 1);
  f.to_first = d.chance(50);
  f.extra = d.between(50, 1500) * millisecond;
  return f;
}

generate_request draw_request(dice& d) {
  generate_request r;
  // Few beginnings, so that prefixes are shared.
  const auto beginning = static_cast<token_id>(d.below(3));
  const auto length = pick(d, 1, longest_prompt);
  const auto shared = d.below(length + 1);
  for (std::uint32_t i = 0; i < length; ++i)
    r.prompt.push_back(i < shared ? beginning : static_cast<token_id>(d.below(vocabulary)));
  r.sampling.temperature = 0;
  r.sampling.seed = d.below(4);
  r.sampling.max_tokens = pick(d, 1, most_tokens);
  r.priority = d.chance(20) ? -1 : 0;
  if (d.chance(20)) {  // one that stops early
    auto tokens = r.prompt;
    const auto seed = runtime::fake_seed(0, r.sampling.seed);
    for (std::uint64_t i = d.below(r.sampling.max_tokens) + 1; i > 0; --i)
      tokens.push_back(runtime::fake_next_token(tokens, seed, vocabulary));
    r.sampling.stop_token_ids = {tokens.back()};
  }
  return r;
}

}  // namespace

scenario draw_scenario(std::uint64_t seed) {
  dice d(seed * 0x2545f4914f6cdd1dULL + 1);
  scenario s;
  s.config = std::make_shared<cluster_config>();
  draw_shape(d, *s.config);
  draw_limits(d, *s.config);
  for (auto left = d.between(2, 4); left > 0; --left) {
    auto f = draw_fault(d, static_cast<std::uint32_t>(s.config->nodes.size()));
    if (!s.faults.empty() && d.chance(40)) {  // in the middle of what the last one set off
      const auto& last = s.faults.back();
      f.at = last.at + (d.chance(50) ? last.lasts : 0) + d.between(0, most_between);
    }
    s.faults.push_back(f);
  }
  for (auto left = d.between(20, 28); left > 0; --left) {
    planned_request r;
    r.request = draw_request(d);
    r.gateway = static_cast<std::uint32_t>(d.below(s.config->gateways.size()));
    // Half of them are under way when something breaks.
    r.at = d.chance(50) ? std::max(first_request, s.faults[d.below(s.faults.size())].at -
                                                      d.between(0, 250) * millisecond)
                        : d.between(first_request, last_request);
    if (d.chance(8)) r.cancel_after = d.between(1, 120) * millisecond;
    s.requests.push_back(std::move(r));
  }
  return s;
}

std::string words_of(const fault& f) {
  constexpr std::array<const char*, 9> names{"kill",      "terminate",         "pause",
                                             "partition", "one-way partition", "cut connection",
                                             "slow link", "device fails",      "device hangs"};
  return fmt::format("{} of node {}{} at {} ms for {} ms", names[static_cast<std::size_t>(f.kind)],
                     static_cast<char>('a' + f.node), f.to_first ? " (to the first)" : "",
                     f.at / millisecond, f.lasts / millisecond);
}

std::string words_of(const scenario& s) {
  const auto& c = *s.config;
  std::string devices, gateways;
  for (const auto& node : c.nodes) {
    devices += fmt::format(" {}:{}", node.name, node.devices.size());
    if (!node.parent.empty()) devices += " (kept by " + node.parent + ")";
  }
  for (const auto& gateway : c.gateways) gateways += " " + gateway.node;
  auto text = fmt::format(
      "devices{}, {} x {}, gateways{}, {} blocks, {} sequences, {} requests, they wait {} ms\n",
      devices, c.parallel.pipeline_parallel_size, c.parallel.tensor_parallel_size, gateways,
      c.cache.blocks, c.scheduler.max_num_seqs, s.requests.size(), c.health.resume_timeout_ms);
  for (const auto& f : s.faults) text += "  " + words_of(f) + "\n";
  return text;
}

}  // namespace dinfer::sim

// SPDX-License-Identifier: Apache-2.0
// See orders.hpp.
#include "actors/orders.hpp"

#include "runtime/base/config_defaults.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

namespace dinfer::actors {

namespace {

// The first line in which two texts differ, ours and theirs.
std::pair<std::string_view, std::string_view> first_difference(std::string_view ours,
                                                               std::string_view theirs) {
  while (!ours.empty() || !theirs.empty()) {
    const auto a = ours.substr(0, ours.find('\n'));
    const auto b = theirs.substr(0, theirs.find('\n'));
    if (a != b) return {a, b};
    ours.remove_prefix(std::min(ours.size(), a.size() + 1));
    theirs.remove_prefix(std::min(theirs.size(), b.size() + 1));
  }
  return {};
}

std::vector<std::int64_t> flatten(const runtime::rank_layout& l) {
  std::vector<std::int64_t> out;
  for (const auto& r : {l.layers, l.query_heads, l.kv_heads, l.mlp, l.vocabulary}) {
    out.push_back(r.begin);
    out.push_back(r.end);
  }
  return out;
}

}  // namespace

std::string at_address(const cluster_config& config, std::size_t node) {
  const auto& section = config.nodes[node];
  return section.port == 0 ? "" : fmt::format(" at {}:{}", section.address, section.port);
}

result<void> admit(const hello& ours, const hello& theirs, const cluster_config& config) {
  const bool known = theirs.index < config.nodes.size();
  const auto who = known ? theirs.node + at_address(config, theirs.index) : theirs.node;
  const auto refuse = [&](std::string_view what, std::string_view there, std::string_view here) {
    return fail(errc::mismatch,
                fmt::format("node {} was refused by {}: {} is \"{}\" there and \"{}\" here", who,
                            ours.node, what, there, here),
                std::string(what));
  };
  if (theirs.protocol != ours.protocol)
    return refuse("protocol", std::to_string(theirs.protocol), std::to_string(ours.protocol));
  if (theirs.build != ours.build) return refuse("build", theirs.build, ours.build);
  if (!known || config.nodes[theirs.index].name != theirs.node)
    return fail(errc::mismatch,
                fmt::format("node {} was refused by {}: the configuration here has no such node",
                            theirs.node, ours.node),
                "node");
  if (theirs.config != ours.config) {
    const auto [here, there] = first_difference(ours.config, theirs.config);
    return refuse("configuration", there, here);
  }
  if (theirs.model != ours.model) return refuse("model", theirs.model, ours.model);
  return {};
}

host_words words_of(const runtime::host_facts& host) {
  return {host.cores,        host.first_core,        host.memory_bytes,
          host.device_bytes, host.device_free_bytes, host.machine,
          host.fp8};
}

runtime::host_facts facts_of(const host_words& host) {
  return {host.cores,        host.first_core,        host.memory_bytes,
          host.device_bytes, host.device_free_bytes, host.machine,
          host.fp8};
}

shard_order order_of(const cluster_plan& plan, std::size_t rank) {
  const auto& planned = plan.ranks[rank];
  const auto& l = planned.layout;
  shard_order order;
  order.rank = static_cast<std::uint32_t>(rank);
  order.device = planned.device;
  order.stage = l.stage;
  order.stages = l.stages;
  order.tp_rank = l.tp_rank;
  order.tp_size = l.tp_size;
  order.ranges = flatten(l);
  order.kv_of_query = l.kv_of_query;
  order.max_model_len = plan.max_model_len;
  order.cpu_threads = planned.cpu_threads;
  order.first_core = planned.first_core;
  order.cache_bytes = planned.cache_bytes;
  return order;
}

result<runtime::runner_options> options_of(const shard_order& order, const cluster_config& config) {
  if (order.ranges.size() != 10)
    return fail(errc::mismatch, "a shard order without five ranges", "ranges");
  const auto pair = [&](std::size_t i) {
    return runtime::range{order.ranges[2 * i], order.ranges[2 * i + 1]};
  };
  runtime::runner_options out;
  out.device = order.device;
  if (order.cpu_threads != 0) out.device_options.cpu_threads = order.cpu_threads;
  out.device_options.first_core = order.first_core;
  out.device_options.activation =
      runtime::device_activation(config.model.dtype, runtime::on_cuda(config));
  out.device_options.batch_invariant = config.scheduler.batch_invariant;
  out.model_path = config.model.path;
  out.format = config.model.format;
  out.seed = config.model.seed;
  out.dequantize = config.model.dequantize;
  out.quantization = config.model.quantization;
  out.max_model_len = order.max_model_len;
  out.max_num_seqs = config.scheduler.max_num_seqs;
  out.max_num_batched_tokens = runtime::batched_tokens(config);
  out.block_size = config.cache.block_size;
  out.cache_bytes = order.cache_bytes;
  out.memory_fraction = runtime::memory_fraction(config);
  out.cache_blocks = config.cache.blocks;
  out.kv_cache_dtype = config.cache.kv_cache_dtype;
  out.graphs = config.cuda.graphs;
  out.layout.rank = static_cast<std::int32_t>(order.rank);
  out.layout.stage = order.stage;
  out.layout.stages = order.stages;
  out.layout.tp_rank = order.tp_rank;
  out.layout.tp_size = order.tp_size;
  out.layout.layers = pair(0);
  out.layout.query_heads = pair(1);
  out.layout.kv_heads = pair(2);
  out.layout.mlp = pair(3);
  out.layout.vocabulary = pair(4);
  out.layout.kv_of_query = order.kv_of_query;
  out.collective_timeout = std::chrono::milliseconds(config.health.collective_timeout_ms);
  return out;
}

result<runtime::scheduler_config> scheduler_config_of(const cluster_config& config,
                                                      const cluster_plan& plan,
                                                      const std::vector<cache_offer>& offers,
                                                      std::uint32_t epoch) {
  constexpr std::uint64_t most_queued_tokens = 16ULL << 20;
  runtime::scheduler_config out;
  const auto& s = config.scheduler;
  out.max_num_seqs = s.max_num_seqs;
  out.max_num_batched_tokens = runtime::batched_tokens(config);
  out.max_num_mixed_tokens = runtime::mixed_tokens(config);
  out.max_model_len = plan.max_model_len;
  out.max_queued_requests = s.max_queued_requests != 0 ? s.max_queued_requests : 4 * s.max_num_seqs;
  out.max_queued_tokens =
      s.max_queued_tokens != 0
          ? s.max_queued_tokens
          : std::min<std::uint64_t>(most_queued_tokens, 8ULL * plan.max_model_len * s.max_num_seqs);
  out.prefix_caching = config.cache.prefix_caching;
  out.stages = plan.stages;
  out.max_in_flight = plan.stages + 1;  // one step ahead
  out.eos_tokens = plan.eos_tokens;
  out.epoch = epoch;
  for (std::size_t rank = 0; rank < offers.size(); ++rank) {
    const auto& offer = offers[rank];
    if (rank == 0) {
      out.block_size = offer.block_size;
      out.groups.resize(offer.blocks.size());
      for (std::size_t g = 0; g < offer.blocks.size(); ++g) out.groups[g].blocks = offer.blocks[g];
    }
    if (offer.block_size != out.block_size || offer.blocks.size() != out.groups.size())
      return fail(errc::mismatch,
                  rank_words(config, plan, rank) + " has another block size or other KV groups",
                  "cache.block_size");
    for (std::size_t g = 0; g < offer.blocks.size(); ++g) {
      if (offer.blocks[g] == 0)
        return fail(errc::out_of_memory,
                    rank_words(config, plan, rank) + " has no memory for a KV block",
                    "cache.memory");
      out.groups[g].blocks = std::min(out.groups[g].blocks, offer.blocks[g]);
    }
  }
  return out;
}

std::string rank_words(const cluster_config& config, const cluster_plan& plan, std::size_t rank) {
  if (rank >= plan.ranks.size()) return "rank " + std::to_string(rank);
  const auto& planned = plan.ranks[rank];
  return fmt::format("rank {} (stage {}, node {}, {})", rank, planned.layout.stage,
                     config.nodes[planned.node].name, planned.device);
}

std::string overdue_words(const cluster_config& config, const cluster_plan& plan,
                          const step_overdue& step, const std::vector<rank_progress>& ranks) {
  std::map<std::uint32_t, rank_progress> known;
  for (const auto& r : ranks) known[r.rank] = r;
  std::vector<std::string> words;
  for (std::size_t rank = 0; rank < plan.ranks.size(); ++rank) {
    const auto found = known.find(static_cast<std::uint32_t>(rank));
    const auto who = rank_words(config, plan, rank);
    if (found == known.end()) words.push_back(who + " gives no answer");
    else if (found->second.started < step.step)
      words.push_back(
          fmt::format("{} has not begun it (its last is {})", who, found->second.finished));
    else if (found->second.finished < step.step) words.push_back(who + " is still in it");
  }
  if (words.empty()) words.emplace_back("every rank says it is done, and no result came");
  return fmt::format("step {} had no result after {} ms: {}", step.step, step.age_ms,
                     fmt::join(words, "; "));
}

}  // namespace dinfer::actors

// SPDX-License-Identifier: Apache-2.0
// See fake_parts.hpp.
#include "actors/fake_parts.hpp"

#include "dinfer/version.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace dinfer::actors {

namespace {

constexpr std::uint32_t default_block_size = 16, default_model_len = 4096;

std::unique_ptr<runtime::runner> make_fake(const runtime::runner_options& rank,
                                           const fake_parts_options& options) {
  runtime::fake_options fake;
  fake.layout = rank.layout;
  fake.max_num_seqs = rank.max_num_seqs;
  fake.max_num_batched_tokens = rank.max_num_batched_tokens;
  fake.max_model_len = rank.max_model_len;
  fake.block_size = rank.block_size != 0 ? rank.block_size : default_block_size;
  fake.groups = {{rank.cache_blocks != 0 ? rank.cache_blocks : options.blocks, 0}};
  fake.vocabulary = options.vocabulary;
  fake.seed = options.seed;
  if (options.adjust) options.adjust(fake);
  return runtime::make_fake_runner(std::move(fake));
}

}  // namespace

result<cluster_plan> plan_fakes(const cluster_config& config) {
  std::vector<planned_rank> places;
  for (std::uint32_t node = 0; node < config.nodes.size(); ++node) {
    for (const auto& device : config.nodes[node].devices) {
      planned_rank place;
      place.node = node;
      place.device = device;
      places.push_back(std::move(place));
    }
  }
  cluster_plan plan;
  plan.stages = std::max(1U, config.parallel.pipeline_parallel_size);
  plan.tensor_parallel_size =
      config.parallel.tensor_parallel_size != 0
          ? config.parallel.tensor_parallel_size
          : std::max(1U, static_cast<std::uint32_t>(places.size()) / plan.stages);
  const auto ranks = plan.stages * plan.tensor_parallel_size;
  if (ranks > places.size())
    return fail(errc::invalid_argument,
                fmt::format("tensor_parallel_size {} x pipeline_parallel_size {} needs {} devices; "
                            "the nodes list {}",
                            plan.tensor_parallel_size, plan.stages, ranks, places.size()),
                "tensor_parallel_size");
  places.resize(ranks);
  for (std::uint32_t rank = 0; rank < ranks; ++rank) {
    auto& layout = places[rank].layout;
    layout.rank = static_cast<std::int32_t>(rank);
    layout.stage = static_cast<std::int32_t>(rank / plan.tensor_parallel_size);
    layout.stages = static_cast<std::int32_t>(plan.stages);
    layout.tp_rank = static_cast<std::int32_t>(rank % plan.tensor_parallel_size);
    layout.tp_size = static_cast<std::int32_t>(plan.tensor_parallel_size);
  }
  plan.ranks = std::move(places);
  plan.max_model_len =
      config.model.max_model_len != 0 ? config.model.max_model_len : default_model_len;
  plan.text =
      fmt::format("{} fake ranks: {} stages of {}", ranks, plan.stages, plan.tensor_parallel_size);
  return plan;
}

node_parts fake_parts(const cluster_config& config, fake_parts_options options) {
  node_parts parts;
  parts.make_runner = [options = std::move(options)](
                          const runtime::runner_options& rank,
                          const node_section&) -> result<std::unique_ptr<runtime::runner>> {
    return make_fake(rank, options);
  };
  parts.read_model = [](const cluster_config& c) -> result<model_head> {
    model_head head;
    head.fingerprint = "fake";
    head.served.name = c.model.served_name.empty() ? "fake" : c.model.served_name;
    head.served.max_model_len = c.model.max_model_len;
    return head;
  };
  parts.make_plan = [](const cluster_config& c, const std::vector<runtime::host_facts>&) {
    return plan_fakes(c);
  };
  parts.host = [](const node_section&) -> result<runtime::host_facts> {
    return runtime::host_facts{};
  };
  parts.random = [] { return std::uint64_t{1}; };
  parts.build = build_id();
  parts.protocol = protocol_version;
  parts.config_text = config.file;
  return parts;
}

}  // namespace dinfer::actors

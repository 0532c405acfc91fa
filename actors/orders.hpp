// SPDX-License-Identifier: Apache-2.0
// Plans, orders and answers of a forming cluster, turned into each other. Pure: no actor, clock or
// file; the same on every node.
#pragma once

#include "actors/messages_cluster.hpp"
#include "actors/messages_shard.hpp"
#include "actors/parts.hpp"
#include "dinfer/config.hpp"
#include "dinfer/error.hpp"
#include "runtime/runner.hpp"
#include "runtime/schedule/scheduler.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace dinfer::actors {

// Admits a node, or says in one line why not (mismatch): the other protocol, build, model or
// configuration.
result<void> admit(const hello& ours, const hello& theirs, const cluster_config& config);

host_words words_of(const runtime::host_facts& host);
runtime::host_facts facts_of(const host_words& host);

shard_order order_of(const cluster_plan& plan, std::size_t rank);
// Error: mismatch when the order's ranges are not five pairs.
result<runtime::runner_options> options_of(const shard_order& order, const cluster_config& config);

// What the scheduler may count on: the least blocks over all ranks. Error: mismatch when ranks
// disagree on the block size or the number of KV groups, out_of_memory when a rank has no block.
result<runtime::scheduler_config> scheduler_config_of(const cluster_config& config,
                                                      const cluster_plan& plan,
                                                      const std::vector<cache_offer>& offers,
                                                      std::uint32_t epoch);

// "rank 3 (stage 1, node b, cpu:0)"
std::string rank_words(const cluster_config& config, const cluster_plan& plan, std::size_t rank);

// " at 10.0.0.2:4242"; nothing for a node that nobody dials.
std::string at_address(const cluster_config& config, std::size_t node);

// Who holds a step up, from what the nodes reported; ranks of nodes that gave no report are named
// as silent.
std::string overdue_words(const cluster_config& config, const cluster_plan& plan,
                          const step_overdue& step, const std::vector<rank_progress>& ranks);

}  // namespace dinfer::actors

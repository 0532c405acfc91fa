// SPDX-License-Identifier: Apache-2.0
// From a configuration, a model and what the hosts have to a plan: how many ranks, which layers and
// heads each holds, on which device, and why. Pure: the same on every node, no file, device or
// clock. Any thread.
//
// Sizes that are configured are kept and checked against the devices. Otherwise the first plan that
// fits is taken, in this order: one device; tensor parallel inside one node, as wide as it must,
// where the heads split evenly; pipeline parallel inside one node; both, over nodes, with stages as
// wide as a node allows, which never leave it; the same with heads split unevenly.
#pragma once

#include "dinfer/config.hpp"
#include "dinfer/error.hpp"
#include "runtime/models/model.hpp"
#include "runtime/models/model_config.hpp"
#include "runtime/parallel/layout.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace dinfer::runtime {

// What a node has, told by the node itself.
struct host_facts {
  std::uint32_t cores = 1;         // that the node may use
  std::int32_t first_core = 0;     // the first of them; -1: threads are not to be pinned
  std::uint64_t memory_bytes = 0;  // of the machine; 0: unknown, nothing is refused for its size
  // Of each device of node_section::devices that has memory of its own, in that order; 0 or
  // missing: it works in the machine's memory.
  std::vector<std::uint64_t> device_bytes;
  std::vector<std::uint64_t> device_free_bytes;  // of these, what nobody uses yet; missing: all
  std::string
      machine;      // nodes with the same one share its cores and memory; empty: a machine alone
  bool fp8 = true;  // all its GPUs multiply 8-bit floats; true where nobody asked them
};

// What a rank's steps need besides weights and cache.
struct step_memory {
  std::uint64_t activations = 0;  // of the largest step
  std::uint64_t logits = 0;
  std::uint64_t sampler = 0;    // what is known of every slot
  std::uint64_t workspace = 0;  // of operations, besides their arguments
  std::uint64_t reserve = 0;    // recorded steps, and what a driver takes for itself
  std::uint64_t sum() const noexcept {
    return activations + logits + sampler + workspace + reserve;
  }
};

struct placed_rank {
  rank_layout layout;
  std::size_t node = 0;  // into cluster_config::nodes
  std::string device;
  std::uint32_t cpu_threads = 1;
  std::int32_t first_core = -1;  // -1: not pinned
  std::uint64_t weight_bytes = 0;
  step_memory steps;
  std::uint64_t cache_bytes = 0;   // the null block included
  std::uint64_t budget_bytes = 0;  // for all of these; 0: not known
};

struct placement {
  std::vector<placed_rank> ranks;  // by rank
  std::uint32_t tensor_parallel_size = 1;
  std::uint32_t pipeline_parallel_size = 1;
  std::vector<std::uint32_t> layers_per_stage;
  std::uint32_t block_size = 16;    // tokens
  std::uint32_t cache_blocks = 0;   // what every rank can hold, the null block not counted
  std::uint32_t max_model_len = 0;  // configured, or what the model was trained for
  std::vector<std::string> idle;    // devices without a rank: "b/cpu:1"
  std::string reason;               // one or two sentences
};

// `hosts` goes with config.nodes. Errors: invalid_argument (a key, and what would fit),
// out_of_memory (which rank, what it needs and has).
result<placement> place(const cluster_config& config, const model_shape& shape,
                        const weight_estimate& weights, std::span<const host_facts> hosts);

// The plan for people: who holds what, what it takes in bytes, idle devices, and render_cache's
// line.
std::string render_plan(const placement& plan, const cluster_config& config,
                        const model_shape& shape);

// "KV cache: 400 blocks of 16 tokens = 6400 tokens, 3.1 concurrent requests of 2048 tokens": called
// again when the real number of blocks is known.
std::string render_cache(std::uint64_t blocks, std::uint32_t block_size,
                         std::uint32_t max_model_len);

}  // namespace dinfer::runtime

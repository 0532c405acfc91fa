// SPDX-License-Identifier: Apache-2.0
// Clusters, hosts and models for tests of plans.
#pragma once

#include "runtime/parallel/placement.hpp"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace dinfer::tests {

inline constexpr std::uint64_t mib = std::uint64_t{1} << 20;
inline constexpr std::uint64_t gib = std::uint64_t{1} << 30;

// SmolLM2-135M as it lies in its Q4_1 file.
inline runtime::model_shape smollm2() {
  runtime::model_shape shape;
  shape.architecture = "llama";
  shape.name = "SmolLM2";
  shape.layers = 30;
  shape.hidden = 576;
  shape.heads = 9;
  shape.kv_heads = 3;
  shape.head_dim = 64;
  shape.mlp = 1536;
  shape.vocabulary = 49152;
  shape.max_positions = 8192;
  shape.tied_embeddings = true;
  return shape;
}
inline runtime::weight_estimate smollm2_bytes() {
  return {std::vector<std::uint64_t>(30, 2'216'448), 30'081'024, 30'081'024 + 2304, 30'081'024};
}

// The sizes of an 8 B model in 16 bits: 32 x 416 MiB and two tables of 1002 MiB, 14.96 GiB in all.
inline runtime::model_shape eight_billion() {
  runtime::model_shape shape;
  shape.architecture = "llama";
  shape.name = "eight";
  shape.layers = 32;
  shape.hidden = 4096;
  shape.heads = 32;
  shape.kv_heads = 8;
  shape.head_dim = 128;
  shape.mlp = 14336;
  shape.vocabulary = 128256;
  shape.max_positions = 8192;
  return shape;
}
inline runtime::weight_estimate eight_billion_bytes() {
  return {std::vector<std::uint64_t>(32, 416 * mib), 1002 * mib, 1002 * mib};
}

struct plan_fixture {
  plan_fixture(runtime::model_shape s, runtime::weight_estimate w)
      : shape(std::move(s)), weights(std::move(w)) {}

  plan_fixture& node(const std::string& name, std::vector<std::string> devices,
                     std::uint64_t memory_bytes, std::uint32_t cores,
                     const std::string& machine = {}) {
    node_section section;
    section.name = name;
    section.devices = std::move(devices);
    config.nodes.push_back(section);
    runtime::host_facts facts;
    facts.cores = cores;
    facts.memory_bytes = memory_bytes;
    facts.machine = machine;
    hosts.push_back(facts);
    return *this;
  }
  plan_fixture& gpu_node(const std::string& name, const std::vector<std::string>& devices,
                         std::uint64_t device_bytes) {
    node(name, devices, 64 * gib, 16);
    hosts.back().device_bytes.assign(devices.size(), device_bytes);
    return *this;
  }
  plan_fixture& sizes(std::uint32_t tp, std::uint32_t pp) {
    config.parallel.tensor_parallel_size = tp;
    config.parallel.pipeline_parallel_size = pp;
    return *this;
  }
  result<runtime::placement> place() const { return runtime::place(config, shape, weights, hosts); }

  cluster_config config;
  runtime::model_shape shape;
  runtime::weight_estimate weights;
  std::vector<runtime::host_facts> hosts;
};

}  // namespace dinfer::tests

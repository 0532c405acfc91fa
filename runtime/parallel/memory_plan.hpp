// SPDX-License-Identifier: Apache-2.0
// What a rank will hold in memory, from sizes alone: weights, what steps need, and KV pages.
// Estimates for plans; the runner allocates by what the model itself says. Pure; any thread.
#pragma once

#include "dinfer/config.hpp"
#include "runtime/models/model.hpp"
#include "runtime/models/model_config.hpp"
#include "runtime/parallel/layout.hpp"
#include "runtime/parallel/placement.hpp"

#include <cstdint>
#include <string>

namespace dinfer::runtime {

// How the devices of a plan hold and compute a model.
struct device_rules {
  bool cuda = false;
  std::uint32_t element_bytes = 4;  // of activations
  std::uint32_t page_bytes = 4;     // of an element of KV pages
  std::uint32_t matrix_bytes = 0;   // of an element of a weight; 0: as it is stored
  bool fp8 = false;                 // but one byte where a layer's matrix has it
  bool keeps_f8 = false;            // and where it is stored so, with a scale a row
  bool packed = false;              // what is quantised stays so, matrix_bytes is for others
  std::uint32_t block_size = 16;    // tokens of a KV block
  std::uint32_t tokens = 0, sequences = 0;  // of the largest step
  std::uint32_t max_model_len = 0;
};
device_rules rules_for(const cluster_config& config, const model_shape& shape,
                       const weight_estimate& weights);

// This rank's part of its layers, of the embedding on the first stage and of the head on the last
// one. KV heads that several ranks share are counted on each.
std::uint64_t planned_weight_bytes(const model_shape& shape, const rank_layout& layout,
                                   const weight_estimate& weights, const device_rules& rules);

step_memory planned_step_memory(const model_shape& shape, const rank_layout& layout,
                                const device_rules& rules);

// One block on this rank: keys and values of all its layers.
std::uint64_t planned_block_bytes(const model_shape& shape, const rank_layout& layout,
                                  const device_rules& rules);

// "512 B", "1.5 KiB", "23.4 MiB", "8.0 GiB".
std::string size_text(std::uint64_t bytes);

}  // namespace dinfer::runtime

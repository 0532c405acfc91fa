// SPDX-License-Identifier: Apache-2.0
// What a rank will hold in memory, from sizes alone: weights, intermediate results and KV pages.
// Estimates for plans; the runner allocates by what the model itself says. Pure; any thread.
#pragma once

#include "runtime/models/model.hpp"
#include "runtime/models/model_config.hpp"
#include "runtime/parallel/layout.hpp"

#include <cstdint>
#include <string>

namespace dinfer::runtime {

// The stored bytes of this rank's part of its layers, of the embedding on the first stage and of
// the head on the last one. KV heads that several ranks share are counted on each. `dequantized`:
// as f32.
std::uint64_t planned_weight_bytes(const model_shape& shape, const rank_layout& layout,
                                   const weight_estimate& weights, bool dequantized);

// Intermediate results of the largest step.
std::uint64_t planned_workspace_bytes(const model_shape& shape, const rank_layout& layout,
                                      std::uint32_t tokens, std::uint32_t logit_rows,
                                      std::uint32_t element_bytes);

// One block of `block_size` tokens on this rank: keys and values of all its layers.
std::uint64_t planned_block_bytes(const model_shape& shape, const rank_layout& layout,
                                  std::uint32_t block_size, std::uint32_t element_bytes);

// "512 B", "1.5 KiB", "23.4 MiB", "8.0 GiB".
std::string size_text(std::uint64_t bytes);

}  // namespace dinfer::runtime

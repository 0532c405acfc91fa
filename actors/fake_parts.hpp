// SPDX-License-Identifier: Apache-2.0
// Parts of a cluster of fake devices, without a model: the whole machinery of actors, scheduling
// and failure with pretended steps. For tests, simulations and timing. Fronts are the caller's.
#pragma once

#include "actors/parts.hpp"
#include "runtime/fake_runner.hpp"

#include <cstdint>
#include <functional>

namespace dinfer::actors {

struct fake_parts_options {
  std::uint64_t seed = 0;  // of the fake tokens
  std::int32_t vocabulary = 32'000;
  std::uint32_t blocks = 1024;  // when the configuration does not say
  // Changes a rank's fake before it is made: step times, failures, recording. May be empty.
  std::function<void(runtime::fake_options&)> adjust;
};

// All devices of the configuration in their order, `tensor_parallel_size` a stage. Errors:
// invalid_argument when sizes and devices do not fit.
result<cluster_plan> plan_fakes(const cluster_config& config);

node_parts fake_parts(const cluster_config& config, fake_parts_options options);

}  // namespace dinfer::actors

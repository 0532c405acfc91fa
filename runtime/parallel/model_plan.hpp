// SPDX-License-Identifier: Apache-2.0
// From a configuration to a placement of its model: opens the model's files, reads no weight. Any
// thread.
#pragma once

#include "dinfer/config.hpp"
#include "dinfer/error.hpp"
#include "runtime/models/model_config.hpp"
#include "runtime/parallel/placement.hpp"
#include "runtime/weights/source.hpp"

#include <memory>
#include <vector>

namespace dinfer::runtime {

// The file, checkpoint or shapes that config.model names.
result<std::unique_ptr<weight_source>> open_model(const cluster_config& config);

struct model_plan {
  model_shape shape;
  placement placed;
};

// `hosts` goes with config.nodes; nodes for which there is none are taken to be on this host.
// Errors: those of the model's files, of place() and of this_host().
result<model_plan> plan_model(const cluster_config& config, std::vector<host_facts> hosts);

}  // namespace dinfer::runtime

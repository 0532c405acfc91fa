// SPDX-License-Identifier: Apache-2.0
// See model_plan.hpp.
#include "runtime/parallel/model_plan.hpp"

#include "runtime/models/model.hpp"
#include "runtime/parallel/this_host.hpp"

namespace dinfer::runtime {

result<std::unique_ptr<weight_source>> open_model(const cluster_config& config) {
  return open_weights(config.model.path, config.model.format, config.model.seed);
}

result<model_plan> plan_model(const cluster_config& config, std::vector<host_facts> hosts) {
  DINFER_TRY(const auto source, open_model(config));
  DINFER_TRY(auto shape, read_model_shape(*source));
  DINFER_TRY(const auto* factory, find_model(shape.architecture));
  DINFER_TRY(const auto weights, factory->estimate(shape, *source));
  for (std::size_t i = hosts.size(); i < config.nodes.size(); ++i) {
    DINFER_TRY(hosts.emplace_back(), this_host(config.nodes[i]));
  }
  DINFER_TRY(auto placed, place(config, shape, weights, hosts));
  return model_plan{std::move(shape), std::move(placed)};
}

}  // namespace dinfer::runtime

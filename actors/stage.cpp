// SPDX-License-Identifier: Apache-2.0
// See stage.hpp.
#include "actors/stage.hpp"

#include <utility>

namespace dinfer::actors {

stage::stage(stage_actor::pointer self, std::vector<shard_actor> shards)
    : self_(self), shards_(std::move(shards)) {}

stage_actor::behavior_type stage::make_behavior() {
  return {[this](const run_step& order) {
    for (const auto& shard : shards_) tell(self_, shard, order);
  }};
}

}  // namespace dinfer::actors

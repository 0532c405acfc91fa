// SPDX-License-Identifier: Apache-2.0
// The shards of one pipeline stage on one node, as one address for plans: a plan crosses to a node
// once, however many devices work on it there.
#pragma once

#include "actors/interfaces.hpp"

#include <vector>

namespace dinfer::actors {

class stage {
 public:
  using handle_type = stage_actor;
  static inline const char* name = "dinfer.stage";

  stage(stage_actor::pointer self, std::vector<shard_actor> shards);
  stage_actor::behavior_type make_behavior();

 private:
  stage_actor::pointer self_;
  std::vector<shard_actor> shards_;
};

}  // namespace dinfer::actors

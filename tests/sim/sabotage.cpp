// SPDX-License-Identifier: Apache-2.0
// See sabotage.hpp.
#include "tests/sim/sabotage.hpp"

#include "runtime/schedule/scheduler_impl.hpp"

namespace dinfer::runtime {

struct scheduler_sabotage {
  static bool free_twice(const scheduler& core) {
    auto& inside = *core.impl_;
    if (inside.running.empty()) return false;
    auto table = inside.running.front()->table;
    inside.blocks.close(table);
    return true;
  }
};

}  // namespace dinfer::runtime

namespace dinfer::sim {

bool free_twice(const runtime::scheduler& core) {
  return runtime::scheduler_sabotage::free_twice(core);
}

}  // namespace dinfer::sim

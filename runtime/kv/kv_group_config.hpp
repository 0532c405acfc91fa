// SPDX-License-Identifier: Apache-2.0
// How large the pool of one KV group is, and how far back its layers look. Shared by the scheduler
// and the block manager.
#pragma once

#include <cstdint>

namespace dinfer::runtime {

struct kv_group_config {
  std::uint32_t blocks = 0;  // of the pool, the null block not counted; the least over all ranks
  std::uint32_t window = 0;  // 0: full attention; else blocks further back are freed
};

}  // namespace dinfer::runtime

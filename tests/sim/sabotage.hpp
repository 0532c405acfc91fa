// SPDX-License-Identifier: Apache-2.0
// The planted bug that cannot be put around the scheduler, but only into it.
#pragma once

#include "runtime/schedule/scheduler.hpp"

namespace dinfer::sim {

// Frees the blocks of a running sequence, which goes on using them and frees them again at its end.
// False: there is none.
bool free_twice(const runtime::scheduler& core);

}  // namespace dinfer::sim

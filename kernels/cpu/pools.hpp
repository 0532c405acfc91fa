// SPDX-License-Identifier: Apache-2.0
// The thread pools of this process, for kernels/neighbours.hpp. Any thread.
#pragma once

#include "kernels/cpu/thread_pool.hpp"

namespace dinfer::kernels::cpu {

void join_pools(thread_pool& one);
// Returns once no guest is in it.
void leave_pools(thread_pool& one) noexcept;
bool several_pools() noexcept;

}  // namespace dinfer::kernels::cpu

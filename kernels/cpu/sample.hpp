// SPDX-License-Identifier: Apache-2.0
// The CPU's sampler. Thread: the device's own.
#pragma once

#include "kernels/cpu/thread_pool.hpp"
#include "kernels/cpu/vector/kernels.hpp"
#include "kernels/ops.hpp"

#include <memory>

namespace dinfer::kernels::cpu {

std::unique_ptr<sampler> make_cpu_sampler(std::uint32_t slots, std::int64_t vocabulary,
                                          thread_pool& pool, const kernel_table& kernels);

}  // namespace dinfer::kernels::cpu

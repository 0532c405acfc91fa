// SPDX-License-Identifier: Apache-2.0
// Threads that nobody joins: NCCL may keep one for as long as it likes, and its rank goes on
// without. The end of the process waits for them, up to a deadline, since a thread inside of NCCL
// or CUDA when these are taken down crashes. Any thread.
#pragma once

#include <functional>

namespace dinfer::kernels::cuda {

// Throws std::system_error when there is no thread to be had. `work` does not throw.
void run_in_background(std::function<void()> work);

}  // namespace dinfer::kernels::cuda

// SPDX-License-Identifier: Apache-2.0
// kernels::communicator over NCCL, and over memory of the GPUs' own where they can (peer_sum.hpp):
// operations are work in the device's stream, and may be recorded. NCCL keeps its memory until
// every graph that it was recorded in is gone. Thread: the rank's; abort() from any.
#pragma once

#include "kernels/communicator.hpp"
#include "kernels/cuda/pointwise.hpp"
#include "kernels/device.hpp"

#include <cuda_runtime_api.h>

#include <memory>

namespace dinfer::kernels::cuda {

// `owner` is GPU `index` and works on `stream`. Throws device_error: timeout, unavailable,
// internal.
std::unique_ptr<communicator> join_nccl_group(device& owner, cudaStream_t stream, int index,
                                              const group_place& place);

// add_norm of the sum of all ranks' `partial`, in one kernel. False, and nothing was enqueued,
// where that cannot be: all_reduce and add_norm give the same bits then.
bool sum_add_norm(communicator& group, const add_norm_job& job, dtype type);

}  // namespace dinfer::kernels::cuda

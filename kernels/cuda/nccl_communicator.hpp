// SPDX-License-Identifier: Apache-2.0
// kernels::communicator over NCCL: operations are work in the device's stream, and may be recorded.
// NCCL keeps its memory until every graph that it was recorded in is gone. Thread: the rank's;
// abort() from any.
#pragma once

#include "kernels/communicator.hpp"
#include "kernels/device.hpp"

#include <cuda_runtime_api.h>

#include <memory>

namespace dinfer::kernels::cuda {

// `owner` is GPU `index` and works on `stream`. Throws device_error: timeout, unavailable,
// internal.
std::unique_ptr<communicator> join_nccl_group(device& owner, cudaStream_t stream, int index,
                                              const group_place& place);

}  // namespace dinfer::kernels::cuda

// SPDX-License-Identifier: Apache-2.0
// The sampler of a GPU. What the host says of slots is collected in pinned memory and brought over
// by commit(); draws read everything from device memory, so that those of simple rows can be
// recorded, exchanges between ranks among them. Thread: the device's own.
#pragma once

#include "kernels/device.hpp"
#include "kernels/sampler.hpp"

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>

namespace dinfer::kernels::cuda {

// All memory is taken here, from `device`, whose work runs on `stream`; both must outlive the
// sampler.
std::unique_ptr<sampler> make_cuda_sampler(device& device, cudaStream_t stream, std::uint32_t slots,
                                           std::int64_t vocabulary);

}  // namespace dinfer::kernels::cuda

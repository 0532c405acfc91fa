// SPDX-License-Identifier: Apache-2.0
// One GPU as a device: its memory, one stream, events and graphs. Thread: the shard's, but for
// event::wait().
#pragma once

#include "kernels/device.hpp"

#include <memory>

namespace dinfer::kernels::cuda {

// Throws device_error: unavailable (no driver, no such GPU, or one this build has no code for).
std::unique_ptr<device> open(std::int32_t index, const device_options& options);

// Of GPU `index`. Throws as open().
device_memory memory_of(std::int32_t index);

}  // namespace dinfer::kernels::cuda

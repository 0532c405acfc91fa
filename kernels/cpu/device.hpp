// SPDX-License-Identifier: Apache-2.0
// Opens the CPU backend. Thread: the one that will own the device; with first_core >= 0 it is
// pinned there.
#pragma once

#include "kernels/device.hpp"

namespace dinfer::kernels::cpu {

result<std::unique_ptr<device>> open(const std::string& name, const device_options& options);

}  // namespace dinfer::kernels::cpu

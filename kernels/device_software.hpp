// SPDX-License-Identifier: Apache-2.0
// What a device works with, for people; empty where there is no such thing.
#pragma once

#include <string>

namespace dinfer::kernels {

struct device_software {
  std::string driver;   // "580.159.04"
  std::string runtime;  // "CUDA 13.0"
  std::string links;    // "NCCL 2.28.9": what joins devices that move tensors by themselves
};

}  // namespace dinfer::kernels

// SPDX-License-Identifier: Apache-2.0
// Weights on their way to a GPU whose memory is the host's. For tests over the stand-in for CUDA's
// runtime of weights_test.cpp; the test's thread.
#pragma once

#include "kernels/cuda/weights.hpp"
#include "tests/kernels/cuda/gpu_support.hpp"

#include <cstddef>
#include <memory>
#include <vector>

namespace dinfer::tests {

struct weight_loader_on_cpu {
  std::unique_ptr<kernels::device> memory = open_cpu(1);
  kernels::cuda::weight_uploader uploader;
  explicit weight_loader_on_cpu(kernels::dtype type, bool fp8 = true)
      : uploader(0, type, fp8,
                 [this](std::size_t bytes) { return memory->allocate(bytes, false); }) {}
};

// Of an expanded weight, with the rows that fill it up.
inline std::vector<float> contents(const kernels::cuda::cuda_weight& w) {
  const auto* bytes = static_cast<const std::byte*>(w.data());
  const auto size = kernels::row_bytes(w.type(), w.padded_rows() * w.columns());
  return decode(w.type(), {bytes, static_cast<std::size_t>(size)});
}

}  // namespace dinfer::tests

// SPDX-License-Identifier: Apache-2.0
// The angles of rotary embeddings. Su et al. 2021. Thread: the device's own.
#pragma once

#include "kernels/cpu/thread_pool.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace dinfer::kernels::cpu {

// Cosines and sines of a step's tokens, which all of its layers need.
class rope_angles {
 public:
  // [positions][frequencies][2]: cosine and sine of position x frequency. Computed where they are
  // not those of the call before; valid until the next one.
  const float* of(std::span<const std::int32_t> positions, std::span<const float> frequencies,
                  thread_pool& pool);

 private:
  std::vector<std::int32_t> positions_;
  std::vector<float> frequencies_, values_;
};

}  // namespace dinfer::kernels::cpu

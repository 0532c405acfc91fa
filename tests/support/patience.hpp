// SPDX-License-Identifier: Apache-2.0
// How long a test waits for what has no limit of its own: DINFER_TEST_SLOW times as long where code
// is instrumented and slow.
#pragma once

#include <chrono>
#include <cstdlib>

namespace dinfer::tests {

inline std::chrono::milliseconds patient(std::chrono::milliseconds time) {
  const char* slow = std::getenv("DINFER_TEST_SLOW");
  const int times = slow == nullptr ? 1 : std::atoi(slow);
  return time * (times > 0 ? times : 1);
}

}  // namespace dinfer::tests

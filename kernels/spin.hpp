// SPDX-License-Identifier: Apache-2.0
// Waiting for another thread without giving the processor away, for as long as being woken would
// take. Any thread.
#pragma once

#include <chrono>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace dinfer::kernels {

inline void relax() noexcept {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// True once `done()`; false when `most` is over.
template <class Done>
bool spin_until(std::chrono::microseconds most, Done&& done) {
  const auto deadline = std::chrono::steady_clock::now() + most;
  do {
    for (int i = 0; i < 32; ++i) {
      if (done()) return true;
      relax();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return done();
}

}  // namespace dinfer::kernels

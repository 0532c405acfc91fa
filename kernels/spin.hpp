// SPDX-License-Identifier: Apache-2.0
// Waiting for another thread without giving the processor away, for as long as being woken would
// take, or while there is something else to do. Any thread.
#pragma once

#include <chrono>
#include <utility>

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

// True once `done()`; false when `most` is over since work() last said that it did some.
template <class Done, class Work>
bool spin_until(std::chrono::microseconds most, Done&& done, Work&& work) {
  using clock = std::chrono::steady_clock;
  auto deadline = clock::now() + most;
  do {
    for (int i = 0; i < 32; ++i) {
      if (done()) return true;
      relax();
    }
    if (work()) deadline = clock::now() + most;
  } while (clock::now() < deadline);
  return done();
}

template <class Done>
bool spin_until(std::chrono::microseconds most, Done&& done) {
  return spin_until(most, std::forward<Done>(done), [] { return false; });
}

}  // namespace dinfer::kernels

// SPDX-License-Identifier: Apache-2.0
// A chunk is taken by decrementing `left_` while it is not zero. Whoever holds a chunk keeps its
// job alive, for the job ends when `unfinished_` is zero: so a worker that wakes late finds either
// nothing or a chunk of the present job, and never a stale one.
#include "kernels/cpu/thread_pool.hpp"

#include "kernels/cpu/pools.hpp"
#include "kernels/device.hpp"
#include "kernels/spin.hpp"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <limits>

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#endif

namespace dinfer::kernels::cpu {

namespace {

// Longer than the serial work between two operations of a step, much shorter than a time slice.
constexpr auto spin_time = std::chrono::microseconds(20);

void pin(std::int32_t core) noexcept {
#if defined(__linux__)
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<std::size_t>(core) % CPU_SETSIZE, &set);
  // A core that is not ours to use leaves the thread where it was: slower, never wrong.
  static_cast<void>(pthread_setaffinity_np(pthread_self(), sizeof set, &set));
#else
  static_cast<void>(core);
#endif
}

}  // namespace

void thread_pool::aligned_free::operator()(float* p) const noexcept { std::free(p); }

thread_pool::thread_pool(std::uint32_t threads, std::int32_t first_core)
    : scratch_(std::size_t{std::max(threads, 1U)} + 1) {
  if (first_core >= 0) pin(first_core);
  try {
    for (std::uint32_t i = 1; i < threads; ++i) {
      workers_.emplace_back([this, i, first_core] {
        if (first_core >= 0) pin(first_core + static_cast<std::int32_t>(i));
        work(i);
      });
    }
    join_pools(*this);
  } catch (...) {  // a limit on threads or memory: those that run must end first
    stop();
    throw;
  }
}

thread_pool::~thread_pool() {
  leave_pools(*this);
  stop();
}

void thread_pool::stop() {
  stop_.store(true);
  generation_.fetch_add(1);
  generation_.notify_all();
  for (auto& worker : workers_) worker.join();
}

bool thread_pool::take_one(std::uint32_t thread) {
  auto left = left_.load(std::memory_order_acquire);
  do {
    if (left == 0) return false;
  } while (!left_.compare_exchange_weak(left, left - 1, std::memory_order_acq_rel,
                                        std::memory_order_acquire));
  function_(body_, static_cast<std::int64_t>(chunks_ - left), thread);
  if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished_.notify_one();
  return true;
}

bool thread_pool::help() noexcept {
  if (left_.load(std::memory_order_relaxed) == 0 || guest_.exchange(true)) return false;
  const bool took = take_one(threads());
  guest_.store(false);
  return took;
}

void thread_pool::start(std::int64_t chunks, void* body, call function) {
  if (chunks <= 1 || (workers_.empty() && !several_pools())) {
    for (std::int64_t i = 0; i < chunks; ++i) function(body, i, 0);
    return;
  }
  DINFER_ASSERT(chunks <= std::numeric_limits<std::uint32_t>::max());
  body_ = body;
  function_ = function;
  chunks_ = static_cast<std::uint32_t>(chunks);
  unfinished_.store(chunks_, std::memory_order_relaxed);
  left_.store(chunks_, std::memory_order_release);
  if (!workers_.empty()) {
    generation_.fetch_add(1);
    generation_.notify_all();
  }
  while (take_one(0)) {
  }
  const auto done = [this] { return unfinished_.load(std::memory_order_acquire) == 0; };
  if (spin_until(spin_time, done)) return;
  for (auto left = unfinished_.load(std::memory_order_acquire); left != 0;
       left = unfinished_.load(std::memory_order_acquire)) {
    unfinished_.wait(left, std::memory_order_acquire);
  }
}

void thread_pool::work(std::uint32_t thread) {
  while (true) {
    const auto seen = generation_.load();
    if (stop_.load()) return;
    while (take_one(thread)) {
    }
    if (spin_until(spin_time, [&] { return generation_.load(std::memory_order_acquire) != seen; }))
      continue;
    generation_.wait(seen);
  }
}

void thread_pool::reserve_scratch(std::size_t floats) {
  for (auto& memory : scratch_) {
    if (memory.floats >= floats) continue;
    const auto bytes = (floats * sizeof(float) + 4095) / 4096 * 4096;
    auto* data = static_cast<float*>(std::aligned_alloc(64, bytes));
    if (data == nullptr) throw device_error(errc::out_of_memory, "no memory for scratch space");
    memory.data.reset(data);
    memory.floats = bytes / sizeof(float);
  }
}

}  // namespace dinfer::kernels::cpu

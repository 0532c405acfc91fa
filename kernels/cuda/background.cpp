// SPDX-License-Identifier: Apache-2.0
// The count outlives the waiter: threads that it did not wait for any longer still use it.
#include "kernels/cuda/background.hpp"

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

namespace dinfer::kernels::cuda {
namespace {

constexpr std::chrono::seconds patience{5};

struct running_threads {
  std::mutex mutex;
  std::condition_variable ended;
  int count = 0;
};

// Made after CUDA was first called, so it is destroyed before CUDA is.
struct waiter {
  const std::shared_ptr<running_threads> threads = std::make_shared<running_threads>();
  ~waiter() {
    std::unique_lock lock(threads->mutex);
    threads->ended.wait_for(lock, patience, [this] { return threads->count == 0; });
  }
};

}  // namespace

void run_in_background(std::function<void()> work) {
  static const waiter at_exit;
  const auto threads = at_exit.threads;
  const auto add = [threads](int change) {
    const std::lock_guard lock(threads->mutex);
    threads->count += change;
    threads->ended.notify_all();
  };
  add(1);
  try {
    std::thread([work = std::move(work), add]() mutable {
      std::exchange(work, nullptr)();  // what it holds goes with it
      add(-1);
    }).detach();
  } catch (...) {
    add(-1);
    throw;
  }
}

}  // namespace dinfer::kernels::cuda

// SPDX-License-Identifier: Apache-2.0
// What other threads may see and do of a shard while its own thread is inside a step: how far it
// is, and waking it from a collective. Shared by the shard and its node; any thread.
#pragma once

#include "runtime/runner.hpp"

#include <atomic>
#include <cstdint>
#include <mutex>

namespace dinfer::actors {

class shard_board {
 public:
  // The shard lends its runner after making it and takes it back (nullptr) before destroying it.
  void lend(runtime::runner* runner) {
    const std::lock_guard lock(mutex_);
    runner_ = runner;
  }
  void abort() {
    const std::lock_guard lock(mutex_);
    if (runner_ != nullptr) runner_->abort();
  }

  std::atomic<std::uint64_t> started{0}, finished{0};  // steps of this epoch
  std::atomic<bool> failed{false};                     // until the next start_cache

 private:
  std::mutex mutex_;
  runtime::runner* runner_ = nullptr;
};

}  // namespace dinfer::actors

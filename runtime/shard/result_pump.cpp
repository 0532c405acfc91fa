// SPDX-License-Identifier: Apache-2.0
// Waits here are for the pump's own thread, whose waits for the device have deadlines.
#include "runtime/shard/result_pump.hpp"

#include <utility>

namespace dinfer::runtime {

result_pump::result_pump(finisher finish)
    : finish_(std::move(finish)), thread_([this] { run(); }) {}

result_pump::~result_pump() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void result_pump::push(launched_step step, const result_sink& sink) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return entries_.size() + 1 < copy_ring::pieces; });
  entries_.push_back({std::move(step), sink});
  changed_.notify_all();
}

void result_pump::drain() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return entries_.empty(); });
}

void result_pump::restart() {
  drain();
  failed_ = false;
}

void result_pump::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return ending_ || !entries_.empty(); });
    if (entries_.empty()) return;
    const entry& next = entries_.front();
    lock.unlock();
    if (!failed_) {
      result<step_result> done = finish_(next.step);
      failed_ = !done;
      next.sink(std::move(done));
    }
    lock.lock();
    entries_.pop_front();
    changed_.notify_all();
  }
}

}  // namespace dinfer::runtime

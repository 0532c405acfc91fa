// SPDX-License-Identifier: Apache-2.0
// Finishes launched steps of an asynchronous device on a thread of its own, in order, so that the
// shard's thread can launch the next one meanwhile. push() and drain() come from the shard's
// thread.
#pragma once

#include "runtime/runner.hpp"
#include "runtime/shard/shard_steps.hpp"

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace dinfer::runtime {

class result_pump {
 public:
  using finisher = std::function<result<step_result>(const launched_step&)>;

  // `finish` runs on the pump's thread; every wait in it has a deadline.
  explicit result_pump(finisher finish);
  ~result_pump();  // finishes what is there
  result_pump(const result_pump&) = delete;
  result_pump& operator=(const result_pump&) = delete;

  // The sink hears of the step; after an error it hears of nothing until restart(). Waits while as
  // many steps are unfinished as have memory for their results.
  void push(launched_step step, const result_sink& sink);
  // Until nothing is unfinished.
  void drain();
  void restart();

 private:
  struct entry {
    launched_step step;
    result_sink sink;
  };
  void run();

  finisher finish_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<entry> entries_;  // the first is being finished
  bool failed_ = false, ending_ = false;
  std::thread thread_;
};

}  // namespace dinfer::runtime

// SPDX-License-Identifier: Apache-2.0
// Keeps child processes running: starts them, tells how one ended, starts it again after a while
// that doubles from 100 ms to 5 s and begins anew once a child has lived for 10 s (1 s for one that
// ended with 0). The system kills them when their keeper's process dies. Any thread; `on_end` is
// called on the keeper's own.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace dinfer::actors {

struct child_end {
  std::size_t child = 0;  // as given to the constructor
  pid_t pid = -1;
  std::string how;  // "exit code 3", "killed by SIGKILL"
  std::chrono::milliseconds again{0};
};

class child_keeper {
 public:
  // commands[i]: the i-th child's program and its arguments.
  child_keeper(std::vector<std::vector<std::string>> commands,
               std::function<void(const child_end&)> on_end);
  ~child_keeper();  // as stop(0)
  child_keeper(const child_keeper&) = delete;
  child_keeper& operator=(const child_keeper&) = delete;

  // Ends a child that does not answer; it is started again. Nothing, when it is another process by
  // now.
  void kill(std::size_t index, pid_t pid);
  // Asks all to end (SIGTERM), kills those that live after `grace`, and starts none again.
  void stop(std::chrono::milliseconds grace);

 private:
  using clock = std::chrono::steady_clock;
  struct child {
    std::vector<std::string> command;
    pid_t pid = -1;
    bool killed = false;  // by kill()
    int alive = -1;       // the read end of a pipe whose other end the child alone holds
    clock::time_point started, due;
    std::chrono::milliseconds backoff{0};
  };

  void run();
  void start(child& one);
  void reap(std::size_t index);
  int wait_ms(clock::time_point now) const;  // until something is due; -1: nothing is
  bool any_alive() const;
  void signal_all(int number);
  void wake() const;

  std::function<void(const child_end&)> on_end_;
  int wake_[2] = {-1, -1};
  mutable std::mutex mutex_;
  std::vector<child> children_;
  bool stopping_ = false;
  clock::time_point kill_at_;
  std::thread thread_;  // that forks: children die with it
};

}  // namespace dinfer::actors

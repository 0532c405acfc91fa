// SPDX-License-Identifier: Apache-2.0
// How long each phase of a start took, for the log and for /metrics. Used by what starts: one
// thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace dinfer::runtime {

struct start_phase {
  std::string name;  // "weights"
  std::uint32_t ms = 0;
};

class phase_clock {
 public:
  // The time since the last call, or since it was made, was spent on `phase`.
  void end(std::string phase) {
    const auto now = clock::now();
    const auto spent = std::chrono::duration_cast<std::chrono::milliseconds>(now - last_);
    phases_.push_back({std::move(phase), static_cast<std::uint32_t>(spent.count())});
    last_ = now;
  }
  // What follows counts from here: the time since the last call belongs to others.
  void resume() { last_ = clock::now(); }
  const std::vector<start_phase>& phases() const noexcept { return phases_; }

 private:
  using clock = std::chrono::steady_clock;
  clock::time_point last_ = clock::now();
  std::vector<start_phase> phases_;
};

}  // namespace dinfer::runtime

// SPDX-License-Identifier: Apache-2.0
// What every part of a simulation shares: the time, the dice, the events that are to come, the
// trace and the first invariant that broke. One thread; nothing here looks at the machine's clock.
#pragma once

#include <fmt/core.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <queue>
#include <string>
#include <utility>
#include <vector>

namespace dinfer::sim {

using usec = std::int64_t;  // simulated microseconds since the start
inline constexpr usec millisecond = 1000, second = 1'000'000;

// splitmix64 (Steele, Lea, Flood 2014): the same numbers on every machine, unlike std's
// distributions.
class dice {
 public:
  explicit dice(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() noexcept {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  }
  std::uint64_t below(std::uint64_t n) noexcept { return next() % n; }
  std::int64_t between(std::int64_t least, std::int64_t most) noexcept {
    return least + static_cast<std::int64_t>(below(static_cast<std::uint64_t>(most - least + 1)));
  }
  bool chance(unsigned percent) noexcept { return below(100) < percent; }

 private:
  std::uint64_t state_;
};

class world {
 public:
  world(std::uint64_t seed, bool tracing) : random(seed), tracing_(tracing) {}

  usec now() const noexcept { return now_; }
  void advance_to(usec time) noexcept { now_ = time; }
  // Events of one time run in the order in which they were asked for.
  void after(usec delay, std::function<void()> event) {
    if (free_.empty()) {
      free_.push_back(runs_.size());
      runs_.emplace_back();
    }
    const auto place = free_.back();
    free_.pop_back();
    runs_[place] = std::move(event);
    events_.push({now_ + delay, ++asked_, place});
  }
  bool has_event() const noexcept { return !events_.empty(); }
  usec next_event() const noexcept { return events_.top().at; }
  void run_event() {
    const auto place = events_.top().place;
    events_.pop();
    const auto event = std::exchange(runs_[place], nullptr);
    free_.push_back(place);
    event();
  }

  // Everything that happens goes into the hash; the line is made only when somebody reads it.
  template <class... Args>
  void note(std::uint64_t what, fmt::format_string<Args...> line, Args&&... args) {
    mix(static_cast<std::uint64_t>(now_));
    mix(what);
    if (tracing_)
      fmt::print("{:>12.3f} ms  {}\n", static_cast<double>(now_) / millisecond,
                 fmt::format(line, std::forward<Args>(args)...));
  }
  bool tracing() const noexcept { return tracing_; }
  std::uint64_t hash() const noexcept { return hash_; }

  // The first one counts: what follows it may follow from it.
  void broken(std::string invariant) {
    if (failure_.empty()) failure_ = std::move(invariant);
  }
  const std::string& failure() const noexcept { return failure_; }

  dice random;

 private:
  struct entry {
    usec at;
    std::uint64_t order;
    std::size_t place;  // in runs_: the heap moves its entries a lot
    bool operator<(const entry& other) const noexcept {
      return std::pair(at, order) > std::pair(other.at, other.order);  // the earliest is on top
    }
  };
  void mix(std::uint64_t value) noexcept {
    hash_ = (hash_ ^ value) * 0x9e3779b97f4a7c15ULL;
    hash_ ^= hash_ >> 29;
  }

  bool tracing_;
  usec now_ = 0;
  std::uint64_t asked_ = 0, hash_ = 0xcbf29ce484222325ULL;
  std::string failure_;
  std::priority_queue<entry> events_;
  std::vector<std::function<void()>> runs_;
  std::vector<std::size_t> free_;
};

// For note(): several small numbers as one.
constexpr std::uint64_t packed(std::uint64_t a, std::uint64_t b = 0, std::uint64_t c = 0,
                               std::uint64_t d = 0) noexcept {
  return ((a * 0x100000001b3ULL ^ b) * 0x100000001b3ULL ^ c) * 0x100000001b3ULL ^ d;
}

}  // namespace dinfer::sim

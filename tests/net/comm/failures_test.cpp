// SPDX-License-Identifier: Apache-2.0
// What a rank is told when another one is late, gone, killed, or does something else; and that a
// group works again after reset.
#include "kernels/cpu/thread_pool.hpp"
#include "kernels/device.hpp"
#include "kernels/spin.hpp"
#include "tests/net/comm/group.hpp"
#include "tests/support/catch.hpp"

#include <sys/mman.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <latch>
#include <mutex>
#include <thread>

namespace dinfer::tests {
namespace {

using kernels::device_error;
using kernels::dtype;
using kernels::view;
using std::chrono_literals::operator""ms;
using clock_type = std::chrono::steady_clock;

struct failure {
  errc code = errc::none;
  std::int32_t peer = -2;
  std::string what;
};

template <class Act>
failure failure_of(Act act) {
  try {
    act();
  } catch (const device_error& e) {
    return {e.code(), e.peer(), e.what()};
  }
  return {};
}

bool says(const failure& f, const char* words) { return f.what.find(words) != std::string::npos; }

// All ranks sum the number of ranks, in every way there is: the group works.
bool works(kernels::communicator& c) {
  const auto wanted = static_cast<float>(c.size() * (c.size() + 1) / 2);
  for (const std::int64_t count : {3000, 40'000}) {
    std::vector<float> data(static_cast<std::size_t>(count), static_cast<float>(c.rank() + 1));
    c.all_reduce(view(data.data(), dtype::f32, count));
    if (!std::all_of(data.begin(), data.end(), [&](float x) { return x == wanted; })) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("a rank that stays away is named when the deadline passes", "[comm]") {
  const auto& on = GENERATE(wires[0], wires[1], wires[2], wires[3]);
  const std::int64_t count = GENERATE(1, 40'000);
  INFO(on.name << ", " << count << " numbers");
  std::latch done(3);
  std::vector<failure> failures(3);
  std::atomic<std::int64_t> longest_ms{0};
  run_threads(on.of(3, 200ms), [&](auto& c) {
    std::vector<float> data(static_cast<std::size_t>(count), 1);
    const auto start = clock_type::now();
    if (c.rank() != 1) {
      failures[static_cast<std::size_t>(c.rank())] =
          failure_of([&] { c.all_reduce(view(data.data(), dtype::f32, count)); });
      const auto took =
          std::chrono::duration_cast<std::chrono::milliseconds>(clock_type::now() - start);
      longest_ms = std::max<std::int64_t>(longest_ms, took.count());
    }
    done.arrive_and_wait();
  });
  for (const auto rank : {0u, 2u}) {
    INFO(failures[rank].what);
    CHECK(failures[rank].code == errc::timeout);
    CHECK(failures[rank].peer == 1);
    CHECK(says(failures[rank], "rank 1 (n1 at 127.0.0."));
    CHECK(says(failures[rank], "all_reduce"));
    CHECK(says(failures[rank], "200 ms"));
  }
  CHECK(longest_ms >= 199);
  CHECK(longest_ms < 3000);
}

TEST_CASE("a rank that has others to help sees its deadline all the same", "[comm]") {
  std::atomic<bool> over{false};
  std::thread busy([&] {
    kernels::cpu::thread_pool pool(1, -1), other(1, -1);
    const auto some_time = [](std::int64_t, std::uint32_t) {
      kernels::spin_until(std::chrono::microseconds(100), [] { return false; });
    };
    while (!over) pool.run(1000, some_time);
  });
  std::latch done(2);
  failure seen;
  run_threads(wires[0].of(2, 200ms), [&](auto& c) {
    float x = 1;
    if (c.rank() == 0) seen = failure_of([&] { c.all_reduce(view(&x, dtype::f32, 1)); });
    done.arrive_and_wait();
    over = true;
  });
  busy.join();
  CHECK(seen.code == errc::timeout);
  CHECK(seen.peer == 1);
}

TEST_CASE("a member that never comes is named by join", "[comm]") {
  const auto& on = GENERATE(wires[0], wires[1], wires[2], wires[3]);
  const auto options = on.of(2, 1000ms);
  const auto one = rank_transport(options, 0), other = rank_transport(options, 1);
  const std::vector<std::string> cards{*one->card(), *other->card()};
  const auto early = one->join("g", cards, 0, {100ms});
  REQUIRE_FALSE(early);
  CHECK(early.error().code == errc::timeout);
  CHECK(early.error().message.find("rank 1 (n1 at 127.0.0.") != std::string::npos);
  // Both may meet later, the failed attempt notwithstanding.
  std::thread late([&] { REQUIRE(other->join("g", cards, 1, {5000ms})); });
  const auto met = one->join("g", cards, 0, {5000ms});
  late.join();
  CHECK(met);
}

TEST_CASE("a member whose process is gone is named by join at once", "[comm]") {
  const auto& on = GENERATE(wires[1], wires[2], wires[3]);
  const auto options = on.of(2, 1000ms);
  const auto one = rank_transport(options, 1);
  const std::vector<std::string> cards{*rank_transport(options, 0)->card(), *one->card()};
  const auto start = clock_type::now();
  const auto met = one->join("g", cards, 1, {5000ms});
  REQUIRE_FALSE(met);
  INFO(met.error().message);
  CHECK(met.error().code == errc::peer_lost);
  CHECK(met.error().message.find("rank 0 (n0 at 127.0.0.1:") != std::string::npos);
  CHECK(clock_type::now() - start < 2000ms);
}

TEST_CASE("ranks that disagree are told what both do, and can start over", "[comm]") {
  const auto& on = GENERATE(wires[0], wires[1], wires[2], wires[3]);
  INFO(on.name);
  std::mutex mutex;
  std::vector<failure> failures;
  std::atomic<int> working{0};
  run_threads(on.of(2, 5000ms), [&](auto& c) {
    std::vector<float> data(600'000);
    const auto note = [&](auto act) {
      const auto f = failure_of(act);
      const std::lock_guard lock(mutex);
      failures.push_back(f);
    };
    const bool first = c.rank() == 0;
    note([&] { c.all_reduce(view(data.data(), dtype::f32, first ? 1000 : 1001)); });
    note([&] { c.all_reduce(view(data.data(), dtype::f32, 1)); });  // unusable until reset
    c.reset(1);
    working += works(c);
    note([&] {
      const auto t = view(data.data(), dtype::f32, 500);
      first ? c.all_reduce(t) : c.all_to_all(t, view(data.data() + 500, dtype::f32, 500));
    });
    c.reset(2);
    // Larger than any buffer: both are in the middle of a frame when they notice.
    note([&] { c.all_reduce(view(data.data(), dtype::f32, first ? 600'000 : 500'000)); });
    c.reset(3);
    working += works(c);
  });
  REQUIRE(failures.size() == 8);
  int mismatches = 0;
  for (const auto& f : failures) {
    INFO(f.what);
    if (f.code == errc::device_lost) CHECK(says(f, "reset the group first"));
    else CHECK(f.code == errc::mismatch);
    mismatches += f.code == errc::mismatch && says(f, "rank 0") && says(f, "rank 1");
  }
  CHECK(mismatches == 6);
  CHECK(working == 4);
}

TEST_CASE("a message of another size is an error and not a wrong tensor", "[comm]") {
  const auto& on = GENERATE(wires[0], wires[1], wires[2], wires[3]);
  failure seen;
  run_threads(on.of(2, 5000ms), [&](auto& c) {
    std::vector<float> data(100);
    if (c.rank() == 0) c.send(view(data.data(), dtype::f32, 99), 1);
    else seen = failure_of([&] { c.recv(view(data.data(), dtype::f32, 100), 0); });
    c.reset(1);
  });
  INFO(seen.what);
  CHECK(seen.code == errc::mismatch);
  CHECK(says(seen, "400 bytes"));
  CHECK(says(seen, "396 bytes"));
}

TEST_CASE("a receiver that takes nothing stops its sender at the deadline", "[comm]") {
  const auto& on = GENERATE(wires[0], wires[1], wires[2], wires[3]);
  INFO(on.name);
  failure seen;
  std::atomic<int> sent{0}, working{0};
  std::atomic<bool> gave_up{false};
  run_threads(on.of(2, 300ms), [&](auto& c) {
    std::vector<float> data(1 << 20, 7.0f);
    const auto big = view(data.data(), dtype::f32, 1 << 20);
    if (c.rank() == 0)
      seen = failure_of([&] {
        for (; sent < 50; ++sent) c.send(big, 1);
      });
    if (c.rank() == 0) gave_up = true;
    while (!gave_up) std::this_thread::yield();
    c.reset(1);  // what was sent must not turn up again
    float x = static_cast<float>(c.rank());
    if (c.rank() == 0) c.send(view(&x, dtype::f32, 1), 1);
    else c.recv(view(&x, dtype::f32, 1), 0);
    working += x == 0 && works(c);
  });
  INFO(seen.what);
  CHECK(seen.code == errc::timeout);
  CHECK(seen.peer == 1);
  CHECK(says(seen, "rank 1"));
  CHECK(sent >= 1);
  CHECK(working == 2);
}

TEST_CASE("abort wakes a blocked rank from another thread; reset makes it usable", "[comm]") {
  const auto& on = GENERATE(wires[0], wires[1], wires[2], wires[3]);
  INFO(on.name);
  failure seen;
  std::atomic<int> working{0};
  std::atomic<bool> aborted{false};
  run_threads(on.of(2, 20'000ms), [&](auto& c) {
    if (c.rank() == 0) {
      std::atomic<bool> entered{false};
      std::thread other([&] {
        while (!entered) std::this_thread::yield();
        c.abort();
      });
      float x = 0;
      const auto start = clock_type::now();
      seen = failure_of([&] {
        entered = true;
        c.recv(view(&x, dtype::f32, 1), 1);
      });
      CHECK(clock_type::now() - start < 5000ms);
      other.join();
      aborted = true;
    }
    while (!aborted) std::this_thread::yield();
    c.reset(7);
    working += works(c);
  });
  CHECK(seen.code == errc::cancelled);
  CHECK(working == 2);
}

TEST_CASE("a peer that leaves is noticed at once, and what it sent before is still read",
          "[comm]") {
  const auto& on = GENERATE(wires[0], wires[1], wires[2], wires[3]);
  INFO(on.name);
  failure seen;
  float x = 0;
  run_threads(on.of(2, 20'000ms), [&](auto& c) {
    float sent = 5;
    if (c.rank() == 1) return c.send(view(&sent, dtype::f32, 1), 0);
    c.recv(view(&x, dtype::f32, 1), 1);
    seen = failure_of([&] { c.recv(view(&sent, dtype::f32, 1), 1); });
  });
  CHECK(x == 5);
  INFO(seen.what);
  CHECK(seen.code == errc::peer_lost);
  CHECK(seen.peer == 1);
}

TEST_CASE("a killed process is noticed by the others within a fraction of a second", "[comm]") {
  const auto& on = GENERATE(wires[1], wires[2], wires[3]);
  INFO(on.name);
  // Seen by parent and children: how often they summed, when rank 1 was killed, who noticed when.
  struct board {
    std::atomic<std::int64_t> sums, killed_at, noticed_at[3];
    std::atomic<std::int32_t> code[3], peer[3];
  };
  auto* shared = static_cast<board*>(
      mmap(nullptr, sizeof(board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  REQUIRE(shared != MAP_FAILED);
  const auto now_ms = [] {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
               clock_type::now().time_since_epoch())
        .count();
  };
  rank_processes ranks(on.of(3, 30'000ms), [&](auto& c) {
    const auto seen = failure_of([&] {
      for (;;) {
        if (!works(c)) throw std::runtime_error("wrong sum");
        ++shared->sums;
      }
    });
    shared->noticed_at[c.rank()] = now_ms();
    shared->code[c.rank()] = static_cast<std::int32_t>(seen.code);
    shared->peer[c.rank()] = seen.peer;
    // Stays, so that the other survivor must notice rank 1 and not this one.
    while (shared->code[0] == 0 || shared->code[2] == 0) std::this_thread::yield();
  });
  const auto deadline = now_ms() + 10'000;
  while (shared->sums < 30 && now_ms() < deadline) std::this_thread::sleep_for(1ms);
  const auto killed_at = now_ms();
  ranks.kill(1);
  CHECK(ranks.wait(1) == 128 + 9);
  for (const auto rank : {0, 2}) {
    CHECK(ranks.wait(rank) == 0);
    INFO("rank " << rank << " after " << shared->noticed_at[rank] - killed_at << " ms");
    CHECK(shared->code[rank] == static_cast<std::int32_t>(errc::peer_lost));
    CHECK(shared->peer[rank] == 1);
    CHECK(shared->noticed_at[rank] - killed_at < 500);
  }
  munmap(shared, sizeof(board));
}

TEST_CASE("ranks that reset to different epochs are told so", "[comm]") {
  std::vector<failure> failures(2);
  run_threads(wires[0].of(2, 300ms), [&](auto& c) {
    failures[static_cast<std::size_t>(c.rank())] =
        failure_of([&] { c.reset(c.rank() == 0 ? 4 : 5); });
  });
  CHECK(failures[0].code == errc::mismatch);
  CHECK(says(failures[0], "epoch 5"));
  CHECK(failures[1].code != errc::none);
}

}  // namespace dinfer::tests

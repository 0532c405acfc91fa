// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/thread_pool.hpp"
#include "kernels/neighbours.hpp"
#include "kernels/tensor.hpp"
#include "tests/kernels/support.hpp"

#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <thread>

using namespace dinfer;
using namespace dinfer::kernels;
using namespace dinfer::tests;

TEST_CASE("row bytes of quantised types count whole blocks") {
  CHECK(row_bytes(dtype::q4_1, 576) == 18 * 20);
  CHECK(row_bytes(dtype::q8_0, 64) == 68);
  CHECK(row_bytes(dtype::bf16, 3) == 6);
  CHECK_FALSE(quantised(dtype::f16));
}

TEST_CASE("open_device names what would fit, and says why CUDA is not there") {
  for (const std::string name : {"cpu", "gpu:0", "cpu:", "cpu:x", "cpu:0x", "cuda:-1", ""}) {
    const auto opened = open_device(name, {});
    INFO(name);
    REQUIRE_FALSE(opened);
    CHECK(opened.error().code == errc::not_found);
    CHECK(opened.error().message.find("cpu:0") != std::string::npos);
  }
  const auto cuda = open_device("cuda:0", {});
  if (!cuda) {
    CHECK(cuda.error().code == errc::unavailable);
    CHECK(cuda.error().message.find("cuda:0: ") == 0);
    CHECK(cuda.error().message.find('\n') == std::string::npos);
  }
  device_options none;
  none.cpu_threads = 0;
  const auto refused = open_device("cpu:0", none);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == errc::invalid_argument);
  device_options half;
  half.activation = dtype::bf16;
  const auto no_half = open_device("cpu:0", half);
  REQUIRE_FALSE(no_half);
  CHECK(no_half.error().subject == "model.dtype");
  CHECK(no_half.error().message.find("bf16") != std::string::npos);
  half.activation = dtype::f32;
  CHECK(open_device("cpu:0", half));
}

TEST_CASE("the CPU device says what it is, and its memory is aligned") {
  const auto d = open_cpu(2);
  CHECK(d->traits().name == "cpu:0");
  CHECK(d->traits().host_memory);
  CHECK(d->traits().description.find("2 threads") != std::string::npos);
  CHECK(d->traits().memory_bytes >= d->traits().free_bytes);
  CHECK(d->traits().free_bytes > 0);
  for (const std::size_t bytes : {1UL, 64UL, 100'000UL, 3UL << 20}) {
    const auto memory = d->allocate(bytes, true);
    CHECK(reinterpret_cast<std::uintptr_t>(memory.data()) % 64 == 0);
    CHECK(memory.bytes() == bytes);
    std::vector<char> back(bytes, 'x');
    d->download(back.data(), memory.data(), bytes);
    CHECK(std::all_of(back.begin(), back.end(), [](char c) { return c == 0; }));
    std::vector<char> there(bytes, 'y');
    d->upload(memory.data(), there.data(), bytes);
    d->synchronize();
    d->download(back.data(), memory.data(), bytes);
    CHECK(back == there);
  }
  CHECK(d->allocate(0, true).bytes() == 0);
}

TEST_CASE("host memory, copies and events of the CPU device are immediate") {
  const auto d = open_cpu(1);
  CHECK(d->traits().activation == dtype::f32);
  CHECK_FALSE(d->traits().asynchronous);
  const auto host = d->allocate_host(100), memory = d->allocate(100, false);
  CHECK(std::all_of(static_cast<char*>(host.data()), static_cast<char*>(host.data()) + 100,
                    [](char c) { return c == 0; }));
  std::memset(host.data(), 7, 100);
  d->upload_async(memory.data(), host.data(), 100);
  std::memset(host.data(), 0, 100);
  d->download_async(host.data(), memory.data(), 100);
  const auto passed = d->make_event();
  passed->wait(std::chrono::milliseconds(0));
  passed->record();
  passed->wait(std::chrono::milliseconds(0));
  CHECK(static_cast<char*>(host.data())[99] == 7);
}

TEST_CASE("put_entries changes the entries that it is told, and no others") {
  const auto d = open_cpu(1);
  std::vector<std::int32_t> table{0, 1, 2, 3, 4, 5}, entries{4, 40, 1, 10};
  d->ops().put_entries(view(table.data(), dtype::i32, 2, 3),
                       view(entries.data(), dtype::i32, 2, 2));
  CHECK(table == std::vector<std::int32_t>{0, 10, 2, 3, 40, 5});
  d->ops().put_entries(over(table), view(entries.data(), dtype::i32, 0, 2));
  CHECK(table[1] == 10);
}

TEST_CASE("memory that cannot be had is a device_error") {
  const auto d = open_cpu(1);
  try {
    d->allocate(std::size_t{1} << 60, false);
    FAIL("2^60 bytes were allocated");
  } catch (const device_error& e) {
    CHECK(e.code() == errc::out_of_memory);
  }
}

TEST_CASE("a device without graphs says so") {
  const auto d = open_cpu(1);
  CHECK_THROWS_AS(d->begin_capture(), device_error);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST_CASE("threads that cannot be started are an error, and those that could be end") {
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_AS, &before) == 0);
  rlim_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  REQUIRE(pages > 0);
  rlimit tight = before;
  tight.rlim_cur = pages * 4096 + (rlim_t{200} << 20);  // stacks of some threads, not of all
  REQUIRE(setrlimit(RLIMIT_AS, &tight) == 0);
  device_options many;
  many.cpu_threads = 1024;
  const auto opened = open_device("cpu:0", many);
  REQUIRE(setrlimit(RLIMIT_AS, &before) == 0);
  REQUIRE_FALSE(opened);
  CHECK(opened.error().code == errc::unavailable);
  CHECK(opened.error().message.find("threads") != std::string::npos);
}
#endif

TEST_CASE("a thread pool runs every chunk once, run after run") {
  for (const std::uint32_t threads : {1U, 2U, 5U}) {
    cpu::thread_pool pool(threads, -1);
    CHECK(pool.threads() == threads);
    std::vector<std::atomic<int>> seen(300);
    for (int round = 0; round < 3000; ++round) {
      const auto chunks = static_cast<std::int64_t>(round % 300);
      std::atomic<bool> sane{true};
      pool.run(chunks, [&](std::int64_t chunk, std::uint32_t thread) {
        if (thread >= threads || chunk < 0 || chunk >= chunks) sane = false;
        ++seen[static_cast<std::size_t>(chunk)];
      });
      bool once = sane;
      for (std::size_t i = 0; i < seen.size(); ++i) {
        once = once && seen[i].exchange(0) == (static_cast<std::int64_t>(i) < chunks ? 1 : 0);
      }
      if (!once) FAIL("threads " << threads << " chunks " << chunks);
    }
  }
}

TEST_CASE("a thread that waits takes over chunks of another's pool") {
  cpu::thread_pool pool(1, -1);
  cpu::thread_pool other(1, -1);  // alone, a pool looks for nobody
  std::atomic<bool> over{false};
  std::thread guest([&] {
    while (!over) kernels::help_a_neighbour();
  });
  pool.reserve_scratch(16);
  std::atomic<int> inside{0};
  std::atomic<std::uint32_t> threads{0};
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  pool.run(2, [&](std::int64_t, std::uint32_t thread) {
    pool.scratch(thread)[0] = 1;
    threads |= 1U << thread;
    ++inside;
    while (inside < 2 && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  });
  CHECK(inside == 2);
  CHECK(threads == 3);  // the caller is 0, the guest comes after all threads
  over = true;
  guest.join();
}

TEST_CASE("pools that come and go run every chunk once, guests or not") {
  std::atomic<bool> over{false};
  std::vector<std::thread> guests;
  for (int i = 0; i < 2; ++i)
    guests.emplace_back([&] {
      while (!over) kernels::help_a_neighbour();
    });
  bool once = true;
  for (int round = 0; round < 300; ++round) {
    cpu::thread_pool pool(1, -1), second(2, -1);
    for (auto* one : {&pool, &second}) {
      std::vector<std::atomic<int>> seen(40);
      one->run(40,
               [&](std::int64_t chunk, std::uint32_t) { ++seen[static_cast<std::size_t>(chunk)]; });
      for (const auto& times : seen) once = once && times == 1;
    }
  }
  CHECK(once);
  over = true;
  for (auto& one : guests) one.join();
}

TEST_CASE("a pool of one thread works on the caller's") {
  cpu::thread_pool pool(1, -1);
  const auto caller = std::this_thread::get_id();
  bool same = true;
  pool.run(10, [&](std::int64_t, std::uint32_t) {
    same = same && std::this_thread::get_id() == caller;
  });
  CHECK(same);
}

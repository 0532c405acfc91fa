// SPDX-License-Identifier: Apache-2.0
// Sums of our own when a rank does not come: an abort ends what waits, the rank is named in time,
// the group is joined anew; all that again with ranks in two processes, one of which is killed.
#include "tests/kernels/cuda/gpu_ranks.hpp"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace dinfer;
using namespace dinfer::kernels;
using namespace dinfer::tests;
using std::chrono_literals::operator""s;
using std::chrono_literals::operator""ms;
using steady = std::chrono::steady_clock;

namespace {

std::size_t at(std::int32_t i) { return static_cast<std::size_t>(i); }

device_tensor ones(device& d, std::int64_t n) {
  auto made = filled(d, dtype::f32, std::vector<float>(static_cast<std::size_t>(n), 1.0F), n);
  d.synchronize();
  return made;
}

// A sum of ones on every rank.
void check_sum(gpu_ranks& group, std::int64_t n) {
  std::vector<device_tensor> x;
  for (std::int32_t i = 0; i < group.size(); ++i) x.push_back(ones(group.device(i), n));
  group.run_and_wait([&](device&, std::int32_t i) { group.rank(i).all_reduce(x[at(i)]); });
  for (const auto& one : x) {
    const auto values = one.values();
    CHECK(std::count(values.begin(), values.end(), static_cast<float>(group.size())) == n);
  }
}

}  // namespace

TEST_CASE(
    "an abort ends sums that wait for a peer, recorded ones too, and the group is joined anew",
    "[gpu][gpus][peers]") {
  if (!two_gpus()) return;
  const std::int64_t n = GENERATE(100, 40'000, 1'000'000);  // one shot and two
  CAPTURE(n);
  gpu_ranks group(group_sizes().back(), dtype::f32);
  for (int round = 0; round < 3; ++round) {
    check_sum(group, n);
    std::vector<device_tensor> x;
    for (std::int32_t i = 0; i < group.size(); ++i) x.push_back(ones(group.device(i), n));
    std::vector<int> refused(x.size(), 0);
    group.run([&](device& d, std::int32_t i) {
      const auto done = d.make_event();
      {
        std::unique_ptr<graph> recording;
        if (round == 1) {
          d.begin_capture();
          for (int k = 0; k < 20; ++k) group.rank(i).all_reduce(x[at(i)]);
          recording = d.end_capture();
        }
        if (i != 1 && recording) recording->replay();
        if (i != 1 && !recording)
          for (int k = 0; k < 20; ++k) group.rank(i).all_reduce(x[at(i)]);
        done->record();
        group.rank(i).abort();
        group.rank(i).abort();
        done->wait(2s);
      }
      try {
        group.rank(i).all_reduce(x[at(i)]);
      } catch (const device_error& e) {
        refused[at(i)] = e.code() == errc::cancelled ? 1 : 0;
      }
    });
    CHECK(refused == std::vector<int>(x.size(), 1));
    group.join();
  }
  check_sum(group, n);
}

TEST_CASE("a rank that does not come to a sum is named within the deadline", "[gpu][gpus][peers]") {
  if (!two_gpus()) return;
  gpu_ranks group(group_sizes().back(), dtype::f32, 8s);  // of joining, too
  const std::int32_t absent = group.size() - 1;
  std::vector<std::string> said(at(group.size()));
  std::vector<std::int32_t> missing(said.size(), -1);
  group.run([&](device&, std::int32_t i) {
    if (i == absent) return;
    const auto begin = steady::now();
    try {
      group.rank(i).reset(2);
    } catch (const device_error& e) {
      if (e.code() == errc::timeout) said[at(i)] = e.what();
      missing[at(i)] = e.peer();
    }
    if (steady::now() - begin > 9s) said[at(i)] = "late";
  });
  for (std::int32_t i = 0; i < absent; ++i) {
    CHECK_THAT(said[at(i)], Catch::Contains("cuda:" + std::to_string(i)));
    CHECK(missing[at(i)] == absent);
  }
  const auto begin = steady::now();
  group.join();
  CHECK(steady::now() - begin < 30s);
  check_sum(group, 1000);
}

TEST_CASE("groups that come and go give their memory back", "[gpu][gpus][peers]") {
  if (!two_gpus()) return;
  gpu_ranks group(2, dtype::f32);
  std::vector<std::uint64_t> before;
  for (int round = 0; round < 12; ++round) {
    check_sum(group, 5000);
    group.join();
    // What NCCL keeps for good is there.
    if (round == 3) before = {group.device(0).free_bytes(), group.device(1).free_bytes()};
  }
  for (std::int32_t i = 0; i < 2; ++i)
    CHECK(group.device(i).free_bytes() + (160 << 20) > before[at(i)]);
}

namespace {

const char* const id_variable = "DINFER_TEST_PEER_GROUP";

std::string as_hex(const std::string& bytes) {
  std::string text;
  for (const char c : bytes) {
    char two[3];
    std::snprintf(two, sizeof two, "%02x", static_cast<unsigned>(static_cast<unsigned char>(c)));
    text += two;
  }
  return text;
}
std::string from_hex(const std::string& text) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2)
    bytes += static_cast<char>(std::stoi(text.substr(i, 2), nullptr, 16));
  return bytes;
}

std::unique_ptr<device> opened_gpu(std::int32_t i) {
  device_options options;
  options.activation = dtype::f32;
  auto opened = open_device("cuda:" + std::to_string(i), options);
  if (!opened) FAIL(opened.error().message);
  return std::move(*opened);
}

constexpr int process_rounds = 50;
const std::vector<std::int64_t> process_sizes = {1, 1000, 100'000, 1'000'000, 3'000'000};

// Sums of ones of many sizes, the same of both processes; how many were wrong.
int sums_of_processes(device& d, communicator& link) {
  int wrong = 0;
  for (int round = 0; round < process_rounds; ++round) {
    for (const std::int64_t n : process_sizes) {
      const auto x = ones(d, n);
      const auto done = d.make_event();
      link.all_reduce(x);
      done->record();
      done->wait(30s);
      for (const float v : x.values()) wrong += v == 2.0F ? 0 : 1;
    }
  }
  return wrong;
}

// This program again, as rank 1: the test case below it.
pid_t start_rank_one(const std::string& id) {
  const std::string hex = as_hex(id);
  const pid_t child = fork();
  if (child != 0) return child;
  ::setenv(id_variable, hex.c_str(), 1);
  execl("/proc/self/exe", "test_cuda", "rank 1 of two processes", nullptr);
  _exit(127);
}

int ended(pid_t child) {
  int status = -1;
  const auto until = steady::now() + 60s;
  while (steady::now() < until) {
    if (waitpid(child, &status, WNOHANG) == child) return status;
    std::this_thread::sleep_for(10ms);
  }
  ::kill(child, SIGKILL);
  return -1;
}

}  // namespace

TEST_CASE("rank 1 of two processes", "[.]") {
  const char* hex = std::getenv(id_variable);
  if (hex == nullptr) return;
  const auto d = opened_gpu(1);
  const auto link = d->join_group({from_hex(hex), 1, 2, false, 60s});
  REQUIRE(link->wires() == "peer memory and NCCL");
  CHECK(sums_of_processes(*d, *link) == 0);
  link->reset(2);
}

TEST_CASE("GPUs of two processes sum through each other's memory", "[gpu][gpus][peers]") {
  if (!two_gpus()) return;
  const auto d = opened_gpu(0);
  for (int round = 0; round < 2; ++round) {
    const std::string id = d->make_group_id();
    const pid_t child = start_rank_one(id);
    const auto link = d->join_group({id, 0, 2, false, 60s});
    CHECK(link->wires() == "peer memory and NCCL");
    CHECK(sums_of_processes(*d, *link) == 0);
    link->reset(2);
    CHECK(ended(child) == 0);
  }
}

TEST_CASE("a process that is killed does not keep the other one's GPU", "[gpu][gpus][peers]") {
  if (!two_gpus()) return;
  const auto d = opened_gpu(0);
  for (int round = 0; round < 2; ++round) {
    const std::string id = d->make_group_id();
    const pid_t child = start_rank_one(id);
    auto link = d->join_group({id, 0, 2, false, 60s});
    const auto x = ones(*d, 1000);
    link->all_reduce(x);  // the child's first sum, of another size, may or may not have come
    ::kill(child, SIGKILL);
    (void)ended(child);
    const auto done = d->make_event();
    for (int k = 0; k < 100; ++k) link->all_reduce(x);
    done->record();
    CHECK_THROWS_AS(done->wait(500ms), device_error);
    const auto begin = steady::now();
    link->abort();
    done->wait(2s);
    link.reset();
    CHECK(steady::now() - begin < 5s);
  }
  const std::string id = d->make_group_id();
  const pid_t child = start_rank_one(id);
  const auto link = d->join_group({id, 0, 2, false, 60s});
  CHECK(sums_of_processes(*d, *link) == 0);
  link->reset(2);
  CHECK(ended(child) == 0);
}

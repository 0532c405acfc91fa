// SPDX-License-Identifier: Apache-2.0
// NCCL's communicator on two GPUs, with sums of our own (peer_sum_test.cpp has more of those): sums
// against sums made on the host, the same bits on both ranks; everything else byte for byte;
// recorded, aborted, joined anew.
#include "tests/kernels/cuda/gpu_ranks.hpp"

#include "kernels/communicator.hpp"
#include "kernels/ops.hpp"

#include <array>
#include <chrono>
#include <filesystem>
#include <functional>
#include <thread>

using namespace dinfer;
using namespace dinfer::kernels;
using namespace dinfer::tests;
using std::chrono_literals::operator""s;

namespace {

class two_ranks : public gpu_ranks {
 public:
  explicit two_ranks(dtype type) : gpu_ranks(2, type, 60s, true) {}

  // Work with a tensor in and one out, both of `type`: what came out on both ranks.
  using operation = std::function<void(communicator&, tensor in, tensor out)>;
  std::array<std::vector<float>, 2> results(dtype type, const std::vector<float>* in,
                                            std::int64_t out_elements, const operation& work) {
    std::vector<device_tensor> from, to;  // by this thread: assertions are made here alone
    for (std::int32_t i = 0; i < 2; ++i) {
      from.push_back(filled(device(i), type, in[i], in[i].size()));
      to.push_back(poisoned(device(i), type, out_elements));
      device(i).synchronize();
    }
    run([&](kernels::device& d, std::int32_t i) {
      const auto at = static_cast<std::size_t>(i);
      work(rank(i), from[at], to[at]);
      d.synchronize();
    });
    std::array<std::vector<float>, 2> out;
    for (std::size_t i = 0; i < 2; ++i)
      out[i] = out_elements > 0 ? to[i].values() : from[i].values();
    return out;
  }
  // Waits for both.
  std::vector<device_tensor> ones(std::int64_t n) {
    std::vector<device_tensor> all;
    const std::vector<float> values(static_cast<std::size_t>(n), 1.0F);
    for (std::int32_t i = 0; i < 2; ++i) {
      all.push_back(filled(device(i), dtype::f32, values, n));
      device(i).synchronize();
    }
    return all;
  }
};

}  // namespace

TEST_CASE("two GPUs sum, gather, scatter and pass on", "[gpu][gpus]") {
  if (!two_gpus()) return;
  const auto type = GENERATE(dtype::f32, dtype::bf16, dtype::f16);
  two_ranks group(type);
  auto random = seeded(311);
  for (const std::int64_t n : few<std::int64_t>({2, 6, 8, 130, 1024, 12'298, 262'144, 1'048'578})) {
    CAPTURE(info(type).name, n);
    const std::vector<float> in[2] = {rounded(random.floats(n, -2, 2), type),
                                      rounded(random.floats(n, -2, 2), type)};
    std::vector<float> sum(static_cast<std::size_t>(n));
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] = in[0][i] + in[1][i];
    sum = rounded(sum, type);
    const auto half = static_cast<std::ptrdiff_t>(n / 2);
    const auto joined = [](std::vector<float> a, const std::vector<float>& b) {
      a.insert(a.end(), b.begin(), b.end());
      return a;
    };
    const auto part = [&](const std::vector<float>& of, int i) {
      return std::vector<float>(of.begin() + i * half, of.begin() + (i + 1) * half);
    };

    const auto reduced =
        group.results(type, in, 0, [](communicator& c, tensor x, tensor) { c.all_reduce(x); });
    check_close("all_reduce", reduced[0], sum, n, bound_of(type));
    check_same("all_reduce", reduced[1], reduced[0], n);

    const auto scattered = group.results(
        type, in, n / 2, [](communicator& c, tensor x, tensor out) { c.reduce_scatter(x, out); });
    for (int i = 0; i < 2; ++i)
      check_close("reduce_scatter", scattered[static_cast<std::size_t>(i)], part(sum, i), n / 2,
                  bound_of(type));

    const auto gathered = group.results(
        type, in, 2 * n, [](communicator& c, tensor x, tensor out) { c.all_gather(x, out); });
    for (const auto& got : gathered) check_same("all_gather", got, joined(in[0], in[1]), n);

    const auto exchanged = group.results(
        type, in, n, [](communicator& c, tensor x, tensor out) { c.all_to_all(x, out); });
    for (int i = 0; i < 2; ++i)
      check_same("all_to_all", exchanged[static_cast<std::size_t>(i)],
                 joined(part(in[0], i), part(in[1], i)), n);

    const auto told =
        group.results(type, in, 0, [](communicator& c, tensor x, tensor) { c.broadcast(x, 1); });
    for (const auto& got : told) check_same("broadcast", got, in[1], n);

    for (const std::int32_t from : {0, 1}) {
      const auto passed = group.results(type, in, n, [&](communicator& c, tensor x, tensor out) {
        if (c.rank() == from) c.send(x, 1 - from);
        else c.recv(out, from);
      });
      check_same("send and recv", passed[static_cast<std::size_t>(1 - from)],
                 in[static_cast<std::size_t>(from)], n);
    }
  }
  group.run([&](device&, std::int32_t i) { group.rank(i).reset(2); });
}

TEST_CASE("recorded sums of two GPUs are sums each time", "[gpu][gpus]") {
  if (!two_gpus()) return;
  two_ranks group(dtype::f32);
  const std::int64_t n = 5000;
  const auto x = group.ones(n);
  group.run([&](device& d, std::int32_t i) {
    const auto& own = x[static_cast<std::size_t>(i)];
    group.rank(i).all_reduce(own);  // 2
    d.begin_capture();
    group.rank(i).all_reduce(own);
    const auto recorded = d.end_capture();
    for (int times = 0; times < 5; ++times) recorded->replay();
    d.synchronize();
  });
  for (const auto& own : x) CHECK(own.values() == std::vector<float>(n, 64.0F));
}

TEST_CASE("an aborted group of two GPUs lets go, and can be joined anew", "[gpu][gpus]") {
  if (!two_gpus()) return;
  two_ranks group(dtype::f32);
  for (int round = 0; round < 3; ++round) {
    std::vector<std::string> said(2);
    const auto x = group.ones(1000);
    group.run([&](device& d, std::int32_t i) {
      const auto& own = x[static_cast<std::size_t>(i)];
      const auto done = d.make_event();
      if (i == 0) group.rank(0).all_reduce(own);  // waits on the GPU for the other one
      done->record();
      group.rank(i).abort();
      group.rank(i).abort();
      done->wait(2s);
      try {
        group.rank(i).all_reduce(own);
      } catch (const device_error& e) {
        if (e.code() == errc::cancelled) said[static_cast<std::size_t>(i)] = e.what();
      }
    });
    CHECK_THAT(said[0], Catch::Contains("cuda:0") && Catch::Contains("aborted"));
    CHECK_THAT(said[1], Catch::Contains("cuda:1"));
    group.join();
    const std::vector<float> ones[2] = {{1, 2}, {3, 5}};
    const auto sums = group.results(dtype::f32, ones, 0,
                                    [](communicator& c, tensor t, tensor) { c.all_reduce(t); });
    CHECK(sums[0] == std::vector<float>{4, 7});
    CHECK(sums[1] == std::vector<float>{4, 7});
  }
}

TEST_CASE("groups of two GPUs that come and go leave nothing behind", "[gpu][gpus]") {
  if (!two_gpus()) return;
  const auto files = [] {
    std::vector<std::string> names;
    for (const auto& one : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code gone;
      names.push_back(std::filesystem::read_symlink(one.path(), gone).string());
    }
    return names;
  };
  two_ranks group(dtype::f32);
  const auto x = group.ones(1024);
  std::vector<std::string> before;
  for (int round = 0; round < 12; ++round) {
    group.join();
    group.run([&](device& d, std::int32_t i) {
      group.rank(i).all_reduce(x[static_cast<std::size_t>(i)]);
      d.synchronize();
    });
    if (round == 3) before = files();  // what NCCL keeps for good is there
  }
  const auto after = files();
  CAPTURE(before, after);
  CHECK(after.size() <= before.size() + 1);  // the directory that is read
}

TEST_CASE("a GPU that waits for a peer in vain says so in time", "[gpu][gpus]") {
  if (!two_gpus()) return;
  auto opened = open_device("cuda:0", {});
  REQUIRE(opened);
  const std::string id = (*opened)->make_group_id();
  const auto begin = std::chrono::steady_clock::now();
  try {
    (void)(*opened)->join_group({id, 0, 2, false, 1s});
    FAIL("nobody else is there");
  } catch (const device_error& e) {
    CHECK(e.code() == errc::timeout);
    CHECK_THAT(e.what(), Catch::Contains("rank 0 of 2") && Catch::Contains("1000 ms"));
  }
  CHECK(std::chrono::steady_clock::now() - begin < 10s);
}

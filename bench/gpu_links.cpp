// SPDX-License-Identifier: Apache-2.0
// What exchanges between GPUs take: sums over all, enqueued one by one and in a recorded step, and
// messages between neighbours there and back. Prints one JSON object a row.
//
//   bench_gpu_links [--ways] [DEVICE...]        cuda:0 cuda:1; an even number of them
//
// all_reduce_us_B: bfloat16 of B bytes, recorded; all_reduce_eager_us_B: enqueued each time;
// send_us_B: one way, half of there and back, recorded, all pairs at once. gb_per_s is the bus
// bandwidth: the bytes that each rank must send, 2 (N - 1) / N times the tensor's for a sum over N,
// over the time. add_norm_us_HxR: a sum of R rows of H columns, added to the residual, and its RMS
// norm, recorded.
//
// "config": "own" is what serves (NCCL's beyond some size), "nccl" NCCL's alone. With --ways also
// "one-shot" and "two-shot", each wherever it can go, from which the limits in
// kernels/cuda/peer_sum.hpp are read; beyond that such a row is NCCL's as well.
#include "kernels/communicator.hpp"
#include "kernels/device.hpp"
#include "kernels/ops.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <span>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace dinfer;
using namespace dinfer::kernels;
using steady = std::chrono::steady_clock;

[[noreturn]] void give_up(const std::string& why) {
  std::fprintf(stderr, "bench_gpu_links: %s\n", why.c_str());
  std::exit(1);
}

// One rank's side of every row; both threads do the same in the same order.
class side {
 public:
  side(device& d, communicator& link, const char* config)
      : device_(d), link_(link), config_(config) {}

  // Seconds of one `work`, the median of some runs of `rounds`. Recorded, or enqueued each time.
  double time(int rounds, bool recorded, const std::function<void()>& work) {
    const auto enqueue = [&] {
      for (int i = 0; i < rounds; ++i) work();
    };
    enqueue();  // connects
    device_.synchronize();
    std::unique_ptr<graph> recording;
    if (recorded) {
      device_.begin_capture();
      enqueue();
      recording = device_.end_capture();
      recording->replay();
      device_.synchronize();
    }
    std::vector<double> samples;
    for (int i = 0; i < 15; ++i) {
      link_.reset(0);  // all begin at once
      const auto begin = steady::now();
      if (recorded) recording->replay();
      else enqueue();
      device_.synchronize();
      samples.push_back(std::chrono::duration<double>(steady::now() - begin).count() / rounds);
    }
    std::sort(samples.begin(), samples.end());
    return samples[samples.size() / 2];
  }

  void run(std::int64_t bytes) {
    const buffer memory = device_.allocate(static_cast<std::size_t>(bytes), true);
    const tensor x = view(memory.data(), dtype::bf16, bytes / 2);
    const int rounds = bytes > (4 << 20) ? 10 : 100;
    const double ranks = link_.size(), sent = 2 * (ranks - 1) / ranks;
    const auto name = [&](const char* what) { return std::string(what) + std::to_string(bytes); };
    const auto sum = [&] { link_.all_reduce(x); };
    print(name("all_reduce_us_"), bytes, sent, time(rounds, true, sum));
    print(name("all_reduce_eager_us_"), bytes, sent, time(rounds, false, sum));
  }

  void send(std::int64_t bytes) {
    const buffer memory = device_.allocate(static_cast<std::size_t>(bytes), true);
    const tensor x = view(memory.data(), dtype::bf16, bytes / 2);
    const int rounds = bytes > (4 << 20) ? 10 : 100;
    const std::int32_t peer = link_.rank() ^ 1;
    const auto there_and_back = [&] {
      if (link_.rank() < peer) link_.send(x, peer), link_.recv(x, peer);
      else link_.recv(x, peer), link_.send(x, peer);
    };
    print("send_us_" + std::to_string(bytes), bytes, 1, time(rounds, true, there_and_back) / 2);
  }

  void norm(std::int64_t columns, std::int64_t rows) {
    const auto bytes = static_cast<std::size_t>(rows * columns * 2);
    const buffer partial = device_.allocate(bytes, true), residual = device_.allocate(bytes, true),
                 normed = device_.allocate(bytes, true);
    const std::vector<float> ones(static_cast<std::size_t>(columns), 1.0F);
    const weight_slice slice{
        reinterpret_cast<const std::byte*>(ones.data()), dtype::f32, columns, 0, 1, 0, columns};
    const auto gain = device_.ops().prepare(std::span(&slice, 1), weight_role::vector, {});
    device_.synchronize();
    norm_args rms;
    rms.gain = gain.get();
    add_norm_args args;
    args.tp = &link_;
    args.partial = view(partial.data(), dtype::bf16, rows, columns);
    args.residual = view(residual.data(), dtype::bf16, rows, columns);
    args.normed = view(normed.data(), dtype::bf16, rows, columns);
    args.norm = &rms;
    const double ranks = link_.size();
    print("add_norm_us_" + std::to_string(columns) + "x" + std::to_string(rows), rows * columns * 2,
          2 * (ranks - 1) / ranks, time(100, true, [&] { device_.ops().add_norm(args); }));
  }

 private:
  void print(const std::string& what, std::int64_t bytes, double sent, double seconds) const {
    if (link_.rank() != 0) return;
    std::printf(
        "{\"workload\": \"%s\", \"config\": \"%s\", \"value\": %.2f, \"unit\": \"us\", "
        "\"gb_per_s\": %.2f}\n",
        what.c_str(), config_, seconds * 1e6, static_cast<double>(bytes) * sent / seconds / 1e9);
    std::fflush(stdout);
  }

  device& device_;
  communicator& link_;
  const char* config_;
};

// What DINFER_PEER_REDUCE is for a config.
struct config {
  const char* name;
  const char* setting;
  bool sends = false;  // which are the same in all
};
constexpr config own{"own", "1", true}, by_nccl{"nccl", "0"}, one_shot{"one-shot", "one-shot"},
    two_shot{"two-shot", "two-shot"};

void run(device& own_device, const std::string& id, std::int32_t rank, std::int32_t count,
         const config& how) {
  const auto link = own_device.join_group({id, rank, count, true, std::chrono::seconds(60)});
  side here(own_device, *link, how.name);
  for (std::int64_t kib = 8; kib <= 65536; kib *= 2) here.run(kib * 1024);
  if (how.sends)
    for (const std::int64_t kib : {8, 64, 256, 1024, 2048, 8192, 65536}) here.send(kib * 1024);
  for (const std::int64_t columns : {4096, 8192})
    for (const std::int64_t rows : {1, 8, 64, 128}) here.norm(columns, rows);
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> names(argv + 1, argv + argc);
  const bool ways = !names.empty() && names[0] == "--ways";
  if (ways) names.erase(names.begin());
  if (names.size() % 2 != 0)
    give_up("usage: bench_gpu_links [--ways] [DEVICE...], an even number of devices");
  if (names.empty()) names = {"cuda:0", "cuda:1"};
  const auto count = static_cast<std::int32_t>(names.size());
  std::vector<std::unique_ptr<device>> devices;
  for (const auto& name : names) {
    auto opened = open_device(name, {});
    if (!opened) give_up(opened.error().message);
    devices.push_back(std::move(*opened));
  }
  std::vector<config> configs{own, by_nccl};
  if (ways) configs.insert(configs.end(), {one_shot, two_shot});
  try {
    for (const config& how : configs) {
      ::setenv("DINFER_PEER_REDUCE", how.setting, 1);
      const std::string id = devices[0]->make_group_id();
      if (id.empty()) give_up("these devices have no links of their own; GPUs are needed");
      std::vector<std::thread> ranks;
      for (std::int32_t rank = 0; rank < count; ++rank) {
        ranks.emplace_back([&, rank] {
          try {
            run(*devices[static_cast<std::size_t>(rank)], id, rank, count, how);
          } catch (const device_error& e) {
            give_up(e.what());
          }
        });
      }
      for (auto& rank : ranks) rank.join();
    }
  } catch (const device_error& e) {
    give_up(e.what());
  }
}

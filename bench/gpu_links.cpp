// SPDX-License-Identifier: Apache-2.0
// What exchanges between GPUs take: sums over all, enqueued one by one and in a recorded step, and
// messages between neighbours there and back. Prints one JSON object a row.
//
//   bench_gpu_links [DEVICE...]        cuda:0 cuda:1; an even number of them
//
// all_reduce_us_B: bfloat16 of B bytes, recorded; all_reduce_eager_us_B: enqueued each time;
// send_us_B: one way, half of there and back, recorded, all pairs at once. gb_per_s is the bus
// bandwidth: the bytes that each rank must send, 2 (N - 1) / N times the tensor's for a sum over N,
// over the time.
#include "kernels/communicator.hpp"
#include "kernels/device.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
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
  side(device& d, communicator& link) : device_(d), link_(link) {}

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
    print("all_reduce_us", bytes, sent, time(rounds, true, [&] { link_.all_reduce(x); }));
    print("all_reduce_eager_us", bytes, sent, time(rounds, false, [&] { link_.all_reduce(x); }));
    const std::int32_t peer = link_.rank() ^ 1;
    const auto there_and_back = [&] {
      if (link_.rank() < peer) link_.send(x, peer), link_.recv(x, peer);
      else link_.recv(x, peer), link_.send(x, peer);
    };
    print("send_us", bytes, 1, time(rounds, true, there_and_back) / 2);
  }

 private:
  void print(const char* what, std::int64_t bytes, double sent, double seconds) const {
    if (link_.rank() != 0) return;
    std::printf(
        "{\"workload\": \"%s_%lld\", \"value\": %.2f, \"unit\": \"us\", \"gb_per_s\": %.2f}\n",
        what, static_cast<long long>(bytes), seconds * 1e6,
        static_cast<double>(bytes) * sent / seconds / 1e9);
    std::fflush(stdout);
  }

  device& device_;
  communicator& link_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc % 2 == 0) give_up("usage: bench_gpu_links [DEVICE...], an even number of devices");
  std::vector<std::string> names(argv + 1, argv + argc);
  if (names.empty()) names = {"cuda:0", "cuda:1"};
  const auto count = static_cast<std::int32_t>(names.size());
  std::vector<std::unique_ptr<device>> devices;
  for (const auto& name : names) {
    auto opened = open_device(name, {});
    if (!opened) give_up(opened.error().message);
    devices.push_back(std::move(*opened));
  }
  try {
    const std::string id = devices[0]->make_group_id();
    if (id.empty()) give_up("these devices have no links of their own; GPUs are needed");
    std::vector<std::thread> ranks;
    for (std::int32_t rank = 0; rank < count; ++rank) {
      ranks.emplace_back([&, rank] {
        try {
          device& own = *devices[static_cast<std::size_t>(rank)];
          const auto link = own.join_group({id, rank, count, true, std::chrono::seconds(60)});
          side here(own, *link);
          for (const std::int64_t kib : {8, 64, 256, 1024, 2048, 8192, 65536}) here.run(kib * 1024);
        } catch (const device_error& e) {
          give_up(e.what());
        }
      });
    }
    for (auto& rank : ranks) rank.join();
  } catch (const device_error& e) {
    give_up(e.what());
  }
}

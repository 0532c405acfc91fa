// SPDX-License-Identifier: Apache-2.0
// Ranks of one process for tests: a communicator whose all_gather and all_reduce meet at a barrier.
#pragma once

#include "kernels/communicator.hpp"

#include <barrier>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

namespace dinfer::tests {

struct meeting {
  explicit meeting(std::int32_t ranks) : door(ranks), given(static_cast<std::size_t>(ranks)) {}
  std::barrier<> door;
  std::vector<kernels::tensor> given;
};

class thread_communicator final : public kernels::communicator {
 public:
  thread_communicator(meeting& place, std::int32_t rank) : place_(place), rank_(rank) {}
  std::int32_t rank() const noexcept override { return rank_; }
  std::int32_t size() const noexcept override {
    return static_cast<std::int32_t>(place_.given.size());
  }

  void all_gather(kernels::tensor in, kernels::tensor out) override {
    if (out.bytes() != in.bytes() * size()) throw std::logic_error("all_gather: sizes differ");
    give(in);
    for (std::int32_t r = 0; r < size(); ++r) {
      std::memcpy(out.as<std::byte>() + r * in.bytes(),
                  place_.given[static_cast<std::size_t>(r)].data,
                  static_cast<std::size_t>(in.bytes()));
    }
    place_.door.arrive_and_wait();
  }

  void all_reduce(kernels::tensor inout) override {
    give(inout);
    std::vector<float> sum(static_cast<std::size_t>(inout.elements()));
    for (const auto& t : place_.given) {
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += t.as<float>()[i];
    }
    place_.door.arrive_and_wait();
    std::memcpy(inout.data, sum.data(), static_cast<std::size_t>(inout.bytes()));
    place_.door.arrive_and_wait();
  }

  void reduce_scatter(kernels::tensor, kernels::tensor) override { refuse(); }
  void all_to_all(kernels::tensor, kernels::tensor) override { refuse(); }
  void broadcast(kernels::tensor, std::int32_t) override { refuse(); }
  void send(kernels::tensor, std::int32_t) override { refuse(); }
  void recv(kernels::tensor, std::int32_t) override { refuse(); }
  void abort() noexcept override {}
  void reset(std::uint32_t) override {}

 private:
  [[noreturn]] static void refuse() { throw std::logic_error("no operation of this room uses it"); }
  void give(kernels::tensor t) {
    place_.given[static_cast<std::size_t>(rank_)] = t;
    place_.door.arrive_and_wait();
  }
  meeting& place_;
  std::int32_t rank_;
};

// Runs body(rank) on `ranks` threads at once.
inline void on_ranks(std::int32_t ranks, const std::function<void(kernels::communicator&)>& body) {
  meeting place(ranks);
  std::vector<std::thread> threads;
  for (std::int32_t r = 0; r < ranks; ++r) {
    threads.emplace_back([&, r] {
      thread_communicator tp(place, r);
      body(tp);
    });
  }
  for (auto& t : threads) t.join();
}

}  // namespace dinfer::tests

// SPDX-License-Identifier: Apache-2.0
// Groups of ranks for tests: every rank is a thread with a transport of its own, over any wire.
#pragma once

#include "kernels/communicator.hpp"
#include "net/comm/transport.hpp"

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace dinfer::tests {

using namespace std::chrono_literals;

struct group_options {
  std::int32_t size = 2;
  transport_choice choice = transport_choice::automatic;
  bool own_addresses = false;  // 127.0.0.1, 127.0.0.2, ...
  std::chrono::milliseconds timeout{10'000};
};

inline std::unique_ptr<runtime::transport> rank_transport(const group_options& o,
                                                          std::int32_t rank) {
  net::cpu_transport_options options;
  options.address = "127.0.0." + std::to_string(o.own_addresses ? rank + 1 : 1);
  options.choice = o.choice;
  options.timeout = o.timeout;
  options.name = "n" + std::to_string(rank);
  return net::make_cpu_transport(options);
}

// Runs `body` as every rank of one group, each on its thread; the first exception is rethrown.
inline void run_group(const group_options& o,
                      const std::function<void(kernels::communicator&)>& body) {
  const auto n = static_cast<std::size_t>(o.size);
  std::vector<std::unique_ptr<runtime::transport>> transports;
  std::vector<std::string> cards;
  for (std::int32_t rank = 0; rank < o.size; ++rank) {
    transports.push_back(rank_transport(o, rank));
    auto card = transports.back()->card();
    if (!card) throw std::runtime_error(card.error().message);
    cards.push_back(*card);
  }
  std::vector<std::exception_ptr> errors(n);
  std::vector<std::thread> threads;
  for (std::int32_t rank = 0; rank < o.size; ++rank) {
    threads.emplace_back([&, rank] {
      const auto i = static_cast<std::size_t>(rank);
      try {
        auto made = transports[i]->join("g", cards, rank, 5000ms);
        if (!made) throw std::runtime_error(made.error().message);
        body(**made);
      } catch (...) {
        errors[i] = std::current_exception();
      }
    });
  }
  for (auto& one : threads) one.join();
  for (const auto& one : errors)
    if (one) std::rethrow_exception(one);
}

}  // namespace dinfer::tests

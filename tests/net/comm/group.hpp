// SPDX-License-Identifier: Apache-2.0
// Groups of ranks for tests, over any wire: every rank a thread, or every rank a process.
#pragma once

#include "dinfer/config.hpp"
#include "kernels/communicator.hpp"
#include "runtime/runner.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <sys/types.h>

namespace dinfer::tests {

struct group_options {
  std::int32_t size = 2;
  transport_choice choice = transport_choice::automatic;
  bool own_addresses = false;  // 127.0.0.1, 127.0.0.2, ...
  std::chrono::milliseconds timeout{10'000};
  bool tls = false;  // TCP over TLS
};

// The wires: local, shared memory, TCP, TCP over TLS.
struct wire {
  const char* name;
  transport_choice choice;
  bool own_addresses, tls;
  group_options of(std::int32_t size, std::chrono::milliseconds timeout) const {
    return {size, choice, own_addresses, timeout, tls};
  }
};
inline constexpr wire wires[] = {{"local", transport_choice::automatic, false, false},
                                 {"shared memory", transport_choice::shared_memory, false, false},
                                 {"tcp", transport_choice::tcp, true, false},
                                 {"tls", transport_choice::tcp, true, true}};

std::unique_ptr<runtime::transport> rank_transport(const group_options& o, std::int32_t rank);

using rank_body = std::function<void(kernels::communicator&)>;

// Runs `body` as every rank, each on its thread with its own transport; the first exception is
// rethrown.
void run_threads(const group_options& o, const rank_body& body);

// Ranks as children of this process, which must have one thread when they are made. A child ends
// with 0 when its body returns, with 1 when it throws; the text is on stderr. Children that are
// left are killed.
class rank_processes {
 public:
  rank_processes(const group_options& o, const rank_body& body);
  ~rank_processes();
  void kill(std::int32_t rank);
  // Waits at most ten seconds: the exit status, or 128 + signal.
  std::int32_t wait(std::int32_t rank);
  bool all_fine();

 private:
  std::vector<pid_t> children_;
};

}  // namespace dinfer::tests

// SPDX-License-Identifier: Apache-2.0
// Where a rank's data connections arrive: one TCP port and one local name, watched by one thread. A
// connection that does not show the right nonce within a second, over TLS where the cluster has
// certificates, is closed; few may stand unproven at a time, and nothing they send makes us
// allocate more than a handshake takes. Proven ones wait here until the rank's thread takes them.
// Any thread.
#pragma once

#include "dinfer/error.hpp"
#include "net/comm/card.hpp"
#include "net/comm/socket.hpp"
#include "net/comm/stream.hpp"

#include <array>
#include <condition_variable>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace dinfer::net {

// The first bytes of a connection, and the answer to them with the dialler's nonce.
struct greeting {
  std::array<char, 8> mark{'d', 'i', 'n', 'f', 'e', 'r', 'D', '1'};
  nonce secret{};  // of the one who is greeted
  std::uint64_t meeting = 0;
  std::uint32_t from = 0;
  std::uint32_t lane = 0;
};
static_assert(sizeof(greeting) == 40);

class door {
 public:
  // `own`: who we are to those who come over TCP; null: TCP without TLS.
  static result<std::unique_ptr<door>> open(const std::string& address, const nonce& secret,
                                            std::shared_ptr<const tls_identity> own);
  ~door();
  std::uint16_t port() const noexcept { return tcp_.port; }

  // The newest connection that greeted with these; waits for it. Errors: timeout, cancelled.
  result<stream> take(std::uint64_t meeting, std::uint32_t from, std::uint32_t lane,
                      wait_limit limit);

 private:
  struct visitor {
    stream socket;
    greeting said;
    std::size_t got = 0;
    clock::time_point deadline;
  };

  door(listener tcp, descriptor local, descriptor stop, const nonce& secret,
       std::shared_ptr<const tls_identity> own);
  void watch();
  void let_in(const descriptor& listening, std::shared_ptr<const tls_identity> own);
  bool listen_to(visitor& from);  // false: it is done with
  void admit(visitor& proven);

  listener tcp_;
  descriptor local_, stop_;
  nonce secret_;
  std::shared_ptr<const tls_identity> own_;
  std::list<visitor> visitors_;  // the watching thread's
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::list<visitor> proven_;
  std::thread thread_;
};

// The local name that belongs to a nonce.
std::string local_name(const nonce& secret);

}  // namespace dinfer::net

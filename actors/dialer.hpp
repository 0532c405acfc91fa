// SPDX-License-Identifier: Apache-2.0
// Connects to other nodes. CAF connects inside its one network actor, where a host that drops
// packets would hold up every other connection; so a socket of our own tries the port first, on
// this actor's thread. With TLS it also learns why one side does not trust the other.
#pragma once

#include "actors/interfaces.hpp"
#include "actors/network.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

namespace dinfer::actors {

// Connects and closes again within `timeout`. Errors: peer_lost ("127.0.0.2:4242 refused"),
// timeout, invalid_argument (not an address). Blocks the calling thread.
result<void> probe_port(const std::string& address, std::uint16_t port, milliseconds timeout);

// Proves who we are and who answers, and waits for its first byte. Errors: mismatch, one side does
// not trust the other; timeout, peer_lost. Blocks the calling thread.
result<void> prove_port(const std::string& address, std::uint16_t port, milliseconds timeout,
                        std::shared_ptr<const net::tls_identity> own);

struct dialer_setup {
  network_actor network;
  std::shared_ptr<const net::tls_identity> own;  // null: plain TCP
  milliseconds probe_timeout{1000};
  milliseconds connect_timeout{5000};
};

class dialer {
 public:
  using handle_type = dialer_actor;
  static inline const char* name = "dinfer.dialer";

  dialer(dialer_actor::pointer self, dialer_setup setup) : self_(self), setup_(std::move(setup)) {}
  dialer_actor::behavior_type make_behavior();

 private:
  caf::result<directory_actor> connect(const dial& message);

  dialer_actor::pointer self_;
  dialer_setup setup_;
};

}  // namespace dinfer::actors

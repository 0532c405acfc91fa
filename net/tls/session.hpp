// SPDX-License-Identifier: Apache-2.0
// TLS over a socket that does not block: nothing here waits. Both sides prove that they hold a
// certificate of the cluster's CA before either reads a byte of the other's. Thread: one at a time.
#pragma once

#include "dinfer/error.hpp"
#include "net/tls/identity.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

struct ssl_st;

namespace dinfer::net {

enum class tls_side : std::uint8_t { client, server };

class tls_session {
 public:
  // `socket` is connected, stays the caller's and outlives the session.
  static result<tls_session> open(std::shared_ptr<const tls_identity> own, int socket,
                                  tls_side side);

  // A step of the handshake, as far as bytes are there. True: done. False: wait until the socket
  // can be read, then go on. Errors: mismatch, the other side has no certificate of our CA or does
  // not accept ours; peer_lost.
  result<bool> shake_hands();
  bool proven() const noexcept { return proven_; }

  // Only once proven. 0: nothing there now. Error: peer_lost, closed or damaged.
  result<std::size_t> read_some(std::span<std::byte> to);
  // At most one record. 0: no room now; the next call must then bring the same bytes, or more.
  result<std::size_t> write_some(std::span<const std::byte> from);
  static constexpr std::size_t record_bytes = 16 << 10;

  // Whether bytes were taken from the socket that read_some has not given yet. A poll of the socket
  // does not tell of them: read until read_some gives 0.
  bool buffered() const noexcept;

 private:
  struct freer {
    void operator()(ssl_st* held) const noexcept;
  };
  explicit tls_session(std::shared_ptr<const tls_identity> own) : own_(std::move(own)) {}
  error failure(int code) const;

  std::shared_ptr<const tls_identity> own_;
  std::unique_ptr<ssl_st, freer> ssl_;
  std::uint64_t records_ = 0;
  bool proven_ = false;
};

}  // namespace dinfer::net

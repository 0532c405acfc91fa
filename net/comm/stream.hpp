// SPDX-License-Identifier: Apache-2.0
// One connection between two ranks: a socket, with TLS over it where the cluster has certificates.
// Nothing waits but the functions with a deadline. Thread: one at a time.
#pragma once

#include "dinfer/error.hpp"
#include "net/comm/socket.hpp"
#include "net/tls/session.hpp"

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace dinfer::net {

class stream {
 public:
  stream() = default;
  explicit stream(descriptor socket) noexcept : socket_(std::move(socket)) {}
  // Plain when `own` is null.
  static result<stream> open(descriptor socket, std::shared_ptr<const tls_identity> own,
                             tls_side side);
  explicit operator bool() const noexcept { return static_cast<bool>(socket_); }
  int fd() const noexcept { return socket_.get(); }
  bool secured() const noexcept { return tls_.has_value(); }

  // As tls_session's; without TLS true at once.
  result<bool> shake_hands();
  result<void> shake_hands(wait_limit limit);

  // Moves what fits now, perhaps nothing. Error: peer_lost.
  result<std::size_t> read_some(std::span<std::byte> to);
  // `head` goes before `body`. While a record waits inside for room, its last byte counts as not
  // written, so that the writer comes back; what the writer brings then is not looked at before the
  // record has gone, and the first byte of it is the one that was held back.
  result<std::size_t> write_some(std::span<const std::byte> head, std::span<const std::byte> body);

  result<void> read_all(void* to, std::size_t bytes, wait_limit limit);
  result<void> write_all(const void* from, std::size_t bytes, wait_limit limit);

 private:
  result<std::size_t> write_record(std::span<const std::byte> head,
                                   std::span<const std::byte> body);

  descriptor socket_;
  std::optional<tls_session> tls_;  // after the socket, which must outlive it
  std::vector<std::byte> record_;   // tls_session::record_bytes with TLS
  std::size_t waiting_ = 0;         // bytes of record_ that are encrypted and not gone
};

}  // namespace dinfer::net

// SPDX-License-Identifier: Apache-2.0
// Sockets as net/comm uses them: non-blocking, closed on exec, every wait with a deadline. TCP
// between addresses; unnamed-in-the-filesystem local sockets between processes of one host, which
// also carry descriptors. Any thread. Errors: timeout, peer_lost (closed or refused), io_error.
#pragma once

#include "dinfer/error.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

namespace dinfer::net {

using clock = std::chrono::steady_clock;

// Owns a file descriptor.
class descriptor {
 public:
  descriptor() = default;
  explicit descriptor(int fd) noexcept : fd_(fd) {}
  descriptor(descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  descriptor& operator=(descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~descriptor();
  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

// errno as an error: "binding 10.0.0.1: Cannot assign requested address".
error system_error_of(const std::string& doing);

struct listener {
  descriptor socket;
  std::uint16_t port = 0;
};
result<listener> listen_tcp(const std::string& address);   // any free port
result<descriptor> listen_local(const std::string& name);  // Linux abstract name
result<descriptor> accept_one(const descriptor& from);     // no wait: io_error when none
result<descriptor> connect_tcp(const std::string& address, std::uint16_t port,
                               clock::time_point deadline);
result<descriptor> connect_local(const std::string& name, clock::time_point deadline);

// Waits until `events` (POLLIN, POLLOUT) hold.
result<void> await(int fd, short events, clock::time_point deadline);

// Over a local socket.
result<void> pass_descriptor(int over, int passed, clock::time_point deadline);
result<descriptor> receive_descriptor(int over, clock::time_point deadline);

// True once the other end is closed, its process killed included. Reads nothing.
bool hung_up(int fd) noexcept;

}  // namespace dinfer::net

// SPDX-License-Identifier: Apache-2.0
// Sockets as net/comm uses them: non-blocking, closed on exec, every wait with a deadline. TCP
// between addresses; unnamed-in-the-filesystem local sockets between processes of one host, which
// also carry descriptors. Any thread. Errors: timeout, cancelled, peer_lost (closed or refused),
// io_error.
#pragma once

#include "dinfer/error.hpp"

#include <atomic>
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

// Until when something is waited for. Whoever may have to give up earlier passes a flag, which is
// looked at every 20 ms.
struct wait_limit {
  wait_limit(clock::time_point at, const std::atomic<bool>* flag = nullptr)
      : deadline(at), aborted(flag) {}
  clock::time_point deadline;
  const std::atomic<bool>* aborted;

  bool given_up() const noexcept { return aborted != nullptr && *aborted; }
  clock::time_point next_look() const noexcept;
  error passed(const std::string& what) const;  // timeout with these words; or cancelled
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
result<descriptor> connect_tcp(const std::string& address, std::uint16_t port, wait_limit limit);
result<descriptor> connect_local(const std::string& name, wait_limit limit);

// Waits until `events` (POLLIN, POLLOUT) hold.
result<void> await(int fd, short events, wait_limit limit);

// Over a local socket.
result<void> pass_descriptor(int over, int passed, wait_limit limit);
result<descriptor> receive_descriptor(int over, wait_limit limit);

// True once the other end is closed, its process killed included. Reads nothing.
bool hung_up(int fd) noexcept;

}  // namespace dinfer::net

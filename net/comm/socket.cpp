// SPDX-License-Identifier: Apache-2.0
// Plain POSIX sockets under poll(). The rank's own thread waits here, so an event loop would only
// add a hop to every wait.
#include "net/comm/socket.hpp"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <thread>

namespace dinfer::net {
namespace {

constexpr int backlog = 128;
constexpr auto between_looks = std::chrono::milliseconds(20);

tl::unexpected<error> failed(const std::string& doing) {
  return tl::unexpected<error>(system_error_of(doing));
}

struct address_list_deleter {
  void operator()(addrinfo* list) const noexcept { freeaddrinfo(list); }
};
using address_list = std::unique_ptr<addrinfo, address_list_deleter>;

result<address_list> resolve(const std::string& address, std::uint16_t port, int flags) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int code = getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (code != 0)
    return fail(errc::io_error, "address \"" + address + "\": " + gai_strerror(code), address);
  return address_list(found);
}

descriptor open_socket(int family) {
  return descriptor(socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

void send_at_once(const descriptor& tcp) noexcept {
  const int on = 1;
  setsockopt(tcp.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

// An abstract name starts with a zero byte and lives as long as its socket: nothing to unlink.
result<socklen_t> fill_name(sockaddr_un& to, const std::string& name) {
  to = {};
  to.sun_family = AF_UNIX;
  if (name.size() + 1 > sizeof to.sun_path)
    return fail(errc::invalid_argument, "local socket name too long: " + name);
  std::memcpy(to.sun_path + 1, name.data(), name.size());
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
}

result<void> finish_connect(const descriptor& socket, wait_limit limit) {
  DINFER_CHECK(await(socket.get(), POLLOUT, limit));
  int code = 0;
  socklen_t size = sizeof code;
  if (getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &code, &size) != 0)
    return failed("connecting");
  if (code == 0) return {};
  errno = code;
  return failed("connecting");
}

}  // namespace

descriptor::~descriptor() {
  if (fd_ >= 0) close(fd_);
}

error system_error_of(const std::string& doing) {
  const int code = errno;
  const bool gone = code == EPIPE || code == ECONNRESET || code == ECONNREFUSED;
  return error{gone ? errc::peer_lost : errc::io_error, doing + ": " + std::strerror(code), {}};
}

result<listener> listen_tcp(const std::string& address) {
  DINFER_TRY(const auto list, resolve(address, 0, AI_PASSIVE));
  error last{errc::io_error, "no address", address};
  for (const auto* at = list.get(); at != nullptr; at = at->ai_next) {
    auto socket = open_socket(at->ai_family);
    sockaddr_storage bound{};
    socklen_t size = sizeof bound;
    if (!socket || bind(socket.get(), at->ai_addr, at->ai_addrlen) != 0 ||
        listen(socket.get(), backlog) != 0 ||
        getsockname(socket.get(), reinterpret_cast<sockaddr*>(&bound), &size) != 0) {
      last = system_error_of("binding " + address);
      continue;
    }
    const auto port = bound.ss_family == AF_INET6
                          ? reinterpret_cast<const sockaddr_in6*>(&bound)->sin6_port
                          : reinterpret_cast<const sockaddr_in*>(&bound)->sin_port;
    return listener{std::move(socket), ntohs(port)};
  }
  return tl::unexpected(last);
}

result<descriptor> listen_local(const std::string& name) {
  sockaddr_un at;
  DINFER_TRY(const auto size, fill_name(at, name));
  auto socket = open_socket(AF_UNIX);
  if (!socket || bind(socket.get(), reinterpret_cast<const sockaddr*>(&at), size) != 0 ||
      listen(socket.get(), backlog) != 0)
    return failed("binding local socket " + name);
  return socket;
}

result<descriptor> accept_one(const descriptor& from) {
  descriptor made(accept4(from.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!made) return failed("accepting");
  send_at_once(made);  // has no effect on a local socket
  return made;
}

result<descriptor> connect_tcp(const std::string& address, std::uint16_t port, wait_limit limit) {
  DINFER_TRY(const auto list, resolve(address, port, 0));
  error last{errc::io_error, "no address", address};
  for (const auto* at = list.get(); at != nullptr; at = at->ai_next) {
    auto socket = open_socket(at->ai_family);
    if (!socket) return failed("opening a socket");
    send_at_once(socket);
    if (connect(socket.get(), at->ai_addr, at->ai_addrlen) == 0) return socket;
    if (errno != EINPROGRESS) {
      last = system_error_of("connecting");
      continue;
    }
    auto done = finish_connect(socket, limit);
    if (done) return socket;
    last = done.error();
  }
  return tl::unexpected(last);
}

result<descriptor> connect_local(const std::string& name, wait_limit limit) {
  sockaddr_un at;
  DINFER_TRY(const auto size, fill_name(at, name));
  for (;;) {
    auto socket = open_socket(AF_UNIX);
    if (!socket) return failed("opening a socket");
    if (connect(socket.get(), reinterpret_cast<const sockaddr*>(&at), size) == 0) return socket;
    if (errno != EAGAIN) return failed("connecting");  // EAGAIN: its backlog is full
    if (limit.given_up() || clock::now() >= limit.deadline)
      return tl::unexpected(limit.passed("connecting: backlog full"));
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

clock::time_point wait_limit::next_look() const noexcept {
  return aborted == nullptr ? deadline : std::min(deadline, clock::now() + between_looks);
}

error wait_limit::passed(const std::string& what) const {
  if (given_up()) return {errc::cancelled, "it was aborted", {}};
  return {errc::timeout, what, {}};
}

result<void> await(int fd, short events, wait_limit limit) {
  for (;;) {
    if (limit.given_up()) return tl::unexpected(limit.passed({}));
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(limit.next_look() - clock::now()).count();
    pollfd one{fd, events, 0};
    const int wait_ms = static_cast<int>(std::clamp<std::int64_t>(left, 0, 1'000'000));
    const int ready = poll(&one, 1, wait_ms);
    if (ready > 0) return {};
    if (ready < 0 && errno != EINTR) return failed("waiting");
    if (ready == 0 && clock::now() >= limit.deadline) return fail(errc::timeout, "deadline passed");
  }
}

result<void> pass_descriptor(int over, int passed, wait_limit limit) {
  char byte = 'd';
  iovec part{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  auto* head = CMSG_FIRSTHDR(&message);
  head->cmsg_level = SOL_SOCKET;
  head->cmsg_type = SCM_RIGHTS;
  head->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(head), &passed, sizeof passed);
  for (;;) {
    if (sendmsg(over, &message, MSG_NOSIGNAL) == 1) return {};
    if (errno != EAGAIN && errno != EINTR) return failed("passing a descriptor");
    DINFER_CHECK(await(over, POLLOUT, limit));
  }
}

result<descriptor> receive_descriptor(int over, wait_limit limit) {
  char byte = 0;
  iovec part{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  for (;;) {
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const auto got = recvmsg(over, &message, MSG_CMSG_CLOEXEC);
    if (got == 0) return fail(errc::peer_lost, "connection closed");
    if (got < 0 && errno != EAGAIN && errno != EINTR) return failed("receiving a descriptor");
    if (got < 0) {
      DINFER_CHECK(await(over, POLLIN, limit));
      continue;
    }
    const auto* head = CMSG_FIRSTHDR(&message);
    if (head == nullptr || head->cmsg_type != SCM_RIGHTS || head->cmsg_len != CMSG_LEN(sizeof(int)))
      return fail(errc::mismatch, "a descriptor was expected");
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(head), sizeof fd);
    return descriptor(fd);
  }
}

bool hung_up(int fd) noexcept {
  pollfd one{fd, POLLRDHUP, 0};
  return poll(&one, 1, 0) > 0 && (one.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

}  // namespace dinfer::net

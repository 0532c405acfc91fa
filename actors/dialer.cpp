// SPDX-License-Identifier: Apache-2.0
// See dialer.hpp.
#include "actors/dialer.hpp"

#include "actors/wire.hpp"
#include "net/comm/stream.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <caf/io/all.hpp>

#include <cerrno>
#include <cstring>
#include <memory>
#include <set>
#include <utility>

namespace dinfer::actors {

namespace {

class socket_fd {
 public:
  explicit socket_fd(int fd) noexcept : fd_(fd) {}
  ~socket_fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  socket_fd(const socket_fd&) = delete;
  socket_fd& operator=(const socket_fd&) = delete;
  int get() const noexcept { return fd_; }

 private:
  int fd_;
};

std::string place(const std::string& address, std::uint16_t port) {
  return address + ":" + std::to_string(port);
}

result<void> outcome(int code, const std::string& where) {
  if (code == 0) return {};
  if (code == ECONNREFUSED) return fail(errc::peer_lost, where + " refused");
  if (code == EINPROGRESS || code == ETIMEDOUT)
    return fail(errc::timeout, where + " did not answer");
  return fail(errc::peer_lost, where + ": " + std::strerror(code));
}

}  // namespace

result<void> probe_port(const std::string& address, std::uint16_t port, milliseconds timeout) {
  const auto where = place(address, port);
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int code = ::getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &found))
    return fail(errc::invalid_argument, where + ": " + ::gai_strerror(code), "address");
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, &::freeaddrinfo);
  const socket_fd fd(::socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) return fail(errc::io_error, where + ": " + std::strerror(errno));
  if (::connect(fd.get(), found->ai_addr, found->ai_addrlen) == 0) return {};
  if (errno != EINPROGRESS) return outcome(errno, where);
  pollfd wait{fd.get(), POLLOUT, 0};
  if (::poll(&wait, 1, static_cast<int>(timeout.count())) <= 0) return outcome(EINPROGRESS, where);
  int code = 0;
  socklen_t size = sizeof code;
  if (::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &code, &size) != 0) code = errno;
  return outcome(code, where);
}

result<void> prove_port(const std::string& address, std::uint16_t port, milliseconds timeout,
                        std::shared_ptr<const net::tls_identity> own) {
  const auto deadline = net::clock::now() + timeout;
  const auto prove = [&]() -> result<void> {
    DINFER_TRY(auto socket, net::connect_tcp(address, port, deadline));
    DINFER_TRY(auto over, net::stream::open(std::move(socket), own, net::tls_side::client));
    DINFER_CHECK(over.shake_hands(deadline));
    char first = 0;
    return over.read_all(&first, 1, deadline);
  };
  auto done = prove();
  if (!done) return fail(done.error().code, place(address, port) + ": " + done.error().message);
  return {};
}

dialer_actor::behavior_type dialer::make_behavior() {
  return {
      [this](const dial& message) { return connect(message); },
      [this](const probe& message) -> caf::result<welcome> {
        if (auto open = probe_port(message.address, message.port, setup_.probe_timeout); !open)
          return to_caf(open.error());
        return welcome{};
      },
  };
}

caf::result<directory_actor> dialer::connect(const dial& message) {
  if (auto open = probe_port(message.address, message.port, setup_.probe_timeout); !open)
    return to_caf(open.error());
  if (setup_.own != nullptr)
    if (auto proven = prove_port(message.address, message.port, setup_.probe_timeout, setup_.own);
        !proven)
      return to_caf(proven.error());
  auto promise = self_->make_response_promise<directory_actor>();
  const auto where = place(message.address, message.port);
  ask(self_, setup_.network, setup_.connect_timeout, caf::connect_atom_v, message.address,
      message.port)
      .then(
          [this, promise, where](const caf::node_id&, const caf::strong_actor_ptr& found,
                                 const std::set<std::string>& interfaces) mutable {
            const auto& expected =
                self_->home_system().message_types(caf::detail::type_list<directory_actor>{});
            if (found && interfaces == expected)
              promise.deliver(caf::actor_cast<directory_actor>(found));
            else
              promise.deliver(to_caf({errc::mismatch,
                                      where + " is not the first node of a cluster like this one",
                                      {}}));
          },
          [this, promise, where](const caf::error& why) mutable {
            auto e = from_caf(why);
            e.message = where + ": " + e.message;
            if (setup_.own == nullptr && why == caf::sec::disconnect_during_handshake)
              e.message += "; if it speaks TLS, this node needs [security] tls_ca_file too";
            promise.deliver(to_caf(e));
          });
  return promise;
}

}  // namespace dinfer::actors

// SPDX-License-Identifier: Apache-2.0
// Trying a port: open, closed, not an address.
#include "actors/dialer.hpp"
#include "tests/support/catch.hpp"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

namespace dinfer::actors {

TEST_CASE("a port is open, refused or not an address") {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  REQUIRE(fd >= 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  ::inet_pton(AF_INET, "127.0.0.3", &address.sin_addr);
  REQUIRE(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  socklen_t size = sizeof address;
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  const auto port = ntohs(address.sin_port);

  const auto closed = probe_port("127.0.0.3", port, milliseconds(1000));
  REQUIRE(!closed);
  CHECK(closed.error().code == errc::peer_lost);
  CHECK(closed.error().message == "127.0.0.3:" + std::to_string(port) + " refused");

  REQUIRE(::listen(fd, 1) == 0);
  CHECK(probe_port("127.0.0.3", port, milliseconds(1000)));
  ::close(fd);

  const auto nonsense = probe_port("no address.", port, milliseconds(1000));
  REQUIRE(!nonsense);
  CHECK(nonsense.error().code == errc::invalid_argument);
}

}  // namespace dinfer::actors

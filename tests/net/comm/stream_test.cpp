// SPDX-License-Identifier: Apache-2.0
// A connection with TLS over it: who is let in, and bytes that arrive as they were written however
// little room there is.
#include "net/comm/stream.hpp"

#include "tests/net/tls/certificates.hpp"
#include "tests/support/catch.hpp"

#include <sys/socket.h>

#include <cstring>
#include <random>
#include <thread>

namespace dinfer::tests {
namespace {

using Catch::Matchers::Contains;
using std::chrono_literals::operator""ms;
using identity = std::shared_ptr<const net::tls_identity>;

struct pair_of_streams {
  net::stream client, server;
};

pair_of_streams connect(const identity& client, const identity& server) {
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
  auto one = net::stream::open(net::descriptor(ends[0]), client, net::tls_side::client);
  auto other = net::stream::open(net::descriptor(ends[1]), server, net::tls_side::server);
  REQUIRE(one);
  REQUIRE(other);
  return {std::move(*one), std::move(*other)};
}

// What each side says at the end of a handshake and of a first byte from the server.
std::pair<result<void>, result<void>> meet(pair_of_streams& p) {
  const auto deadline = net::clock::now() + 5000ms;
  result<void> client, server;
  std::thread other([&] {
    server = p.server.shake_hands(deadline);
    if (server) server = p.server.write_all("s", 1, deadline);
    if (!server) p.server = net::stream();
  });
  char first = 0;
  client = p.client.shake_hands(deadline);
  if (client) client = p.client.read_all(&first, 1, deadline);
  if (!client) p.client = net::stream();
  other.join();
  return {client, server};
}

}  // namespace

TEST_CASE("two nodes of a cluster meet; others learn why not", "[tls]") {
  const test_cluster cluster, foreign;
  const auto a = cluster.identity("a"), b = cluster.identity("b"), x = foreign.identity("b");
  SECTION("members") {
    auto both = connect(a, b);
    const auto [client, server] = meet(both);
    CHECK(client);
    CHECK(server);
  }
  SECTION("another cluster's node") {
    auto both = connect(x, a);
    const auto [client, server] = meet(both);
    REQUIRE_FALSE(client);
    REQUIRE_FALSE(server);
    CHECK(client.error().code == errc::mismatch);
    CHECK_THAT(client.error().message, Contains("its certificate is refused: "));
  }
  SECTION("one that speaks plainly is told apart") {
    auto both = connect(nullptr, a);
    REQUIRE(both.client.write_all("GET / HTTP/1.1\r\n\r\n", 18, net::clock::now() + 1000ms));
    const auto refused = both.server.shake_hands(net::clock::now() + 1000ms);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == errc::mismatch);
  }
  SECTION("one that is silent costs a deadline") {
    auto both = connect(nullptr, a);
    const auto refused = both.server.shake_hands(net::clock::now() + 50ms);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == errc::timeout);
  }
}

TEST_CASE("bytes arrive as written, however little room the socket has", "[tls]") {
  const test_cluster cluster;
  const bool secured = GENERATE(true, false);
  const auto own = secured ? cluster.identity("a") : nullptr;
  auto both = connect(own, own);
  if (secured) {
    const auto [client, server] = meet(both);
    REQUIRE(client);
    REQUIRE(server);
  }
  const int little = 4096;
  REQUIRE(::setsockopt(both.client.fd(), SOL_SOCKET, SO_SNDBUF, &little, sizeof little) == 0);
  std::mt19937 random(7);
  INFO("seed 7");
  std::vector<std::byte> sent(3 << 20), got(sent.size());
  for (auto& one : sent) one = static_cast<std::byte>(random());
  std::thread reader(
      [&] { CHECK(both.server.read_all(got.data(), got.size(), net::clock::now() + 20'000ms)); });
  // As a mesh writes: a head and a body, from where the last call ended; a record that waits holds
  // back its last byte, so that there is always something left to come back for.
  std::size_t at = 0, held = 0;
  const auto deadline = net::clock::now() + 20'000ms;
  while (at < sent.size() && net::clock::now() < deadline) {
    const auto rest = std::span<const std::byte>(sent).subspan(at);
    const auto head = std::min<std::size_t>(rest.size(), random() % 40);
    const auto body = std::min<std::size_t>(rest.size() - head, random() % 60'000);
    const auto put = both.client.write_some(rest.first(head), rest.subspan(head, body));
    REQUIRE(put);
    REQUIRE(*put <= head + body);
    at += *put;
    held += *put > 0 && *put + 1 == std::min<std::size_t>(head + body, 16 << 10);
    if (*put == 0 && head + body > 0) std::this_thread::yield();
  }
  reader.join();
  CHECK(at == sent.size());
  CHECK(sent == got);
  if (secured) CHECK(held > 0);
}

TEST_CASE("an end without a goodbye is a peer that is lost, and damage is never data", "[tls]") {
  const test_cluster cluster;
  const auto own = cluster.identity("a");
  auto both = connect(own, own);
  const auto [client, server] = meet(both);
  REQUIRE(client);
  REQUIRE(server);
  std::byte buffer[64] = {};
  SECTION("closed") {
    both.client = net::stream();
    const auto read = both.server.read_some(buffer);
    REQUIRE_FALSE(read);
    CHECK(read.error().code == errc::peer_lost);
  }
  SECTION("a byte from elsewhere in the stream") {
    REQUIRE(::send(both.client.fd(), "\x17\x03\x03\x00\x14 twenty bytes of junk.", 25, 0) == 25);
    const auto read = both.server.read_some(buffer);
    REQUIRE_FALSE(read);
    CHECK(read.error().code == errc::peer_lost);
  }
}

}  // namespace dinfer::tests

// SPDX-License-Identifier: Apache-2.0
// Strangers at the data port: shown out quickly, bounded in number, and in nobody's way. Cards from
// elsewhere, and the rule that picks a wire.
#include "net/comm/door.hpp"
#include "net/comm/card.hpp"
#include "net/comm/socket.hpp"
#include "tests/net/comm/group.hpp"
#include "tests/net/tls/certificates.hpp"
#include "tests/support/catch.hpp"

#include <thread>

namespace dinfer::tests {
namespace {

using std::chrono_literals::operator""ms;

net::stream stranger(const net::card& to) {
  auto made = net::connect_tcp(to.address, to.port, net::clock::now() + 2000ms);
  REQUIRE(made);
  return net::stream(std::move(*made));
}

// Milliseconds until the other end closed; -1: it did not within three seconds.
std::int64_t closed_after(net::stream&& socket) {
  const auto start = net::clock::now();
  char byte = 0;
  const auto read = socket.read_all(&byte, 1, start + 3000ms);
  if (read || read.error().code != errc::peer_lost) return -1;
  return std::chrono::duration_cast<std::chrono::milliseconds>(net::clock::now() - start).count();
}

net::card member(const char* host, const char* process, const char* address,
                 transport_choice choice = transport_choice::automatic) {
  net::card out;
  out.host = host;
  out.process = process;
  out.address = address;
  out.choice = choice;
  return out;
}

}  // namespace

TEST_CASE("a connection without the right nonce is closed within a second", "[comm]") {
  const auto transport = rank_transport({}, 0);
  const auto card = net::read_card(*transport->card());
  REQUIRE(card);
  const auto deadline = net::clock::now() + 2000ms;
  SECTION("it says nothing") {
    const auto after = closed_after(stranger(*card));
    CHECK(after >= 0);
    CHECK(after < 1500);  // a second, and some for a busy machine
  }
  SECTION("its nonce is wrong") {
    auto socket = stranger(*card);
    net::greeting hello;
    hello.secret = card->secret;
    hello.secret[15] ^= 1;
    REQUIRE(socket.write_all(&hello, sizeof hello, deadline));
    const auto after = closed_after(std::move(socket));
    CHECK(after >= 0);
    CHECK(after < 700);
  }
  SECTION("it speaks something else") {
    auto socket = stranger(*card);
    const std::string text = "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n";
    REQUIRE(socket.write_all(text.data(), text.size(), deadline));
    const auto after = closed_after(std::move(socket));
    CHECK(after >= 0);
    CHECK(after < 700);
  }
}

TEST_CASE("with certificates the right nonce alone opens nothing", "[comm][tls]") {
  const auto transport = rank_transport({2, transport_choice::tcp, false, 1000ms, true}, 0);
  const auto card = net::read_card(*transport->card());
  REQUIRE(card);
  const auto deadline = net::clock::now() + 2000ms;
  net::greeting hello;
  hello.secret = card->secret;
  SECTION("without TLS") {
    auto socket = stranger(*card);
    REQUIRE(socket.write_all(&hello, sizeof hello, deadline));
    CHECK(closed_after(std::move(socket)) >= 0);
  }
  SECTION("silent") {
    const auto after = closed_after(stranger(*card));
    CHECK(after >= 0);
    CHECK(after < 1500);
  }
  SECTION("with another cluster's certificate") {
    auto made = net::connect_tcp(card->address, card->port, deadline);
    REQUIRE(made);
    auto over =
        net::stream::open(std::move(*made), test_cluster().identity("a"), net::tls_side::client);
    REQUIRE(over);
    const auto met = over->shake_hands(deadline);
    REQUIRE_FALSE(met);
    CHECK(met.error().code == errc::mismatch);
  }
}

TEST_CASE("a crowd of strangers does not keep a group from meeting", "[comm]") {
  const bool tls = GENERATE(false, true);
  const group_options options{2, transport_choice::tcp, false, std::chrono::seconds(10), tls};
  const auto one = rank_transport(options, 0), other = rank_transport(options, 1);
  const std::vector<std::string> cards{*one->card(), *other->card()};
  const auto card = net::read_card(cards[0]);
  std::vector<net::stream> crowd;
  for (int i = 0; i < 100; ++i) crowd.push_back(stranger(*card));
  std::thread late([&] { CHECK(other->join("g", cards, 1, {8000ms})); });
  CHECK(one->join("g", cards, 0, {8000ms}));
  late.join();
}

TEST_CASE("a card is read back as it was written, and damaged ones are refused", "[comm]") {
  net::card card = member("boot net", "p-1", "::1", transport_choice::tcp);
  card.secret = net::make_nonce();
  card.port = 65535;
  card.name = "b/cpu:1\nhost";
  const auto text = net::write_card(card);
  CHECK(text.size() <= 1024);
  const auto back = net::read_card(text);
  REQUIRE(back);
  CHECK(back->secret == card.secret);
  CHECK(back->port == 65535);
  CHECK(back->name == "b/cpu:1?host");
  CHECK(back->choice == transport_choice::tcp);
  for (std::size_t length = 0; length + card.name.size() < text.size(); ++length)
    CHECK_FALSE(net::read_card(text.substr(0, length)));
  CHECK_FALSE(net::read_card(std::string(5000, '\n')));
  CHECK_FALSE(net::read_card(text + "\nmore"));
}

TEST_CASE("the wire is picked by process, host and address, and all members agree", "[comm]") {
  using net::wire_kind;
  const auto pick = [](const net::card& a, const net::card& b) {
    const std::vector<net::card> both{a, b};
    return net::choose_wire(both);
  };
  const auto here = member("h", "p", "10.0.0.1");
  CHECK(*pick(here, here) == wire_kind::local);
  CHECK(*pick(here, member("h", "q", "10.0.0.1")) == wire_kind::shared_memory);
  CHECK(*pick(here, member("h", "q", "10.0.0.2")) == wire_kind::tcp);
  CHECK(*pick(here, member("i", "q", "10.0.0.1")) == wire_kind::tcp);
  CHECK(*pick(member("", "p", "a"), member("", "q", "a")) == wire_kind::tcp);
  const auto shared = transport_choice::shared_memory;
  CHECK(*pick(here, member("h", "q", "10.0.0.2", shared)) == wire_kind::shared_memory);
  CHECK(*pick(here, member("h", "p", "10.0.0.1", transport_choice::tcp)) == wire_kind::tcp);
  const auto refused = pick(here, member("i", "q", "10.0.0.1", shared));
  REQUIRE_FALSE(refused);
  CHECK(refused.error().subject == "cpu.transport");
}

}  // namespace dinfer::tests

// SPDX-License-Identifier: Apache-2.0
// Nodes as real processes on three loopback addresses: joining, being refused, dying, freezing,
// coming late.
#include "dinfer/version.hpp"
#include "tests/actors/child_process.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/free_port.hpp"
#include "tests/support/patience.hpp"

#include <memory>

namespace dinfer::actors::tests {
namespace {

using Catch::Matchers::Contains;
using dinfer::tests::free_port;
using std::chrono::milliseconds;
using strings = std::vector<std::string>;

const auto patience =
    dinfer::tests::patient(milliseconds(20'000));  // for what has no limit of its own

class cluster {
 public:
  explicit cluster(std::size_t nodes) : port_(free_port()) {
    for (std::size_t i = 0; i < nodes; ++i)
      addresses_ += (i == 0 ? "127.0.0." : ",127.0.0.") + std::to_string(i + 1);
  }
  std::unique_ptr<child_process> start(std::size_t index, const strings& extra = {}) const {
    strings command{DINFER_TEST_NODE, "index=" + std::to_string(index),
                    "port=" + std::to_string(port_), "nodes=" + addresses_};
    command.insert(command.end(), extra.begin(), extra.end());
    return std::make_unique<child_process>(command);
  }
  std::string port() const { return std::to_string(port_); }

 private:
  std::uint16_t port_;
  std::string addresses_;
};

// Waits for the last events of the four streams; returns the time until the fourth.
milliseconds until_all_ended(child_process& first, const std::string& finish) {
  const auto begin = child_process::clock::now();
  for (int i = 0; i < 4; ++i) {
    const auto last = first.expect("last ", patience);
    REQUIRE(last);
    CHECK_THAT(*last, Contains(finish));
  }
  return std::chrono::duration_cast<milliseconds>(child_process::clock::now() - begin);
}

void refuse(const strings& extra, const std::string& line) {
  const cluster c(2);
  auto a = c.start(0);
  REQUIRE(a->expect("state 0", patience));
  auto b = c.start(1, extra);
  const auto code = b->wait(patience);
  INFO(b->seen());
  REQUIRE(code);
  CHECK(*code == 5);
  CHECK_THAT(b->seen(), Contains(line));
}

}  // namespace

TEST_CASE("three processes join, whatever the order, and serve", "[slow]") {
  const cluster c(3);
  auto third = c.start(2);
  auto second = c.start(1);
  REQUIRE(second->expect("say waiting for node a: 127.0.0.1:" + c.port() + " refused", patience));
  auto first = c.start(0);
  INFO(first->seen());
  REQUIRE(first->expect("streaming", patience));
}

TEST_CASE("the first node says who is missing and why", "[slow]") {
  const cluster c(3);
  auto first = c.start(0);
  const auto text = first->expect("say expected ", patience);
  REQUIRE(text);
  CHECK(*text == "3 devices on a, b, c; b not joined (127.0.0.2:" + c.port() +
                     " refused); c not joined (127.0.0.3:" + c.port() + " refused)");
}

TEST_CASE("a node that differs is refused with one line and ends", "[slow]") {
  SECTION("build") {
    refuse({"build=other 9.9"}, "build is \"other 9.9\" there and \"" + std::string(build_id()));
  }
  SECTION("protocol") { refuse({"protocol=77"}, "speaks another protocol"); }
  SECTION("configuration") {
    refuse({"config=x = 2"}, "configuration is \"x = 2\" there and \"x = 1\" here");
  }
  SECTION("model") { refuse({"model=abc"}, "model is \"abc\" there and \"fake\" here"); }
}

TEST_CASE("a node that finds no first node gives up and says so", "[slow]") {
  const cluster c(2);
  auto b = c.start(1, {"startup_ms=600", "first_port=" + std::to_string(free_port())});
  CHECK(b->wait(patience) == 5);
  CHECK_THAT(b->seen(), Contains("could not join node a within 600 ms"));
  CHECK_THAT(b->seen(), Contains("refused"));
}

TEST_CASE("streams end with an error soon after a node is killed, and start over when it is back",
          "[slow]") {
  const cluster c(3);
  auto first = c.start(0);
  auto second = c.start(1);
  auto third = c.start(2);
  REQUIRE(first->expect("streaming", patience));
  third->signal(SIGKILL);
  REQUIRE(first->expect("state 3 starting over: node c (rank 2) is lost",
                        dinfer::tests::patient(milliseconds(1000))));
  CHECK(until_all_ended(*first, "node c").count() < 2500);  // 1.5 s, and a busy machine
  auto again = c.start(2);
  INFO(first->seen());
  REQUIRE(first->expect("streaming", patience));
}

TEST_CASE("streams end with an error soon after a node freezes", "[slow]") {
  const cluster c(2);
  auto first = c.start(0);
  auto second = c.start(1);
  REQUIRE(first->expect("streaming", patience));
  second->signal(SIGSTOP);
  const auto time = until_all_ended(*first, "node b");
  // 2 s timeout, looked at every 0.5 s; 1.5 s of waiting for repair; and a busy machine.
  CHECK(time.count() < 5000);
  // When it wakes up it has been given up: it ends, and whoever restarts it joins it again.
  second->signal(SIGCONT);
  CHECK(second->wait(patience) == 5);
}

TEST_CASE("nodes end when the first one is killed", "[slow]") {
  const cluster c(2);
  auto first = c.start(0);
  auto second = c.start(1);
  const auto streaming = first->expect("streaming", patience);
  INFO(first->seen() << second->seen());
  REQUIRE(streaming);
  first->signal(SIGKILL);
  CHECK(second->wait(dinfer::tests::patient(milliseconds(3000))) == 5);
  CHECK_THAT(second->seen(), Contains("node a, the first one, is lost"));
}

TEST_CASE("a node whose port is taken says so", "[slow]") {
  const cluster c(2);
  auto a = c.start(0);
  REQUIRE(a->expect("state 0", patience));
  auto twin = c.start(0);
  REQUIRE(twin->wait(patience));
  CHECK_THAT(twin->seen(), Contains("cannot listen on 127.0.0.1:" + c.port()));
}

}  // namespace dinfer::actors::tests

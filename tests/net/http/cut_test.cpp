// SPDX-License-Identifier: Apache-2.0
// Where a request ends does not depend on where the network cuts it: each good and each hostile
// one, cut at every byte, with a request before it and one that follows on the wire.
#include "tests/net/http/hostile_heads.hpp"
#include "tests/net/http/one_connection.hpp"
#include "tests/support/allocation_meter.hpp"
#include "tests/support/catch.hpp"

#include <fmt/format.h>

using namespace dinfer;
using tests::connection_seen;
using tests::serve_parts;

namespace {

constexpr std::string_view next = "GET /version HTTP/1.1\r\nHost: next\r\n\r\n";
constexpr std::string_view before = "GET /before HTTP/1.1\r\nHost: a\r\n\r\n";

struct good_request {
  std::string bytes, body;
};

std::vector<good_request> good_requests() {
  std::vector<good_request> out;
  for (const auto& head : tests::good_heads()) {
    if (head.find("CHUNKED") != head.npos) {
      out.push_back({head + "0\r\n\r\n", ""});
      out.push_back({head + "3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n", "abc0123456789"});
      out.push_back({head + "0003\r\n\r\n0\r\n000\r\n\r\n", "\r\n0"});
    } else if (head.find("Length: 1") != head.npos) {
      out.push_back({head + "x", "x"});
    } else if (head.find("HTTP/1.0") == head.npos) {  // which is the last of its connection
      out.push_back({head, ""});
    }
  }
  const std::string inner(next);  // a body that looks like a request is a body
  out.push_back({fmt::format("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{}",
                             inner.size(), inner),
                 inner});
  return out;
}

void check_refused(const connection_seen& seen, const tests::hostile_request& hostile,
                   std::size_t handed) {
  REQUIRE(seen.handed.size() == handed);
  const auto answers = tests::split_answers(seen.answers);
  REQUIRE(answers.size() == handed + 1);
  CHECK(answers.back().substr(0, 12) == fmt::format("HTTP/1.1 {}", hostile.status));
  CHECK(answers.back().find("Connection: close\r\n") != std::string::npos);
  CHECK(seen.ended);
  CHECK(seen.closed);
}

}  // namespace

TEST_CASE("a hostile request is refused wherever the network cuts it") {
  for (const auto& hostile : tests::hostile_heads()) {
    const std::string text = hostile.bytes + std::string(next);
    for (std::size_t cut = 0; cut < hostile.bytes.size(); cut += 1 + cut / 128) {
      CAPTURE(hostile.name, cut);
      const std::string_view all = text;
      check_refused(serve_parts({}, {all.substr(0, cut), all.substr(cut)}), hostile, 0);
    }
  }
}

TEST_CASE("a hostile request ends a connection that was good so far") {
  for (const auto& hostile : tests::hostile_heads()) {
    CAPTURE(hostile.name);
    const auto text = std::string(before) + hostile.bytes + std::string(next);
    const auto seen = serve_parts({}, {text});
    check_refused(seen, hostile, 1);
    CHECK(seen.handed[0].path == "/before");
  }
}

TEST_CASE("a good request means the same wherever the network cuts it") {
  for (const auto& good : good_requests()) {
    const std::string text = good.bytes + std::string(next);
    const std::string_view all = text;
    const auto whole = serve_parts({}, {all});
    for (std::size_t cut = 0; cut < text.size(); ++cut) {
      CAPTURE(good.bytes, cut);
      const auto seen = serve_parts({}, {all.substr(0, cut), all.substr(cut)});
      REQUIRE(seen.handed.size() == 2);
      CHECK(seen.handed[0].body == good.body);
      CHECK(seen.handed[1].path == "/version");
      CHECK(seen.handed[1].body.empty());
      CHECK(seen.answers == whole.answers);
      CHECK_FALSE(seen.ended);
    }
  }
}

TEST_CASE("a good request may come a byte at a time") {
  for (const auto& good : good_requests()) {
    CAPTURE(good.bytes);
    const std::string_view all = good.bytes;
    std::vector<std::string_view> parts;
    for (std::size_t i = 0; i < all.size(); ++i) parts.push_back(all.substr(i, 1));
    const auto seen = serve_parts({}, parts);
    REQUIRE(seen.handed.size() == 1);
    CHECK(seen.handed[0].body == good.body);
  }
}

TEST_CASE("many chunks of a byte end early") {
  const std::string head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  const auto text = head + tests::repeated("1\r\nx\r\n", 500'000) + "0\r\n\r\n";
  const auto seen = serve_parts({}, {text});
  CHECK(seen.handed.empty());
  CHECK(seen.answers.starts_with("HTTP/1.1 400 "));
}

TEST_CASE("a body takes memory as it comes, whatever its length is said to be") {
  net::http_limits limits;
  limits.body_bytes = 1 << 30;
  const tests::allocation_peak held;
  const auto seen = serve_parts(
      limits, {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\nabc", "defg"});
  CHECK(held.bytes() < 100'000);
  CHECK(seen.handed.empty());
}

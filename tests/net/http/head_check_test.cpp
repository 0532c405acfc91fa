// SPDX-License-Identifier: Apache-2.0
// What RFC 9112 leaves no doubt about passes; everything else is refused.
#include "net/http/head_check.hpp"

#include "tests/net/http/hostile_heads.hpp"
#include "tests/support/catch.hpp"

TEST_CASE("plain heads pass the strict check") {
  for (const auto& head : dinfer::tests::good_heads()) {
    CAPTURE(head);
    CHECK_FALSE(dinfer::net::check_head(head, 100));
  }
}

TEST_CASE("doubtful heads are refused with the fitting status") {
  for (const auto& hostile : dinfer::tests::hostile_heads()) {
    CAPTURE(hostile.name, hostile.bytes);
    const auto found = dinfer::net::check_head(hostile.head(), 100);
    if (!hostile.in_head) {
      CHECK_FALSE(found);
      continue;
    }
    REQUIRE(found);
    CHECK(found->status == hostile.status);
  }
}

TEST_CASE("the number of fields is limited exactly") {
  std::string head = "GET / HTTP/1.1\r\nHost: a\r\n";
  for (int i = 0; i < 99; ++i) head += "x: y\r\n";
  CHECK_FALSE(dinfer::net::check_head(head + "\r\n", 100));
  const auto found = dinfer::net::check_head(head + "x: y\r\n\r\n", 100);
  REQUIRE(found);
  CHECK(found->status == 431);
}

TEST_CASE("no prefix of a head is taken for a whole one") {
  const std::string head = "GET /live HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n";
  for (std::size_t n = 0; n < head.size(); ++n)
    CHECK(dinfer::net::check_head(head.substr(0, n), 100));
  CHECK_FALSE(dinfer::net::check_head(head, 100));
}

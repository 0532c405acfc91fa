// SPDX-License-Identifier: Apache-2.0
// Hostile requests on real sockets, cut at many places: each is refused once, and what follows it
// on the connection is never taken for a request.
#include "tests/net/http/fixture.hpp"
#include "tests/net/http/hostile_heads.hpp"

#include <fmt/format.h>

using dinfer::tests::raw_socket;
using dinfer::tests::server_fixture;

namespace {

constexpr std::string_view smuggled = "GET /version HTTP/1.1\r\nHost: smuggled\r\n\r\n";

void check_refused(const std::string& answer, unsigned status) {
  CHECK(answer.substr(0, 12) == fmt::format("HTTP/1.1 {}", status));
  CHECK(answer.find("\r\nServer:") == answer.rfind("\r\nServer:"));  // one answer
  CHECK(answer.find("Connection: close\r\n") != std::string::npos);
  CHECK(answer.find(R"({"error":{"message":")") != std::string::npos);
}

}  // namespace

TEST_CASE("hostile requests get one refusal and the connection ends") {
  const server_fixture f;
  for (const auto& hostile : dinfer::tests::hostile_heads()) {
    CAPTURE(hostile.name);
    const raw_socket s(f.server->port());
    s.send(hostile.bytes + std::string(smuggled));
    check_refused(s.read_all(), hostile.status);
  }
}

TEST_CASE("a good request is answered the same wherever it is cut") {
  const server_fixture f;
  const std::string body = R"({"prompt":"ab","max_tokens":3,"add_special_tokens":false})";
  const std::string head = "POST /v1/completions HTTP/1.1\r\nHost: a\r\nConnection: close\r\n";
  const auto plain = head + fmt::format("Content-Length: {}\r\n\r\n{}", body.size(), body);
  const auto chunked =
      head + fmt::format("Transfer-Encoding: chunked\r\n\r\n7\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n",
                         body.substr(0, 7), body.size() - 7, body.substr(7));
  for (const auto& request : {plain, chunked})
    for (std::size_t cut = 1; cut < request.size(); cut += 7) {
      CAPTURE(cut);
      const raw_socket s(f.server->port());
      s.send(request.substr(0, cut));
      s.send(request.substr(cut));
      const auto answer = s.read_all();
      CHECK(answer.starts_with("HTTP/1.1 200 OK\r\n"));
      CHECK(answer.find(R"("text":"aba")") != std::string::npos);
    }
}

TEST_CASE("pipelined requests are answered in order") {
  const server_fixture f;
  const raw_socket s(f.server->port());
  const std::string get = "GET {} HTTP/1.1\r\nHost: a\r\nX-Request-Id: {}\r\n{}\r\n";
  s.send(fmt::format(fmt::runtime(get), "/live", "one", "") +
         fmt::format(fmt::runtime(get), "/version", "two", "") +
         fmt::format(fmt::runtime(get), "/live", "three", "Connection: close\r\n"));
  const auto answer = s.read_all();
  const auto one = answer.find("X-Request-Id: one"), two = answer.find("X-Request-Id: two"),
             three = answer.find("X-Request-Id: three");
  CHECK(one < two);
  CHECK(two < three);
  CHECK(three != std::string::npos);
}

TEST_CASE("slow heads and bodies end with 408, silence without an answer") {
  server_fixture::setup setup;
  setup.limits.head_timeout = setup.limits.body_timeout = std::chrono::milliseconds(60);
  setup.limits.idle_timeout = std::chrono::milliseconds(60);
  const server_fixture f(setup);
  const raw_socket head(f.server->port()), body(f.server->port()), silent(f.server->port());
  head.send("GET /live HT");
  body.send("POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n{");
  CHECK(head.read_all().starts_with("HTTP/1.1 408 "));
  CHECK(body.read_all().starts_with("HTTP/1.1 408 "));
  CHECK(silent.read_all().empty());
}

TEST_CASE("head and body sizes are limited") {
  server_fixture::setup setup;
  setup.limits.head_bytes = 1000;
  setup.limits.body_bytes = 1000;
  const server_fixture f(setup);
  {
    const raw_socket s(f.server->port());
    s.send("GET /live HTTP/1.1\r\nHost: a\r\nX: " + std::string(2000, 'x'));
    check_refused(s.read_all(), 431);
  }
  {
    const raw_socket s(f.server->port());
    s.send("POST /v1/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n800\r\n" +
           std::string(2048, 'x') + "\r\n0\r\n\r\n");
    check_refused(s.read_all(), 413);
  }
  CHECK(f.get("/live").status == 200);
}

TEST_CASE("a body of very many tiny chunks is refused") {
  const server_fixture f;
  const raw_socket s(f.server->port());
  s.send("POST /v1/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
  std::string chunks;
  for (int i = 0; i < 20'000; ++i) chunks += "1\r\nx\r\n";
  s.send(chunks);
  check_refused(s.read_all(), 400);
}

TEST_CASE("an expectation is met before the body is sent") {
  const server_fixture f;
  const raw_socket s(f.server->port());
  s.send(
      "POST /detokenize HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nConnection: close\r\n"
      "Content-Length: 15\r\n\r\n");
  CHECK(s.read_until("\r\n\r\n") == "HTTP/1.1 100 Continue\r\n\r\n");
  s.send(R"({"tokens":[65]})");
  CHECK(s.read_all().find(R"({"prompt":"A"})") != std::string::npos);
}

TEST_CASE("connections are limited per address and in all") {
  server_fixture::setup setup;
  setup.limits.connections_per_address = 2;
  const server_fixture f(setup);
  {
    const raw_socket a(f.server->port()), b(f.server->port());
    a.send("GET /live HTTP/1.1\r\nHost: a\r\n\r\n");
    b.send("GET /live HTTP/1.1\r\nHost: a\r\n\r\n");
    CHECK(a.read_until("\r\n\r\n").starts_with("HTTP/1.1 200"));
    CHECK(b.read_until("\r\n\r\n").starts_with("HTTP/1.1 200"));
    const raw_socket c(f.server->port());
    CHECK(c.read_all().starts_with("HTTP/1.1 503 "));
  }
  dinfer::tests::eventually(
      [&] {
        const auto answer = f.client().get("/live");
        return answer && answer->status == 200;
      },
      "room for a connection again");
}

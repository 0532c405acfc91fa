// SPDX-License-Identifier: Apache-2.0
// The client: events cut anywhere, deadlines, and what it says when nobody is there.
#include "net/http/client.hpp"

#include "tests/net/http/fixture.hpp"

using namespace dinfer;

TEST_CASE("events are read the same wherever the bytes are cut") {
  const std::string bytes =
      "data: one\n\n: a comment\ndata:two\r\ndata: lines\r\n\r\nevent: x\rdata: three\r\rdata: cut";
  for (std::size_t cut = 0; cut <= bytes.size(); ++cut) {
    CAPTURE(cut);
    net::sse_reader reader;
    std::vector<std::string> seen;
    const auto note = [&](std::string_view data) {
      seen.emplace_back(data);
      return true;
    };
    CHECK(reader.push(std::string_view(bytes).substr(0, cut), note));
    CHECK(reader.push(std::string_view(bytes).substr(cut), note));
    CHECK(seen == std::vector<std::string>{"one", "two\nlines", "three"});
  }
}

TEST_CASE("a client that returns false ends its stream and the request") {
  const tests::server_fixture f;
  f.engine->change([](auto& s) { s.step_time = std::chrono::milliseconds(1); });
  int events = 0;
  const auto answer =
      f.client().stream("/v1/completions", R"({"prompt":"ab","max_tokens":4000,"stream":true})",
                        [&](std::string_view) { return ++events < 3; });
  REQUIRE(answer);
  CHECK(events == 3);
  tests::eventually([&] { return f.engine->running() == 0; }, "the engine to be told");
}

TEST_CASE("an answer that is no stream is given whole") {
  const tests::server_fixture f;
  const auto answer = f.client().stream("/v1/completions", "{}", [](std::string_view) {
    FAIL("no event was expected");
    return true;
  });
  REQUIRE(answer);
  CHECK(answer->status == 400);
  CHECK(answer->body.find(R"("param":"prompt")") != std::string::npos);
}

TEST_CASE("a silent server is given up after the deadline") {
  const tests::server_fixture f;
  f.engine->change([](auto& s) { s.frozen = true; });
  net::http_client::options options;
  options.port = f.server->port();
  options.timeout = options.silence = std::chrono::milliseconds(50);
  const net::http_client client(options);
  const auto whole = client.post("/v1/completions", R"({"prompt":"a"})");
  REQUIRE_FALSE(whole);
  CHECK(whole.error().code == errc::timeout);
  const auto stream = client.stream("/v1/completions", R"({"prompt":"a","stream":true})",
                                    [](std::string_view) { return true; });
  REQUIRE_FALSE(stream);
  CHECK(stream.error().code == errc::timeout);
}

TEST_CASE("a refused connection names host and port") {
  net::http_client::options options;
  {
    const tests::server_fixture f;
    options.port = f.server->port();
  }
  const auto answer = net::http_client(options).get("/live");
  REQUIRE_FALSE(answer);
  CHECK(answer.error().code == errc::io_error);
  CHECK(answer.error().message.find("127.0.0.1:" + std::to_string(options.port)) !=
        std::string::npos);
}

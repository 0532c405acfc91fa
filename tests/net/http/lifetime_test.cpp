// SPDX-License-Identifier: Apache-2.0
// Clients that leave, read slowly or come too late, and a server that drains.
#include "tests/net/http/fixture.hpp"

#include <fmt/format.h>

#include <atomic>
#include <thread>

using dinfer::finish_reason;
using dinfer::tests::eventually;
using dinfer::tests::raw_socket;
using dinfer::tests::server_fixture;

namespace {

std::string post_text(const std::string& body, const std::string& fields = {}) {
  return fmt::format("POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n{}\r\n{}",
                     body.size(), fields, body);
}

const std::string endless = R"({"prompt":"abcdefgh","max_tokens":4000,"stream":)";

bool all_aborted(const server_fixture& f, std::size_t count) {
  const auto cancelled = f.engine->cancelled();
  if (cancelled.size() != count) return false;
  for (const auto& [id, reason] : cancelled)
    if (reason != finish_reason::abort) return false;
  return true;
}

}  // namespace

TEST_CASE("a client that leaves is noticed while it waits and while it streams") {
  const server_fixture f;
  f.engine->change([](auto& s) { s.frozen = true; });
  for (const std::string stream : {"false", "true"})
    for (const bool hard : {false, true}) {
      CAPTURE(stream, hard);
      const auto before = f.engine->cancelled().size();
      {
        const raw_socket s(f.server->port());
        s.send(post_text(endless + stream + R"(,"n":2})"));
        eventually([&] { return f.engine->running() == 2; }, "both choices to run");
        if (hard) s.reset();
      }
      eventually([&] { return f.engine->running() == 0; }, "the engine to be told");
      CHECK(all_aborted(f, before + 2));
    }
  eventually(
      [&] {
        return f.metric(R"(vllm:request_success_total{model_name="echo",engine="0",finished_)"
                        R"(reason="abort"})") == 4;
      },
      "aborts to be counted");
}

TEST_CASE("a client that leaves in the middle of a stream is noticed") {
  const server_fixture f;
  f.engine->change([](auto& s) { s.step_time = std::chrono::milliseconds(1); });
  {
    const raw_socket s(f.server->port());
    s.send(post_text(endless + "true}"));
    s.read_until("data: ");
  }
  eventually([&] { return f.engine->running() == 0; }, "the engine to be told");
  CHECK(all_aborted(f, 1));
}

TEST_CASE("a reader that is too slow loses its stream and no other") {
  server_fixture::setup setup;
  setup.limits.stream_chunks = 64;
  setup.max_model_len = 1 << 20;
  const server_fixture f(setup);
  const raw_socket slow(f.server->port(), 4096);
  slow.send(post_text(R"({"prompt":"abcdefgh","max_tokens":1000000,"stream":true})"));
  // It may be cut before this thread looks: the engine is not throttled.
  eventually([&] { return f.engine->running() == 1 || all_aborted(f, 1); },
             "the slow stream to run");
  const auto events =
      f.stream("/v1/completions",
               R"({"prompt":"abc","max_tokens":50,"stream":true,"add_special_tokens":false})");
  CHECK(events.size() == 52);  // fewer than may wait, however busy the machine is
  CHECK(events.back() == "[DONE]");
  eventually([&] { return f.engine->running() == 0; }, "the slow stream to be aborted");
  CHECK(all_aborted(f, 1));
  CHECK(f.metric(R"(dinfer:slow_readers_total{model_name="echo",engine="0"})") == 1);
}

TEST_CASE("a full queue is 429 with Retry-After, also for streams") {
  const server_fixture f;
  f.engine->change([](auto& s) { s.queue = 0; });
  for (const std::string stream : {"false", "true"}) {
    const auto answer = f.post("/v1/completions", R"({"prompt":"a","stream":)" + stream + "}");
    CHECK(answer.status == 429);
    CHECK(answer.field("retry-after") == "1");
    CHECK(answer.body.find(R"("code":"queue_full")") != std::string::npos);
  }
}

TEST_CASE("when one choice is rejected the others are cancelled") {
  const server_fixture f;
  f.engine->change([](auto& s) {
    s.queue = 2;
    s.frozen = true;
  });
  CHECK(f.post("/v1/completions", R"({"prompt":"a","n":3})").status == 429);
  eventually([&] { return f.engine->running() == 0; }, "the others to be cancelled");
  CHECK(all_aborted(f, 2));
}

TEST_CASE("an error in the middle of a stream is an event, without DONE") {
  const server_fixture f;
  f.engine->change([](auto& s) { s.fail_after = 2; });
  const auto events =
      f.stream("/v1/completions", R"({"prompt":"abc","stream":true,"add_special_tokens":false})");
  REQUIRE(events.size() == 3);
  CHECK(events[2] == R"({"error":{"message":"the simulated device failed","type":"server_error",)"
                     R"("param":null,"code":"internal"}})");
  CHECK(f.post("/v1/completions", R"({"prompt":"abc"})").status == 500);
}

TEST_CASE("draining finishes what runs and refuses what comes") {
  server_fixture f;
  f.engine->change([](auto& s) { s.frozen = true; });
  const raw_socket running(f.server->port()), idle(f.server->port());
  running.send(post_text(R"({"prompt":"ab","max_tokens":4,"add_special_tokens":false})"));
  idle.send("GET /live HTTP/1.1\r\nHost: a\r\n\r\n");
  idle.read_until("\r\n\r\n");
  eventually([&] { return f.engine->running() == 1; }, "the request to run");
  std::thread stopping([&] { f.server->stop(std::chrono::seconds(10)); });
  CHECK(idle.read_all().empty());  // closed at once
  CHECK_FALSE(f.client().get("/live"));
  f.engine->change([](auto& s) { s.frozen = false; });
  const auto answer = running.read_all();
  stopping.join();
  CHECK(answer.find(R"("text":"abab")") != std::string::npos);
  CHECK(answer.find("Connection: close\r\n") != std::string::npos);
  CHECK(f.engine->cancelled().empty());
}

TEST_CASE("a drain that takes too long cancels what is left") {
  server_fixture f;
  f.engine->change([](auto& s) { s.frozen = true; });
  const raw_socket running(f.server->port());
  running.send(post_text(R"({"prompt":"ab"})"));
  eventually([&] { return f.engine->running() == 1; }, "the request to run");
  f.server->stop(std::chrono::milliseconds(20));
  CHECK(all_aborted(f, 1));
  CHECK(running.read_all().empty());
}

TEST_CASE("a connection serves many requests, streams among them") {
  const server_fixture f;
  const raw_socket s(f.server->port());
  for (int i = 0; i < 3; ++i) {
    s.send(post_text(R"({"prompt":"ab","max_tokens":2,"stream":true})"));
    CHECK(s.read_until("0\r\n\r\n").find("data: [DONE]\n\n") != std::string::npos);
    s.send(post_text(R"({"prompt":"ab","max_tokens":2,"add_special_tokens":false})"));
    CHECK(s.read_until("}}}").find(R"("text":"ab")") != std::string::npos);
  }
}

TEST_CASE("an HTTP/1.0 client gets a stream that ends with the connection") {
  const server_fixture f;
  const raw_socket s(f.server->port());
  const std::string body = R"({"prompt":"ab","max_tokens":2,"stream":true})";
  s.send(fmt::format("POST /v1/completions HTTP/1.0\r\nContent-Length: {}\r\n\r\n{}", body.size(),
                     body));
  const auto answer = s.read_all();
  CHECK(answer.find("Transfer-Encoding") == std::string::npos);
  CHECK(answer.ends_with("data: [DONE]\n\n"));
}

TEST_CASE("many io threads share events and each stream gets its own") {
  server_fixture::setup setup;
  setup.io_threads = 3;
  const server_fixture f(setup);
  std::vector<std::thread> clients;
  std::atomic<int> whole{0};
  for (int i = 0; i < 12; ++i)
    clients.emplace_back([&, i] {
      const std::string prompt(3, static_cast<char>('a' + i));
      std::string text;
      const auto answer = f.client().stream(
          "/v1/completions",
          fmt::format(
              R"({{"prompt":"{}","max_tokens":50,"stream":true,"add_special_tokens":false}})",
              prompt),
          [&](std::string_view data) {
            const auto at = data.find(R"("text":")");
            if (at != data.npos && data[at + 8] != '"') text += data[at + 8];
            return true;
          });
      if (answer && text == std::string(50, prompt[0])) ++whole;
    });
  for (auto& c : clients) c.join();
  CHECK(whole == 12);
}

// Once, the sweep's timer armed itself again behind the last order and the loop ran for ever.
TEST_CASE("a server stops although its sweep is due at that moment") {
  const auto engine = std::make_shared<dinfer::tests::simulated_engine>();
  std::atomic<bool> busy{false}, go_on{false};
  dinfer::net::http_server::options options;
  options.gateway.port = 0;
  options.limits.idle_timeout = std::chrono::milliseconds(20);  // a sweep every 5 ms
  options.random_seed = [] { return std::uint64_t{1}; };
  options.now_unix = [&] {  // on the loop's thread
    busy = true;
    while (!go_on) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::this_thread::sleep_for(std::chrono::milliseconds(50));  // the orders to stop queue up
    return std::int64_t{1'700'000'000};
  };
  dinfer::net::http_server server(options, engine,
                                  std::make_shared<dinfer::runtime::metrics_registry>());
  REQUIRE(server.start());
  const raw_socket s(server.port());
  s.send("GET /live HTTP/1.1\r\nHost: a\r\n\r\n");
  eventually([&] { return busy.load(); }, "the loop to be busy");
  go_on = true;
  server.stop(std::chrono::milliseconds(0));
  engine->stop();
}

// SPDX-License-Identifier: Apache-2.0
// Many streams through the HTTP server over loopback, with a simulated engine that gives each a
// token a step, all in this process: the streams' reader on the main thread, the engine and the
// server on their own.
//   bench_gateway [streams] [tokens] [step microseconds] [io threads] [model]
// Without a model, tokens are bytes. On stderr what was read; on stdout a JSON object a row:
//   gateway_tok_s         tokens a second that the reader got, of streams / step offered
//   gateway_cpu_us        processor time of the server's threads for each token
//   gateway_delay_p50_ms  from when the engine hands a step's tokens over to when the reader has
//   gateway_delay_p99_ms    one of them: what the gateway adds to a token's way
#include "bench/rows.hpp"
#include "net/http/server.hpp"
#include "runtime/base/log.hpp"
#include "runtime/tokenizer/tokenizer.hpp"
#include "runtime/weights/source.hpp"
#include "tests/support/byte_tokenizer.hpp"
#include "tests/support/simulated_engine.hpp"

#include <fmt/core.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <string>
#include <vector>

namespace {

using clock_type = std::chrono::steady_clock;
using dinfer::bench::die;

double cpu_seconds(clockid_t of) {
  timespec used{};
  clock_gettime(of, &used);
  return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) * 1e-9;
}

int connect_to(std::uint16_t port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (fd < 0 || ::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0)
    die("cannot connect");
  return fd;
}

// When the engine handed over the tokens of each of its steps, and what its thread has used.
struct step_log {
  explicit step_log(std::size_t steps) : at(steps) {}
  void note() {
    if (count < at.size()) at[count++].store(clock_type::now().time_since_epoch().count());
    cpu.store(cpu_seconds(CLOCK_THREAD_CPUTIME_ID));
  }
  std::vector<std::atomic<clock_type::rep>> at;
  std::size_t count = 0;
  std::atomic<double> cpu{0};
};

struct totals {
  std::uint64_t events = 0;
  double seconds = 0;
  std::vector<float> delays_ms;
};

// One stream's bytes. Events end in two line feeds; no JSON string holds a raw one.
struct stream_reader {
  bool after_line_feed = false;
  std::size_t events = 0;

  void take(const char* bytes, std::size_t size, const step_log& steps, totals& out) {
    const auto now = clock_type::now();
    for (std::size_t i = 0; i < size; ++i) {
      const bool line_feed = bytes[i] == '\n';
      if (line_feed && after_line_feed) {
        if (events < steps.at.size()) {
          const clock_type::duration handed(steps.at[events].load());
          out.delays_ms.push_back(
              std::chrono::duration<float, std::milli>(now.time_since_epoch() - handed).count());
        }
        ++events;
      }
      after_line_feed = line_feed;
    }
  }
};

// Reads all streams until the server closes them.
totals read_all(const std::vector<int>& sockets, const step_log& steps) {
  const int poll = ::epoll_create1(0);
  std::vector<stream_reader> readers(sockets.size());
  for (std::size_t i = 0; i < sockets.size(); ++i) {
    epoll_event wanted{};
    wanted.events = EPOLLIN;
    wanted.data.u64 = i;
    ::epoll_ctl(poll, EPOLL_CTL_ADD, sockets[i], &wanted);
  }
  totals out;
  out.delays_ms.reserve(sockets.size() * steps.at.size());
  const auto begin = clock_type::now();
  std::vector<char> bytes(64 * 1024);
  std::vector<epoll_event> ready(256);
  for (std::size_t open = sockets.size(); open > 0;) {
    const int n = ::epoll_wait(poll, ready.data(), static_cast<int>(ready.size()), 10'000);
    if (n <= 0) break;
    for (int i = 0; i < n; ++i) {
      const auto which = ready[static_cast<std::size_t>(i)].data.u64;
      const auto got = ::recv(sockets[which], bytes.data(), bytes.size(), 0);
      if (got > 0) {
        readers[which].take(bytes.data(), static_cast<std::size_t>(got), steps, out);
        continue;
      }
      ::epoll_ctl(poll, EPOLL_CTL_DEL, sockets[which], nullptr);
      --open;
    }
  }
  out.seconds = std::chrono::duration<double>(clock_type::now() - begin).count();
  for (const auto& r : readers) out.events += r.events;
  ::close(poll);
  return out;
}

std::uint32_t argument(int argc, char** argv, int i, std::uint32_t otherwise) {
  return argc > i ? static_cast<std::uint32_t>(std::strtoul(argv[i], nullptr, 10)) : otherwise;
}

dinfer::net::served_model echo_model(const char* path) {
  dinfer::net::served_model model;
  model.name = "echo";
  model.max_model_len = 1 << 20;
  model.words = std::make_shared<dinfer::tests::byte_tokenizer>();
  if (path == nullptr) return model;
  auto source = dinfer::runtime::open_weights(path);
  if (!source) die(source.error().message);
  auto words = dinfer::runtime::make_tokenizer(**source);
  if (!words) die(words.error().message);
  model.words = std::move(*words);
  return model;
}

dinfer::net::http_server::options server_options(std::uint32_t streams, std::uint32_t threads) {
  dinfer::net::http_server::options out;
  out.gateway.port = 0;
  out.gateway.io_threads = threads;
  out.limits.connections = out.limits.connections_per_address = streams + 8;
  out.now_unix = [] { return std::int64_t{1'700'000'000}; };
  out.random_seed = [n = std::uint64_t{0}]() mutable { return ++n; };
  return out;
}

std::vector<int> open_streams(std::uint32_t streams, std::uint32_t tokens, std::uint16_t port) {
  const auto body = fmt::format(
      R"({{"prompt":"some text of a few words","max_tokens":{},"stream":true}})", tokens);
  const auto request = fmt::format(
      "POST /v1/completions HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: "
      "{}\r\n\r\n{}",
      body.size(), body);
  std::vector<int> out;
  for (std::uint32_t i = 0; i < streams; ++i) {
    out.push_back(connect_to(port));
    if (::send(out.back(), request.data(), request.size(), MSG_NOSIGNAL) < 0) die("cannot send");
  }
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  const auto streams = argument(argc, argv, 1, 1000), tokens = argument(argc, argv, 2, 300),
             step_us = argument(argc, argv, 3, 5'000), threads = argument(argc, argv, 4, 1);
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  dinfer::runtime::open_log("warn", false, "bench");

  dinfer::tests::simulated_engine::settings held;
  held.frozen = true;
  held.step_time = std::chrono::microseconds(step_us);
  const auto engine = std::make_shared<dinfer::tests::simulated_engine>(held);
  dinfer::net::http_server server(server_options(streams, threads), engine,
                                  std::make_shared<dinfer::runtime::metrics_registry>());
  if (const auto started = server.start(); !started) die(started.error().message);
  server.model_ready(echo_model(argc > 5 ? argv[5] : nullptr));
  step_log steps(tokens);
  engine->connect([&](dinfer::net::engine_events events) {
    if (!events.tokens.empty()) steps.note();
    server.deliver(std::move(events));
  });
  const auto sockets = open_streams(streams, tokens, server.port());
  while (engine->running() < streams) std::this_thread::sleep_for(std::chrono::milliseconds(1));

  const auto process = cpu_seconds(CLOCK_PROCESS_CPUTIME_ID), engine_before = steps.cpu.load(),
             reader = cpu_seconds(CLOCK_THREAD_CPUTIME_ID);
  engine->change([](auto& s) { s.frozen = false; });
  auto done = read_all(sockets, steps);
  const auto used = cpu_seconds(CLOCK_PROCESS_CPUTIME_ID) - process -
                    (cpu_seconds(CLOCK_THREAD_CPUTIME_ID) - reader) -
                    (steps.cpu.load() - engine_before);
  const auto wanted = std::uint64_t{streams} * tokens;
  const auto expected = wanted + std::uint64_t{2} * streams;  // each one's end, and [DONE]
  fmt::print(stderr, "{} streams, {} io threads: {} of {} events; {:.0f} tokens/s offered\n",
             streams, threads, done.events, expected, streams * 1e6 / std::max(step_us, 1U));
  if (done.events != expected) die("events are missing");
  std::ranges::sort(done.delays_ms);
  const auto delay = [&](double part) {
    return done.delays_ms[static_cast<std::size_t>(part * static_cast<double>(wanted - 1))];
  };
  dinfer::bench::print("gateway_tok_s", static_cast<double>(wanted) / done.seconds, "tok/s");
  dinfer::bench::print("gateway_cpu_us", used * 1e6 / static_cast<double>(wanted), "us");
  dinfer::bench::print("gateway_delay_p50_ms", delay(0.5), "ms");
  dinfer::bench::print("gateway_delay_p99_ms", delay(0.99), "ms");
  for (const int fd : sockets) ::close(fd);
  server.stop(std::chrono::milliseconds(100));
  engine->stop();
  dinfer::runtime::close_log();
  return 0;
}

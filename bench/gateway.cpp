// SPDX-License-Identifier: Apache-2.0
// Many streams through the HTTP server over loopback, with a simulated engine that gives each a
// token a step: events a second against what the engine offers, and processor time per
// event.
//   bench_gateway [streams] [tokens] [step microseconds] [io threads]
#include "net/http/server.hpp"
#include "runtime/base/log.hpp"
#include "tests/support/byte_tokenizer.hpp"
#include "tests/support/simulated_engine.hpp"

#include <fmt/core.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <string>
#include <vector>

namespace {

using clock_type = std::chrono::steady_clock;

double cpu_seconds() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

int connect_to(std::uint16_t port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (fd < 0 || ::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0) {
    fmt::print(stderr, "bench_gateway: cannot connect\n");
    std::exit(1);
  }
  return fd;
}

// Events end in two line feeds; no JSON string holds a raw one.
struct event_counter {
  bool after_line_feed = false;
  std::uint64_t count(const char* bytes, std::size_t size) {
    std::uint64_t n = 0;
    for (std::size_t i = 0; i < size; ++i) {
      const bool line_feed = bytes[i] == '\n';
      n += line_feed && after_line_feed ? 1 : 0;
      after_line_feed = line_feed;
    }
    return n;
  }
};

struct totals {
  std::uint64_t events = 0;
  double seconds = 0;
};

// Reads all streams until the server closes them.
totals read_all(const std::vector<int>& sockets) {
  const int poll = ::epoll_create1(0);
  std::vector<event_counter> counters(sockets.size());
  for (std::size_t i = 0; i < sockets.size(); ++i) {
    epoll_event wanted{};
    wanted.events = EPOLLIN;
    wanted.data.u64 = i;
    ::epoll_ctl(poll, EPOLL_CTL_ADD, sockets[i], &wanted);
  }
  totals out;
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
        out.events += counters[which].count(bytes.data(), static_cast<std::size_t>(got));
        continue;
      }
      ::epoll_ctl(poll, EPOLL_CTL_DEL, sockets[which], nullptr);
      --open;
    }
  }
  out.seconds = std::chrono::duration<double>(clock_type::now() - begin).count();
  ::close(poll);
  return out;
}

std::uint32_t argument(int argc, char** argv, int i, std::uint32_t otherwise) {
  return argc > i ? static_cast<std::uint32_t>(std::strtoul(argv[i], nullptr, 10)) : otherwise;
}

}  // namespace

int main(int argc, char** argv) {
  const auto streams = argument(argc, argv, 1, 1000), tokens = argument(argc, argv, 2, 300),
             step_us = argument(argc, argv, 3, 10'000), threads = argument(argc, argv, 4, 1);
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  dinfer::runtime::open_log("warn", false, "bench");

  dinfer::tests::simulated_engine::settings held;
  held.frozen = true;
  held.step_time = std::chrono::microseconds(step_us);
  const auto engine = std::make_shared<dinfer::tests::simulated_engine>(held);
  dinfer::net::http_server::options options;
  options.gateway.port = 0;
  options.gateway.io_threads = threads;
  options.limits.connections = options.limits.connections_per_address = streams + 8;
  options.now_unix = [] { return std::int64_t{1'700'000'000}; };
  options.random_seed = [n = std::uint64_t{0}]() mutable { return ++n; };
  dinfer::net::http_server server(options, engine,
                                  std::make_shared<dinfer::runtime::metrics_registry>());
  if (const auto started = server.start(); !started) {
    fmt::print(stderr, "bench_gateway: {}\n", started.error().message);
    return 1;
  }
  dinfer::net::served_model model;
  model.name = "echo";
  model.max_model_len = 1 << 20;
  model.words = std::make_shared<dinfer::tests::byte_tokenizer>();
  server.model_ready(std::move(model));
  engine->connect([&](dinfer::net::engine_events events) { server.deliver(std::move(events)); });

  const auto body = fmt::format(
      R"({{"prompt":"some text","max_tokens":{},"stream":true,"add_special_tokens":false}})",
      tokens);
  const auto request = fmt::format(
      "POST /v1/completions HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: "
      "{}\r\n\r\n{}",
      body.size(), body);
  std::vector<int> sockets;
  for (std::uint32_t i = 0; i < streams; ++i) {
    sockets.push_back(connect_to(server.port()));
    if (::send(sockets.back(), request.data(), request.size(), MSG_NOSIGNAL) < 0) return 1;
  }
  while (engine->running() < streams) std::this_thread::sleep_for(std::chrono::milliseconds(1));

  const auto cpu = cpu_seconds();
  engine->change([](auto& s) { s.frozen = false; });
  const auto done = read_all(sockets);
  const auto used = cpu_seconds() - cpu;
  const auto expected = std::uint64_t{streams} * (tokens + 2);  // and the end, and [DONE]
  const auto offered = streams * 1e6 / std::max(step_us, 1U);
  const auto rate = static_cast<double>(done.events) / done.seconds;
  fmt::print("streams {}  io threads {}  events {} of {}\n", streams, threads, done.events,
             expected);
  fmt::print("events/s {:.0f}  offered {:.0f}  ratio {:.2f}\n", rate, offered, rate / offered);
  fmt::print("cpu us/event {:.2f} (server, engine and client together)\n",
             used * 1e6 / static_cast<double>(done.events));
  for (const int fd : sockets) ::close(fd);
  server.stop(std::chrono::milliseconds(100));
  engine->stop();
  dinfer::runtime::close_log();
  return done.events == expected ? 0 : 1;
}

// SPDX-License-Identifier: Apache-2.0
// Binds, accepts, shares connections out over the io loops, and drains.
#include "net/http/server.hpp"

#include "net/http/admission.hpp"
#include "net/http/io_loop.hpp"
#include "net/openai/service.hpp"
#include "runtime/base/log.hpp"

#include <fmt/format.h>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace dinfer::net {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using clock = std::chrono::steady_clock;

namespace {
constexpr auto accept_pause = std::chrono::milliseconds(100);
constexpr auto drain_poll = std::chrono::milliseconds(5);
}  // namespace

struct http_server::impl {
  impl(options s, std::shared_ptr<engine_link> engine,
       std::shared_ptr<runtime::metrics_registry> metrics)
      : settings(std::move(s)),
        shared(service_shared::settings{settings.api_keys, settings.gateway.cors_origins,
                                        settings.now_unix, settings.random_seed},
               std::move(engine), std::move(metrics)),
        door(settings.limits.connections, settings.limits.connections_per_address) {
    const auto threads = std::max(1U, settings.gateway.io_threads);
    for (std::uint32_t i = 0; i < threads; ++i)
      loops.push_back(std::make_unique<io_loop>(
          settings, shared, [this](auto job) { asio::post(workers, std::move(job)); }));
    acceptor = std::make_unique<tcp::acceptor>(loops.front()->context());
    retry = std::make_unique<asio::steady_timer>(loops.front()->context());
  }

  result<void> bind();
  void accept_next();
  void admit(tcp::socket socket);
  void stop(std::chrono::milliseconds drain);

  options settings;
  service_shared shared;
  connection_admission door;
  asio::thread_pool workers{1};  // long prompts are tokenised here, off the io threads
  std::vector<std::unique_ptr<io_loop>> loops;
  std::unique_ptr<tcp::acceptor> acceptor;  // of the first loop, like `retry`
  std::unique_ptr<asio::steady_timer> retry;
  std::size_t next_loop = 0;
  std::uint16_t port = 0;
  std::atomic<bool> started{false}, stopping{false};
};

result<void> http_server::impl::bind() {
  const auto& g = settings.gateway;
  error_code problem;
  const auto address = asio::ip::make_address(g.address, problem);
  const auto refuse = [&](const char* what) {
    return fail(
        errc::io_error,
        fmt::format("http server: cannot {} {}:{}: {}", what, g.address, g.port, problem.message()),
        "gateway.address");
  };
  if (problem) return refuse("read the address of");
  const tcp::endpoint endpoint(address, g.port);
  acceptor->open(endpoint.protocol(), problem);
  if (!problem) acceptor->set_option(tcp::acceptor::reuse_address(true), problem);
  if (!problem) acceptor->bind(endpoint, problem);
  if (problem) return refuse("bind");
  acceptor->listen(asio::socket_base::max_listen_connections, problem);
  if (problem) return refuse("listen on");
  port = acceptor->local_endpoint().port();
  return {};
}

void http_server::impl::accept_next() {
  acceptor->async_accept([this](error_code problem, tcp::socket socket) {
    if (!acceptor->is_open()) return;
    if (!problem) {
      admit(std::move(socket));
      return accept_next();
    }
    // Out of descriptors, most likely: let some close first instead of spinning.
    DINFER_LOG_WARN("http: accept: {}", problem.message());
    retry->expires_after(accept_pause);
    retry->async_wait([this](error_code cancelled) {
      if (!cancelled && acceptor->is_open()) accept_next();
    });
  });
}

void http_server::impl::admit(tcp::socket socket) {
  error_code problem;
  const auto peer = socket.remote_endpoint(problem);
  if (problem) return;
  auto ticket = door.enter(peer.address().to_string());
  if (!ticket) {
    static constexpr std::string_view full =
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n"
        "Connection: close\r\n\r\n";
    socket.non_blocking(true, problem);
    socket.write_some(asio::buffer(full), problem);  // best effort; a fresh socket has room
    return;
  }
  const auto descriptor = socket.release(problem);
  if (problem) return;
  loops[next_loop++ % loops.size()]->adopt(descriptor, std::move(ticket));
}

void http_server::impl::stop(std::chrono::milliseconds drain) {
  if (!started || stopping.exchange(true)) return;
  shared.start_draining();
  asio::post(loops.front()->context(), [this] {
    error_code ignored;
    acceptor->close(ignored);
    retry->cancel();
  });
  for (const auto& loop : loops) loop->drain();
  const auto open = [this] {
    std::size_t n = 0;
    for (const auto& loop : loops) n += loop->connections();
    return n;
  };
  for (const auto until = clock::now() + drain; open() > 0 && clock::now() < until;)
    std::this_thread::sleep_for(drain_poll);
  if (const auto left = open(); left > 0)
    DINFER_LOG_WARN("http: closing {} connections that did not end in {} ms", left, drain.count());
  // Jobs first: each ends with a post to its loop.
  workers.join();
  for (const auto& loop : loops) loop->close_all();
  for (const auto& loop : loops) loop->join();
}

http_server::http_server(options settings, std::shared_ptr<engine_link> engine,
                         std::shared_ptr<runtime::metrics_registry> metrics)
    : impl_(std::make_unique<impl>(std::move(settings), std::move(engine), std::move(metrics))) {}

http_server::~http_server() { stop(std::chrono::milliseconds(0)); }

result<void> http_server::start() {
  DINFER_CHECK(impl_->bind());
  impl_->started = true;
  impl_->accept_next();
  for (const auto& loop : impl_->loops) loop->start();
  DINFER_LOG_INFO("http: serving on {}:{}", impl_->settings.gateway.address, impl_->port);
  return {};
}

std::uint16_t http_server::port() const noexcept { return impl_->port; }

void http_server::model_ready(served_model model) { impl_->shared.model_ready(std::move(model)); }

void http_server::deliver(engine_events events) {
  const auto shared = std::make_shared<engine_events>(std::move(events));
  for (const auto& loop : impl_->loops) loop->deliver(shared);
}

void http_server::stop(std::chrono::milliseconds drain) { impl_->stop(drain); }

}  // namespace dinfer::net

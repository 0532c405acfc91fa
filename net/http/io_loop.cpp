// SPDX-License-Identifier: Apache-2.0
// The thread, the set of connections and the sweep.
#include "net/http/io_loop.hpp"

#include "net/http/connection.hpp"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include <algorithm>
#include <atomic>
#include <optional>
#include <thread>
#include <unordered_map>

namespace dinfer::net {

namespace asio = boost::asio;
using clock = std::chrono::steady_clock;

struct io_loop::impl {
  impl(const http_server::options& s, service_shared& shared,
       std::function<void(std::function<void()>)> run_elsewhere)
      : limits(s.limits),
        timer(context),
        guard(asio::make_work_guard(context)),
        offload(std::move(run_elsewhere)),
        openai(shared,
               [this](auto work, auto done) { run_job(std::move(work), std::move(done)); }) {
    host.context = &context;
    host.limits = &limits;
    host.now_unix = s.now_unix;
    host.handle = [this](http_request request, std::shared_ptr<exchange> to) {
      openai.handle(std::move(request), std::move(to));
    };
    host.closed = [this](connection* gone) {
      open.erase(gone);
      count.store(open.size());
    };
  }

  void run_job(std::function<void()> work, std::function<void()> done) {
    offload([this, work = std::move(work), done = std::move(done)] {
      work();
      asio::post(context, done);
    });
  }

  // Often enough for the shortest deadline, seldom enough to cost nothing.
  std::chrono::milliseconds period() const {
    const auto least = std::min(
        {limits.head_timeout, limits.body_timeout, limits.write_timeout, limits.idle_timeout});
    return std::clamp<std::chrono::milliseconds>(least / 4, std::chrono::milliseconds(5),
                                                 std::chrono::milliseconds(250));
  }

  void sweep_later() {
    timer.expires_after(period());
    timer.async_wait([this](boost::system::error_code cancelled) {
      // A timer that had expired before it was cancelled comes without an error.
      if (cancelled || closing) return;
      const auto now = clock::now();
      for (const auto& c : snapshot()) c->sweep(now);
      sweep_later();
    });
  }

  // A connection that closes leaves `open`, so calls go over a copy.
  std::vector<std::shared_ptr<connection>> snapshot() const {
    std::vector<std::shared_ptr<connection>> out;
    out.reserve(open.size());
    for (const auto& [key, value] : open) out.push_back(value);
    return out;
  }

  const http_limits& limits;
  asio::io_context context{1};
  asio::steady_timer timer;
  std::optional<asio::executor_work_guard<asio::io_context::executor_type>> guard;
  std::function<void(std::function<void()>)> offload;
  service openai;
  connection_host host;
  std::unordered_map<connection*, std::shared_ptr<connection>> open;
  bool closing = false;  // nothing is started any more; the loop's, like `open`
  std::atomic<std::size_t> count{0};
  std::thread thread;
};

io_loop::io_loop(const http_server::options& settings, service_shared& shared,
                 std::function<void(std::function<void()>)> offload)
    : impl_(std::make_unique<impl>(settings, shared, std::move(offload))) {}

io_loop::~io_loop() {
  close_all();
  join();
}

void io_loop::start() {
  impl_->sweep_later();
  impl_->thread = std::thread([this] { impl_->context.run(); });
}

asio::io_context& io_loop::context() noexcept { return impl_->context; }

void io_loop::adopt(int socket, std::shared_ptr<void> ticket) {
  impl_->count.fetch_add(1);
  asio::post(impl_->context, [this, socket, ticket = std::move(ticket)]() mutable {
    auto made = make_connection(impl_->host, socket, std::move(ticket));
    impl_->open.emplace(made.get(), made);
    made->start();
    if (impl_->host.draining) made->drain();
    if (impl_->closing) made->close(lost_reason::stopped);
  });
}

void io_loop::deliver(std::shared_ptr<engine_events> events) {
  asio::post(impl_->context,
             [this, events = std::move(events)] { impl_->openai.deliver(*events); });
}

void io_loop::drain() {
  asio::post(impl_->context, [this] {
    impl_->host.draining = true;
    for (const auto& c : impl_->snapshot()) c->drain();
  });
}

std::size_t io_loop::connections() const noexcept { return impl_->count.load(); }

void io_loop::close_all() {
  asio::post(impl_->context, [this] {
    impl_->closing = true;
    for (const auto& c : impl_->snapshot()) c->close(lost_reason::stopped);
    impl_->timer.cancel();
    impl_->guard.reset();
  });
}

void io_loop::join() {
  if (impl_->thread.joinable()) impl_->thread.join();
}

}  // namespace dinfer::net

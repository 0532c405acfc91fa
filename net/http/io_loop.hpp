// SPDX-License-Identifier: Apache-2.0
// One io thread: its io_context, its connections, its own OpenAI service, and the sweep that
// enforces deadlines. Public calls from any thread; everything they cause happens on the loop's.
#pragma once

#include "net/http/server.hpp"
#include "net/openai/service.hpp"

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>

namespace boost::asio {
class io_context;
}

namespace dinfer::net {

class io_loop {
 public:
  // `settings` and `shared` outlive the loop. `offload` runs a job on another thread.
  io_loop(const http_server::options& settings, service_shared& shared,
          std::function<void(std::function<void()>)> offload);
  ~io_loop();  // close_all() and join()

  void start();
  boost::asio::io_context& context() noexcept;
  void adopt(int socket, std::shared_ptr<void> ticket);
  void deliver(std::shared_ptr<engine_events> events);  // each loop takes what is its own
  void drain();
  std::size_t connections() const noexcept;
  void close_all();
  void join();

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace dinfer::net

// SPDX-License-Identifier: Apache-2.0
// One accepted socket: reads requests one after the other, hands each to the handler and writes its
// answer. All calls on the thread of its io_context. Deadlines are two time points which the loop's
// sweep compares with now; there is no timer per operation.
#pragma once

#include "net/http/exchange.hpp"
#include "net/http/server.hpp"

#include <chrono>
#include <functional>
#include <memory>

namespace boost::asio {
class io_context;
}

namespace dinfer::net {

class connection : public exchange {
 public:
  virtual void start() = 0;
  // Enforces the deadlines that have passed.
  virtual void sweep(std::chrono::steady_clock::time_point now) = 0;
  // Between two requests: closes now. Otherwise after the running answer.
  virtual void drain() = 0;
  virtual void close(lost_reason reason) = 0;
};

// What a connection needs from its loop; outlives it.
struct connection_host {
  boost::asio::io_context* context = nullptr;
  const http_limits* limits = nullptr;
  std::function<std::int64_t()> now_unix;
  std::function<void(http_request, std::shared_ptr<exchange>)> handle;
  std::function<void(connection*)> closed;  // the last call that it makes
  bool draining = false;
};

// `socket` is an open descriptor and now belongs to the connection; `ticket` lives as long as it.
std::shared_ptr<connection> make_connection(connection_host& host, int socket,
                                            std::shared_ptr<void> ticket);

}  // namespace dinfer::net

// SPDX-License-Identifier: Apache-2.0
// A small blocking HTTP/1.1 client for our own programs and tests: one request, one connection, one
// deadline for all of it. Any thread; one call at a time per object.
#pragma once

#include "dinfer/error.hpp"
#include "net/http/exchange.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace dinfer::net {

struct client_response {
  unsigned status = 0;
  http_fields fields;  // names in lower case
  std::string body;

  std::string_view field(std::string_view name) const noexcept {
    for (const auto& [key, value] : fields)
      if (key == name) return value;
    return {};
  }
};

class http_client {
 public:
  struct options {
    std::string host = "127.0.0.1";
    std::uint16_t port = 8000;
    std::string api_key;                        // empty: none is sent
    std::chrono::milliseconds timeout{30'000};  // of a whole get() or post()
    std::chrono::milliseconds silence{60'000};  // stream(): between two events
    std::uint64_t body_bytes = 64 * 1024 * 1024;
  };

  explicit http_client(options o) : options_(std::move(o)) {}

  // Errors: io_error (no connection, broken answer), timeout; each names host and port. A status
  // that is not 200 is no error here.
  result<client_response> get(std::string_view path) const;
  result<client_response> post(std::string_view path, std::string json) const;

  // Calls `event` with the data of each server-sent event, until the stream ends or it returns
  // false. With another status than 200 no event is told and `body` has the answer.
  using event_callback = std::function<bool(std::string_view data)>;
  result<client_response> stream(std::string_view path, std::string json,
                                 const event_callback& event) const;

 private:
  options options_;
};

// Cuts a byte stream into the data of server-sent events.
class sse_reader {
 public:
  // false: `event` returned false.
  bool push(std::string_view bytes, const http_client::event_callback& event);

 private:
  std::string line_, data_;
  bool after_return_ = false;
};

}  // namespace dinfer::net

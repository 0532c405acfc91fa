// SPDX-License-Identifier: Apache-2.0
// The server's own connection over a pair of local sockets in one thread, so that a test says
// exactly how the network cuts what a client sends: each part has been read, as far as it is, when
// the next one comes. Requests are answered 200 at once, without a body.
#pragma once

#include "net/http/exchange.hpp"
#include "net/http/server.hpp"

#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dinfer::tests {

struct connection_seen {
  std::vector<net::http_request> handed;  // to the handler
  std::string answers;                    // all bytes that the client received
  bool ended = false;                     // the server ended it before the client did
  bool closed = false;                    // when the client had ended it too
};

connection_seen serve_parts(const net::http_limits& limits,
                            std::span<const std::string_view> parts);

inline connection_seen serve_parts(const net::http_limits& limits,
                                   std::initializer_list<std::string_view> parts) {
  return serve_parts(limits, std::span(parts.begin(), parts.size()));
}

// The single answers; each begins with its status line.
std::vector<std::string_view> split_answers(std::string_view all);

}  // namespace dinfer::tests

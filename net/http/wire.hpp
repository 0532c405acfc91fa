// SPDX-License-Identifier: Apache-2.0
// The bytes of answers: head, whole body, chunks; and what Beast parsed, copied. For connection.cpp
// and client.cpp; pure.
#pragma once

#include "net/http/exchange.hpp"

#include <cstdint>
#include <string>
#include <string_view>

namespace dinfer::net {

struct response_head {
  http_fields fields;
  std::int64_t now_unix = 0;
  bool close = false;
  bool http10 = false;
};

inline constexpr std::string_view last_chunk = "0\r\n\r\n";

// `head_only`: an answer to HEAD says how long the body would be and leaves it out.
std::string whole_response(const http_response& response, const response_head& head,
                           bool head_only);
std::string stream_head(const response_head& head, bool chunked);
void append_chunk(std::string& out, std::string_view data, bool chunked);

// The fields of a message of Beast's, names in lower case.
template <class Message>
http_fields fields_of(const Message& message) {
  http_fields out;
  for (const auto& field : message) {
    std::string name(field.name_string());
    for (auto& c : name)
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    out.emplace_back(std::move(name), std::string(field.value()));
  }
  return out;
}

// Copies what Beast parsed: path without scheme, authority and query; names in lower case.
template <class Message>
http_request to_request(Message& message) {
  http_request out;
  out.method = std::string(message.method_string());
  std::string_view target(message.target().data(), message.target().size());
  if (const auto scheme = target.find("://"); !target.starts_with('/') && scheme != target.npos) {
    const auto slash = target.find('/', scheme + 3);
    target = slash == target.npos ? std::string_view("/") : target.substr(slash);
  }
  out.path = std::string(target.substr(0, target.find('?')));
  out.fields = fields_of(message);
  out.body = std::move(message.body());
  return out;
}

}  // namespace dinfer::net

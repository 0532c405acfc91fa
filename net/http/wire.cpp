// SPDX-License-Identifier: Apache-2.0
// Heads and chunks as text.
#include "net/http/wire.hpp"

#include "dinfer/version.hpp"

#include <fmt/format.h>

#include <ctime>
#include <iterator>

namespace dinfer::net {
namespace {

std::string_view reason_of(unsigned status) {
  switch (status) {
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 413:
      return "Content Too Large";
    case 414:
      return "URI Too Long";
    case 417:
      return "Expectation Failed";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 503:
      return "Service Unavailable";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return status < 500 ? "Error" : "Internal Server Error";
  }
}

std::string date_text(std::int64_t now_unix) {
  const auto seconds = static_cast<std::time_t>(now_unix);
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[40];
  const auto size = std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &parts);
  return std::string(text, size);
}

std::string head_text(unsigned status, const response_head& head) {
  auto out = fmt::format("HTTP/1.1 {} {}\r\nServer: dinfer/{}\r\nDate: {}\r\n", status,
                         reason_of(status), version(), date_text(head.now_unix));
  if (head.close) out += "Connection: close\r\n";
  else if (head.http10) out += "Connection: keep-alive\r\n";
  for (const auto& [name, value] : head.fields) {
    // A value that came from a client must not end its line.
    if (value.find_first_of("\r\n") != std::string::npos) continue;
    out += fmt::format("{}: {}\r\n", name, value);
  }
  return out;
}

}  // namespace

std::string whole_response(const http_response& response, const response_head& head,
                           bool head_only) {
  auto out = head_text(response.status, head);
  if (!response.body.empty()) out += fmt::format("Content-Type: {}\r\n", response.content_type);
  if (response.status != 204) out += fmt::format("Content-Length: {}\r\n", response.body.size());
  out += "\r\n";
  if (!head_only) out += response.body;
  return out;
}

std::string stream_head(const response_head& head, bool chunked) {
  auto out = head_text(200, head);
  out += "Content-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n";
  out += chunked ? "X-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\n\r\n" : "\r\n";
  return out;
}

void append_chunk(std::string& out, std::string_view data, bool chunked) {
  if (chunked) fmt::format_to(std::back_inserter(out), "{:x}\r\n", data.size());
  out += data;
  if (chunked) out += "\r\n";
}

}  // namespace dinfer::net

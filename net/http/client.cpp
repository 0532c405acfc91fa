// SPDX-License-Identifier: Apache-2.0
// Beast on a private io_context that runs only while a call waits.
#include "net/http/client.hpp"

#include "dinfer/version.hpp"
#include "net/http/wire.hpp"

#include <fmt/format.h>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>

#include <limits>
#include <utility>

namespace dinfer::net {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;

// One connection with one request on it. Every step is an asynchronous operation under the
// stream's own deadline, run to its end at once.
class conversation {
 public:
  conversation(const http_client::options& o) : options_(o) {
    parser_.body_limit(o.body_bytes);
    parser_.header_limit(64 * 1024);
  }

  result<void> open() {
    error_code problem;
    asio::ip::tcp::resolver resolver(context_);
    asio::ip::tcp::resolver::results_type found;
    resolver.async_resolve(options_.host, std::to_string(options_.port),
                           [&](error_code ec, auto results) { problem = ec, found = results; });
    run_for(options_.timeout);
    if (problem) return failed("find", problem);
    stream_.expires_after(options_.timeout);
    stream_.async_connect(found, [&](error_code ec, const auto&) { problem = ec; });
    run();
    if (problem) return failed("connect to", problem);
    return {};
  }

  result<void> send(http::verb verb, std::string_view path, std::string body) {
    http::request<http::string_body> request(verb, beast::string_view(path.data(), path.size()),
                                             11);
    request.set(http::field::host, fmt::format("{}:{}", options_.host, options_.port));
    request.set(http::field::user_agent, fmt::format("dinfer/{}", version()));
    request.set(http::field::connection, "close");
    if (!options_.api_key.empty())
      request.set(http::field::authorization, "Bearer " + options_.api_key);
    if (verb == http::verb::post) request.set(http::field::content_type, "application/json");
    request.body() = std::move(body);
    request.prepare_payload();
    error_code problem;
    http::async_write(stream_, request, [&](error_code ec, std::size_t) { problem = ec; });
    run();
    if (problem) return failed("send to", problem);
    return {};
  }

  result<void> read_head() {
    error_code problem;
    http::async_read_header(stream_, buffer_, parser_,
                            [&](error_code ec, std::size_t) { problem = ec; });
    run();
    if (problem) return failed("read from", problem);
    return {};
  }

  // More of the body, which is then in body(). Nothing more: done().
  result<void> read_some() {
    error_code problem;
    http::async_read_some(stream_, buffer_, parser_,
                          [&](error_code ec, std::size_t) { problem = ec; });
    run();
    if (problem && problem != http::error::end_of_stream) return failed("read from", problem);
    return {};
  }

  void allow(std::chrono::milliseconds time) { stream_.expires_after(time); }
  bool done() const { return parser_.is_done(); }
  std::string& body() { return parser_.get().body(); }

  client_response answer() {
    client_response out;
    auto& message = parser_.get();
    out.status = message.result_int();
    out.fields = fields_of(message);
    out.body = std::move(message.body());
    return out;
  }

 private:
  void run() {
    context_.restart();
    context_.run();
  }
  void run_for(std::chrono::milliseconds time) {
    context_.restart();
    context_.run_for(time);
  }

  tl::unexpected<error> failed(const char* what, error_code problem) const {
    const bool late = problem == beast::error::timeout;
    return fail(late ? errc::timeout : errc::io_error,
                fmt::format("cannot {} {}:{}: {}", what, options_.host, options_.port,
                            late ? "no answer in time" : problem.message()));
  }

  const http_client::options& options_;
  asio::io_context context_{1};
  beast::tcp_stream stream_{context_};
  beast::flat_buffer buffer_;
  http::response_parser<http::string_body> parser_;
};

result<client_response> whole(const http_client::options& options, http::verb verb,
                              std::string_view path, std::string body) {
  conversation talk(options);
  DINFER_CHECK(talk.open());
  DINFER_CHECK(talk.send(verb, path, std::move(body)));
  DINFER_CHECK(talk.read_head());
  while (!talk.done()) DINFER_CHECK(talk.read_some());
  return talk.answer();
}

}  // namespace

result<client_response> http_client::get(std::string_view path) const {
  return whole(options_, http::verb::get, path, {});
}

result<client_response> http_client::post(std::string_view path, std::string json) const {
  return whole(options_, http::verb::post, path, std::move(json));
}

result<client_response> http_client::stream(std::string_view path, std::string json,
                                            const event_callback& event) const {
  auto unbounded = options_;
  unbounded.body_bytes = std::numeric_limits<std::uint64_t>::max();
  conversation talk(unbounded);
  DINFER_CHECK(talk.open());
  DINFER_CHECK(talk.send(http::verb::post, path, std::move(json)));
  talk.allow(options_.silence);
  DINFER_CHECK(talk.read_head());
  auto out = client_response{};
  sse_reader events;
  bool streaming = true, first = true;
  std::string kept;
  while (true) {
    auto bytes = std::exchange(talk.body(), {});
    if (first) {
      out = talk.answer();
      streaming = out.status == 200;
      first = false;
    }
    if (!streaming) {
      kept += bytes;
      if (kept.size() > options_.body_bytes) return fail(errc::io_error, "the answer is too large");
    } else if (!events.push(bytes, event)) return out;
    if (talk.done()) break;
    talk.allow(options_.silence);
    DINFER_CHECK(talk.read_some());
  }
  out.body = std::move(kept);
  return out;
}

bool sse_reader::push(std::string_view bytes, const http_client::event_callback& event) {
  for (const char c : bytes) {
    const bool second = std::exchange(after_return_, c == '\r') && c == '\n';
    if (second) continue;  // CR LF ends a line once
    if (c != '\n' && c != '\r') {
      line_ += c;
      continue;
    }
    const auto line = std::exchange(line_, {});
    if (line.empty()) {
      const auto data = std::exchange(data_, {});
      if (!data.empty() && !event(data)) return false;
      continue;
    }
    std::string_view text(line);
    if (!text.starts_with("data:")) continue;  // comments and fields that we do not use
    text.remove_prefix(5);
    if (text.starts_with(' ')) text.remove_prefix(1);
    if (!data_.empty()) data_ += '\n';
    data_ += text;
  }
  return true;
}

}  // namespace dinfer::net

// SPDX-License-Identifier: Apache-2.0
// The connection as one coroutine that reads, and a chain of writes that never waits for it. While
// an answer is under way the coroutine keeps a read open, so that a client that leaves is noticed
// at once. What is sent while a write is in flight joins the next write.
#include "net/http/connection.hpp"

#include "net/http/head_check.hpp"
#include "net/http/wire.hpp"
#include "net/openai/render.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>

#include <algorithm>
#include <optional>

namespace dinfer::net {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;
using clock = std::chrono::steady_clock;

// string_body would reserve what Content-Length claims; this grows with what has come.
struct growing_body : http::string_body {
  struct reader : http::string_body::reader {
    using http::string_body::reader::reader;
    void init(const boost::optional<std::uint64_t>&, error_code& problem) { problem = {}; }
  };
};
using parser = http::request_parser<growing_body>;

constexpr auto no_deadline = clock::time_point::max();
constexpr auto tuple_awaitable = asio::as_tuple(asio::use_awaitable);
constexpr std::size_t read_bytes = 8 * 1024;
constexpr std::size_t kept_bytes = 64 * 1024;  // buffers above this are given back after use
constexpr std::size_t linger_bytes = 256 * 1024;
constexpr auto linger_time = std::chrono::seconds(2);
constexpr std::uint32_t chunks_free = 1024;     // any body may have so many chunks ...
constexpr std::uint64_t chunk_bytes_min = 256;  // ... and one more for each of these bytes

// Beast takes any extension and any number of chunks; each costs us work, so both are bounded.
struct chunk_guard {
  std::uint64_t body_bytes = 0, bytes = 0, count = 0;
  void operator()(std::uint64_t size, std::string_view extension, error_code& problem) {
    bytes += std::min(size, body_bytes);
    if (!extension.empty()) problem = http::error::bad_chunk_extension;
    if (++count > chunks_free + bytes / chunk_bytes_min) problem = http::error::bad_chunk;
  }
};

class socket_connection final : public connection,
                                public std::enable_shared_from_this<socket_connection> {
 public:
  socket_connection(connection_host& host, int socket, std::shared_ptr<void> ticket)
      : host_(host),
        socket_(*host.context, asio::ip::tcp::v4(), socket),
        ticket_(std::move(ticket)) {}

  void start() override {
    error_code ignored;
    socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
    // Without a bound the kernel keeps megabytes for a reader that has stopped.
    socket_.set_option(asio::socket_base::send_buffer_size(host_.limits->socket_send_bytes),
                       ignored);
    asio::co_spawn(
        *host_.context, [self = shared_from_this()] { return self->run(); }, asio::detached);
  }

  void sweep(clock::time_point now) override;
  void drain() override;
  void close(lost_reason reason) override;

  void respond(http_response response) override;
  void begin_stream(http_fields fields) override;
  void send(std::string_view data, std::uint32_t chunks) override;
  void end_stream(bool close) override;
  void on_lost(std::function<void(lost_reason)> callback) override {
    on_lost_ = std::move(callback);
  }

 private:
  asio::awaitable<void> run();
  asio::awaitable<bool> serve_one();
  asio::awaitable<bool> read_more();
  asio::awaitable<std::size_t> read_head();
  asio::awaitable<bool> read_request(parser& p);
  asio::awaitable<void> watch();
  asio::awaitable<void> refuse(unsigned status, std::string_view message);
  asio::awaitable<void> linger();

  void flush();
  void written(error_code problem);
  void overflow(std::uint64_t write);
  void finish();
  void lose(lost_reason reason);
  std::string_view buffered() const {
    return {static_cast<const char*>(buffer_.data().data()), buffer_.size()};
  }
  response_head head_of(http_fields fields) {
    return {std::move(fields), host_.now_unix(), close_after_, !http11_};
  }

  connection_host& host_;
  asio::ip::tcp::socket socket_;
  std::shared_ptr<void> ticket_;
  boost::beast::flat_buffer buffer_;
  clock::time_point read_deadline_ = no_deadline, write_deadline_ = no_deadline;
  std::function<void(lost_reason)> on_lost_;

  std::string pending_, flying_;      // bytes that wait for the write in flight, and its own
  std::uint32_t pending_chunks_ = 0;  // events in pending_
  std::uint64_t writes_ = 0;          // begun so far
  chunk_guard chunks_;                // of the request body; the parser keeps a reference

  bool dead_ = false;                       // closed; nothing is sent any more
  bool timed_out_ = false;                  // the sweep ended a read
  bool reading_ = false, writing_ = false;  // a read is open, a write is in flight
  bool idle_ = true;                        // between two requests
  bool answering_ = false;    // a request was handed over and its answer is not complete
  bool ending_ = false;       // all of the answer is in pending_ or flying_
  bool close_after_ = false;  // the connection ends with this answer
  bool suspect_ = false;      // overflow() is about to decide
  bool refused_ = false;      // without having read all of the request
  bool http11_ = true, head_only_ = false;  // of the request; head_only_: it is HEAD
  bool chunked_ = false;                    // the answer
};

// ---- deadlines and ends

void socket_connection::sweep(clock::time_point now) {
  if (now >= write_deadline_) return close(lost_reason::too_slow);
  if (now < read_deadline_) return;
  read_deadline_ = no_deadline;
  timed_out_ = true;
  error_code ignored;
  socket_.cancel(ignored);
}

void socket_connection::drain() {
  close_after_ = true;
  if (idle_) close(lost_reason::stopped);
}

void socket_connection::close(lost_reason reason) {
  if (dead_) return;
  dead_ = true;
  answering_ = false;
  error_code ignored;
  socket_.close(ignored);
  lose(reason);
}

void socket_connection::lose(lost_reason reason) {
  if (auto callback = std::exchange(on_lost_, nullptr)) callback(reason);
}

// ---- reading

asio::awaitable<void> socket_connection::run() {
  const auto self = shared_from_this();
  bool more = true;
  while (more && !dead_) more = co_await serve_one();
  if (!dead_ && refused_) co_await linger();
  close(lost_reason::disconnected);
  host_.closed(this);
}

// One read into the buffer. false: end of stream, error or deadline.
asio::awaitable<bool> socket_connection::read_more() {
  reading_ = true;
  const auto [problem, count] =
      co_await socket_.async_read_some(buffer_.prepare(read_bytes), tuple_awaitable);
  reading_ = false;
  if (problem) co_return false;
  buffer_.commit(count);
  co_return true;
}

// Bytes of the head, up to and with its empty line; 0 when there will be none.
asio::awaitable<std::size_t> socket_connection::read_head() {
  const auto& limits = *host_.limits;
  idle_ = buffer_.size() == 0;
  read_deadline_ = clock::now() + (idle_ ? limits.idle_timeout : limits.head_timeout);
  std::size_t looked = 0;
  while (true) {
    const auto bytes = buffered();
    for (std::size_t at = bytes.find('\n', looked); at != bytes.npos;
         at = bytes.find('\n', at + 1)) {
      if (at == 0 || bytes[at - 1] != '\r') {
        co_await refuse(400, "header lines must end in CR LF");
        co_return 0;
      }
      if (at >= 3 && bytes[at - 3] == '\r' && bytes[at - 2] == '\n') co_return at + 1;
    }
    looked = bytes.size();
    if (bytes.size() >= limits.head_bytes) {
      co_await refuse(431, "the request head is too large");
      co_return 0;
    }
    const bool got = co_await read_more();
    if (!got) {
      if (timed_out_ && !idle_) co_await refuse(408, "the request head took too long");
      co_return 0;
    }
    if (idle_) read_deadline_ = clock::now() + limits.head_timeout;
    idle_ = false;
  }
}

// Head and body into `p`. false: refused, or the client is gone.
asio::awaitable<bool> socket_connection::read_request(parser& p) {
  const auto& limits = *host_.limits;
  const auto size = co_await read_head();
  if (size == 0) co_return false;
  const auto wrong = size > limits.head_bytes
                         ? head_problem{431, "the request head is too large"}
                         : check_head(buffered().substr(0, size), limits.head_fields)
                               .value_or(head_problem{0, {}});
  if (wrong.status != 0) {
    co_await refuse(wrong.status, wrong.message);
    co_return false;
  }
  p.header_limit(limits.head_bytes + 1);
  p.body_limit(limits.body_bytes);
  chunks_ = {limits.body_bytes};
  p.on_chunk_header(chunks_);
  read_deadline_ = clock::now() + limits.body_timeout;
  auto [problem, ignored] = co_await http::async_read_header(socket_, buffer_, p, tuple_awaitable);
  const auto fields = std::distance(p.get().begin(), p.get().end());
  if (!problem && !p.is_done() && p.get().find(http::field::expect) != p.get().end()) {
    static constexpr std::string_view go_on = "HTTP/1.1 100 Continue\r\n\r\n";
    co_await asio::async_write(socket_, asio::buffer(go_on), tuple_awaitable);
  }
  if (!problem && !p.is_done()) {
    const auto [body_problem, count] =
        co_await http::async_read(socket_, buffer_, p, tuple_awaitable);
    problem = body_problem;
  }
  read_deadline_ = no_deadline;
  if (problem == http::error::body_limit) co_await refuse(413, "the request body is too large");
  else if (problem && timed_out_) co_await refuse(408, "the request body took too long");
  else if (problem.category() == http::make_error_code(http::error::bad_chunk).category() &&
           problem != http::error::end_of_stream && problem != http::error::partial_message)
    co_await refuse(400, "the request is not valid HTTP");
  else if (!problem && std::distance(p.get().begin(), p.get().end()) != fields)
    co_await refuse(400, "trailer fields are not accepted");
  else co_return !problem;
  co_return false;
}

asio::awaitable<bool> socket_connection::serve_one() {
  std::optional<parser> p(std::in_place);
  const bool complete = co_await read_request(*p);
  if (!complete) co_return false;
  http11_ = p->get().version() == 11;
  close_after_ = !p->keep_alive() || host_.draining;
  auto request = to_request(p->get());
  p.reset();
  if (buffer_.size() == 0 && buffer_.capacity() > kept_bytes) buffer_ = {};
  head_only_ = request.method == "HEAD";
  answering_ = true;
  ending_ = false;
  host_.handle(std::move(request), shared_from_this());
  co_await watch();
  co_return !dead_ && !close_after_;
}

// Until the answer is complete. A client that closes its side has left (as a half-closed one cannot
// be told from it); bytes of a next request are kept, up to the size of a head.
asio::awaitable<void> socket_connection::watch() {
  while (answering_) {
    const bool got = co_await read_more();
    if (!answering_) break;
    if (!got || buffer_.size() > host_.limits->head_bytes) close(lost_reason::disconnected);
  }
}

asio::awaitable<void> socket_connection::refuse(unsigned status, std::string_view message) {
  close_after_ = refused_ = true;
  timed_out_ = false;
  const api_error wrong{status, "invalid_request_error", std::string(message), {}, {}};
  http_response response;
  response.status = status;
  response.body = render_error(wrong);
  const auto text = whole_response(response, head_of({}), false);
  write_deadline_ = clock::now() + host_.limits->write_timeout;
  co_await asio::async_write(socket_, asio::buffer(text), tuple_awaitable);
  write_deadline_ = no_deadline;
}

// Closing with unread bytes would reset the connection and destroy the refusal on its way.
asio::awaitable<void> socket_connection::linger() {
  error_code problem;
  socket_.shutdown(asio::ip::tcp::socket::shutdown_send, problem);
  read_deadline_ = clock::now() + linger_time;
  for (std::size_t total = 0; !problem && total < linger_bytes;) {
    buffer_.clear();
    const auto [failed, count] =
        co_await socket_.async_read_some(buffer_.prepare(read_bytes), tuple_awaitable);
    problem = failed;
    total += count;
  }
}

// ---- writing

void socket_connection::respond(http_response response) {
  if (dead_ || !answering_ || ending_) return;
  pending_ += whole_response(response, head_of(std::move(response.fields)), head_only_);
  ending_ = true;
  flush();
}

void socket_connection::begin_stream(http_fields fields) {
  if (dead_ || !answering_ || ending_) return;
  chunked_ = http11_;
  if (!chunked_) close_after_ = true;
  pending_ += stream_head(head_of(std::move(fields)), chunked_);
  flush();
}

void socket_connection::send(std::string_view data, std::uint32_t chunks) {
  if (dead_ || !answering_ || ending_ || data.empty()) return;
  append_chunk(pending_, data, chunked_);
  pending_chunks_ += chunks;
  if (!writing_) return flush();
  if (pending_.size() > host_.limits->stream_bytes) return overflow(0);
  if (pending_chunks_ > host_.limits->stream_chunks) overflow(writes_);
}

// Told from the loop, not from within the caller. Many events may only mean that this thread was
// late: the reader is slow when, after all that is ready now, write number `write` still hangs.
void socket_connection::overflow(std::uint64_t write) {
  if (std::exchange(suspect_, true)) return;
  if (write == 0) ending_ = true;  // nothing more is taken
  asio::post(*host_.context, [self = shared_from_this(), write] {
    self->suspect_ = false;
    if (write == 0 || (self->writing_ && self->writes_ == write))
      self->close(lost_reason::too_slow);
  });
}

void socket_connection::end_stream(bool close) {
  if (dead_ || !answering_ || ending_) return;
  if (close) close_after_ = true;
  if (chunked_) pending_ += last_chunk;
  ending_ = true;
  flush();
}

void socket_connection::flush() {
  if (writing_ || dead_) return;
  if (pending_.empty()) return ending_ ? finish() : void();
  writing_ = true;
  ++writes_;
  flying_.swap(pending_);
  pending_.clear();
  pending_chunks_ = 0;
  write_deadline_ = clock::now() + host_.limits->write_timeout;
  asio::async_write(
      socket_, asio::buffer(flying_),
      [self = shared_from_this()](error_code problem, std::size_t) { self->written(problem); });
}

void socket_connection::written(error_code problem) {
  writing_ = false;
  write_deadline_ = no_deadline;
  if (flying_.capacity() > kept_bytes) flying_ = {};
  if (problem) return close(lost_reason::disconnected);
  flush();
}

void socket_connection::finish() {
  answering_ = false;
  on_lost_ = nullptr;
  error_code ignored;
  if (reading_) socket_.cancel(ignored);  // wakes watch()
}

}  // namespace

std::shared_ptr<connection> make_connection(connection_host& host, int socket,
                                            std::shared_ptr<void> ticket) {
  return std::make_shared<socket_connection>(host, socket, std::move(ticket));
}

}  // namespace dinfer::net

// SPDX-License-Identifier: Apache-2.0
// An io_context, a connection for each request, and what they told.
#include "apps/dinfer/load.hpp"

#include <fmt/format.h>
#include <sys/resource.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/json.hpp>
#include <deque>
#include <limits>
#include <memory>
#include <random>
#include <string_view>
#include <utility>

namespace dinfer::apps {

namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
namespace json = boost::json;
using boost::system::error_code;
using steady = std::chrono::steady_clock;

constexpr auto progress_period = std::chrono::milliseconds(200);
constexpr std::size_t most_failure_bytes = 400;  // of an answer that says why

void allow_many_sockets() {
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) != 0) return;
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
}

// The bytes of each request, drawn before the clock runs.
std::string request_text(const load_plan& plan, std::mt19937_64& random) {
  std::uniform_int_distribution<std::uint32_t> draw(10, plan.vocabulary - 1);
  json::array prompt;
  for (std::uint32_t i = 0; i < plan.prompt_tokens; ++i) prompt.emplace_back(draw(random));
  const auto body = json::serialize(json::object{{"model", plan.model},
                                                 {"prompt", std::move(prompt)},
                                                 {"max_tokens", plan.output_tokens},
                                                 {"temperature", 0},
                                                 {"ignore_eos", true},
                                                 {"stream", true},
                                                 {"stream_options", {{"include_usage", true}}},
                                                 {"return_token_ids", true}});
  const auto& server = plan.server;
  const auto key = server.api_key.empty() ? "" : "Authorization: Bearer " + server.api_key + "\r\n";
  return fmt::format(
      "POST /v1/completions HTTP/1.1\r\nHost: {}:{}\r\nContent-Type: application/json\r\n{}"
      "Connection: close\r\nContent-Length: {}\r\n\r\n{}",
      server.host, server.port, key, body.size(), body);
}

struct shared {
  const load_plan& plan;
  asio::io_context context{1};
  asio::ip::tcp::resolver::results_type where;
  steady::time_point begin;
  load_progress progress;

  double now() const { return std::chrono::duration<double>(steady::now() - begin).count(); }
};

// One request from connection to end. It lives as long as an operation of it does.
class stream : public std::enable_shared_from_this<stream> {
 public:
  stream(shared& all, std::string request, stream_times& out, std::function<void()> on_end)
      : all_(all),
        request_(std::move(request)),
        out_(out),
        on_end_(std::move(on_end)),
        socket_(all.context) {
    parser_.body_limit(std::numeric_limits<std::uint64_t>::max());
  }

  void start() {
    allow_time();
    socket_.async_connect(all_.where, [self = shared_from_this()](error_code ec, const auto&) {
      if (ec) return self->fail_with("connect", ec);
      self->socket_.socket().set_option(asio::ip::tcp::no_delay(true), ec);
      self->send();
    });
  }

 private:
  void allow_time() { socket_.expires_after(all_.plan.server.silence); }

  void send() {
    asio::async_write(socket_, asio::buffer(request_),
                      [self = shared_from_this()](error_code ec, std::size_t) {
                        if (ec) return self->fail_with("send", ec);
                        self->read_head();
                      });
  }

  void read_head() {
    http::async_read_header(socket_, buffer_, parser_,
                            [self = shared_from_this()](error_code ec, std::size_t) {
                              if (ec) return self->fail_with("read", ec);
                              self->on_bytes();
                            });
  }

  void read_some() {
    allow_time();
    http::async_read_some(socket_, buffer_, parser_,
                          [self = shared_from_this()](error_code ec, std::size_t) {
                            if (ec && ec != http::error::end_of_stream)
                              return self->fail_with("read", ec);
                            self->on_bytes();
                          });
  }

  void on_bytes() {
    const auto status = parser_.get().result_int();
    auto& body = parser_.get().body();
    if (status != 200) {
      if (!parser_.is_done() && body.size() < most_failure_bytes) return read_some();
      return end(fmt::format("answered {}: {}", status, body.substr(0, most_failure_bytes)));
    }
    const auto bytes = std::exchange(body, {});
    const double now = all_.now();
    if (!events_.push(bytes, [&](std::string_view data) { return on_event(data, now); }))
      return end(std::move(failure_));
    if (parser_.is_done()) return end("the stream ended without [DONE]");
    read_some();
  }

  // false: it was the last one.
  bool on_event(std::string_view data, double now) {
    if (data == "[DONE]") {
      if (out_.tokens == 0) out_.tokens = out_.pieces.size();  // the server tells no usage
      if (out_.tokens != all_.plan.output_tokens)
        failure_ = fmt::format("ended after {} tokens of {}", out_.tokens, all_.plan.output_tokens);
      return false;
    }
    error_code broken;
    const auto event = json::parse(data, broken);
    const auto* fields = event.if_object();
    if (broken || fields == nullptr) {
      failure_ = "sent what is no JSON object";
      return false;
    }
    if (fields->contains("error")) {
      failure_ = std::string(data.substr(0, most_failure_bytes));
      return false;
    }
    if (const auto* usage = fields->if_contains("usage"); usage && usage->is_object())
      if (const auto* n = usage->get_object().if_contains("completion_tokens"); n && n->is_int64())
        out_.tokens = static_cast<std::uint64_t>(n->get_int64());
    if (has_tokens(*fields)) {
      out_.pieces.push_back(now);
      ++all_.progress.pieces;
    }
    return true;
  }

  // Text may be empty while a character is not complete; servers that tell no ids only have text.
  static bool has_tokens(const json::object& event) {
    const auto* choices = event.if_contains("choices");
    if (choices == nullptr || !choices->is_array() || choices->get_array().empty()) return false;
    const auto* choice = choices->get_array().front().if_object();
    if (choice == nullptr) return false;
    if (const auto* ids = choice->if_contains("token_ids"); ids && ids->is_array())
      return !ids->get_array().empty();
    const auto* text = choice->if_contains("text");
    return text != nullptr && text->is_string() && !text->get_string().empty();
  }

  void fail_with(const char* what, error_code ec) {
    const bool late = ec == beast::error::timeout;
    const auto why = late ? std::string("no answer in time") : ec.message();
    end(fmt::format("cannot {}: {}", what, why));
  }

  void end(std::string failure) {
    out_.failure = std::move(failure);
    out_.ended = all_.now();
    ++all_.progress.ended;
    socket_.close();
    on_end_();
  }

  shared& all_;
  const std::string request_;
  stream_times& out_;
  const std::function<void()> on_end_;
  beast::tcp_stream socket_;
  beast::flat_buffer buffer_;
  http::response_parser<http::string_body> parser_;
  net::sse_reader events_;
  std::string failure_;
};

// Lets requests begin when they arrive and when one of the streams is free.
class driver {
 public:
  driver(shared& all, const std::function<void(const load_progress&)>& on_progress)
      : all_(all), on_progress_(on_progress), arrival_(all.context), tick_(all.context) {
    std::mt19937_64 random(all.plan.seed);
    std::exponential_distribution<double> gap(all.plan.rate > 0 ? all.plan.rate : 1);
    times_.resize(all.plan.requests);
    double at = 0;
    for (auto& one : times_) {
      one.arrived = at;
      if (all.plan.rate > 0) at += gap(random);
      requests_.push_back(request_text(all.plan, random));
    }
  }

  std::vector<stream_times> run() {
    all_.begin = steady::now();
    arrive();
    tick();
    all_.context.run();
    return std::move(times_);
  }

 private:
  void arrive() {
    const double now = all_.now();
    while (arrived_ < times_.size() && times_[arrived_].arrived <= now)
      waiting_.push_back(arrived_++);
    begin_waiting();
    if (arrived_ == times_.size()) return;
    arrival_.expires_at(all_.begin + std::chrono::duration_cast<steady::duration>(
                                         std::chrono::duration<double>(times_[arrived_].arrived)));
    arrival_.async_wait([this](error_code ec) {
      if (!ec) arrive();
    });
  }

  void begin_waiting() {
    while (!waiting_.empty() && (all_.plan.streams == 0 || running_ < all_.plan.streams)) {
      const auto index = waiting_.front();
      waiting_.pop_front();
      ++running_;
      // A request that could not wait for a rate begins when its connection does.
      if (all_.plan.rate == 0) times_[index].arrived = all_.now();
      std::make_shared<stream>(all_, std::move(requests_[index]), times_[index], [this] {
        --running_;
        if (all_.progress.ended == times_.size()) tick_.cancel();
        asio::post(all_.context, [this] { begin_waiting(); });
      })->start();
    }
  }

  void tick() {
    on_progress_(all_.progress);
    tick_.expires_after(progress_period);
    tick_.async_wait([this](error_code ec) {
      if (!ec && all_.progress.ended < times_.size()) tick();
    });
  }

  shared& all_;
  const std::function<void(const load_progress&)>& on_progress_;
  asio::steady_timer arrival_, tick_;
  std::vector<stream_times> times_;
  std::vector<std::string> requests_;
  std::deque<std::size_t> waiting_;
  std::size_t arrived_ = 0;
  std::uint32_t running_ = 0;
};

}  // namespace

result<std::vector<stream_times>> run_load(
    const load_plan& plan, const std::function<void(const load_progress&)>& on_progress) {
  allow_many_sockets();
  shared all{plan, asio::io_context{1}, {}, {}, {}};
  error_code unknown;
  asio::ip::tcp::resolver resolver(all.context);
  all.where = resolver.resolve(plan.server.host, std::to_string(plan.server.port), unknown);
  if (unknown)
    return fail(errc::io_error,
                fmt::format("cannot find {}: {}", plan.server.host, unknown.message()));
  return driver(all, on_progress).run();
}

}  // namespace dinfer::apps

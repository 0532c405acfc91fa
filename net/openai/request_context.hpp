// SPDX-License-Identifier: Apache-2.0
// One HTTP request on its way through the service: adds to each answer what all have (request id,
// CORS, Retry-After) and counts it. On the io thread of its connection.
#pragma once

#include "net/http/exchange.hpp"
#include "net/openai/render.hpp"
#include "net/openai/request_metrics.hpp"

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

namespace dinfer::net {

class request_context {
 public:
  using time_point = std::chrono::steady_clock::time_point;
  request_context(std::shared_ptr<exchange> to, std::string name, std::string_view handler,
                  const http_metrics& metrics, time_point arrived)
      : id(std::move(name)),
        arrival(arrived),
        to_(std::move(to)),
        handler_(handler),
        metrics_(metrics) {
    fields_.emplace_back("X-Request-Id", id);
  }

  void add_field(std::string name, std::string value) {
    fields_.emplace_back(std::move(name), std::move(value));
  }

  void respond(http_response response) {
    response.fields.insert(response.fields.end(), fields_.begin(), fields_.end());
    count(response.status);
    to_->respond(std::move(response));
  }

  void json(std::string body) {
    http_response response;
    response.body = std::move(body);
    respond(std::move(response));
  }

  void fail(const api_error& wrong) {
    http_response response;
    response.status = wrong.status;
    response.body = render_error(wrong);
    if (wrong.status == 401) response.fields.emplace_back("WWW-Authenticate", "Bearer");
    if (wrong.status == 429 || wrong.status == 503)
      response.fields.emplace_back("Retry-After", "1");
    respond(std::move(response));
  }
  void fail(const error& problem) { fail(to_api_error(problem)); }

  void begin_stream() {
    streaming_ = true;
    to_->begin_stream(fields_);
  }
  void send(std::string_view events, std::uint32_t count) { to_->send(events, count); }
  void end_stream(bool close) {
    count(close ? 500 : 200);
    to_->end_stream(close);
  }
  bool streaming() const noexcept { return streaming_; }
  void on_lost(std::function<void(lost_reason)> callback) { to_->on_lost(std::move(callback)); }

  const std::string id;
  const time_point arrival;

 private:
  void count(unsigned status) const {
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - arrival;
    metrics_.answered(handler_, status, passed.count());
  }

  std::shared_ptr<exchange> to_;
  std::string_view handler_;
  const http_metrics& metrics_;
  http_fields fields_;
  bool streaming_ = false;
};

}  // namespace dinfer::net

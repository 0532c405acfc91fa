// SPDX-License-Identifier: Apache-2.0
// The key first, then the route, then the endpoint.
#include "net/openai/service.hpp"

#include "dinfer/version.hpp"
#include "net/openai/calls.hpp"
#include "net/openai/parse.hpp"
#include "net/openai/request_context.hpp"
#include "net/openai/routes.hpp"
#include "net/openai/tokenize.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>

namespace dinfer::net {
namespace {

constexpr std::size_t client_id_bytes_max = 128;
constexpr std::size_t status_questions_max = 64;  // under way
constexpr std::uint64_t stuck_after_ms = 10'000;

using context_ptr = std::shared_ptr<request_context>;

bool printable(std::string_view text) {
  return !text.empty() && text.size() <= client_id_bytes_max &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7f; });
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Only for the model's name in /v1/models/{id}, after routing. A broken escape stays as it is.
std::string percent_decoded(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool escape = text[i] == '%' && i + 2 < text.size() && hex_value(text[i + 1]) >= 0 &&
                        hex_value(text[i + 2]) >= 0;
    if (!escape) {
      out += text[i];
      continue;
    }
    out += static_cast<char>(hex_value(text[i + 1]) * 16 + hex_value(text[i + 2]));
    i += 2;
  }
  return out;
}

std::string model_object(const loaded_model& model) {
  const auto& served = *model.served;
  std::string out = R"({"id":)";
  append_json(out, served.name);
  fmt::format_to(std::back_inserter(out),
                 R"(,"object":"model","created":{},"owned_by":"dinfer","root":)", model.created);
  append_json(out, served.root);
  fmt::format_to(std::back_inserter(out), R"(,"parent":null,"max_model_len":{},"permission":[]}})",
                 served.max_model_len);
  return out;
}

}  // namespace

struct service::impl {
  impl(service_shared& s, offload_function elsewhere)
      : shared(s), offload(std::move(elsewhere)), calls(s, offload) {}

  context_ptr make_context(const http_request& request, std::shared_ptr<exchange> to,
                           const route& r) const;
  void dispatch(http_request& request, const route& r, const context_ptr& context);
  void read(const http_request& request, const route& r, const context_ptr& context);
  void write(http_request& request, const route& r, const context_ptr& context);
  void health(const context_ptr& context) const;
  void ready(const context_ptr& context) const;
  void ask_cluster(const context_ptr& context);
  void tell_cluster(request_id id, const result<std::string>& text);
  void models(const context_ptr& context) const;
  void one_model(std::string_view path, const context_ptr& context) const;
  void tokenize(std::string body, const context_ptr& context) const;
  void detokenize(std::string body, const context_ptr& context) const;
  void generate(call_kind kind, std::string body, const context_ptr& context);

  service_shared& shared;
  offload_function offload;
  generating_calls calls;
  std::map<request_id, context_ptr> asked;  // for the cluster's status
};

service::service(service_shared& shared, offload_function offload)
    : impl_(std::make_unique<impl>(shared, std::move(offload))) {}

service::~service() = default;

void service::deliver(const engine_events& events) {
  impl_->calls.deliver(events);
  for (const auto& [id, text] : events.clusters) impl_->tell_cluster(id, text);
}

void service::handle(http_request request, std::shared_ptr<exchange> to) {
  const auto& r = find_route(request.path);
  const auto context = impl_->make_context(request, std::move(to), r);
  // Browsers ask before they send a key; the answer tells nothing but what CORS allows.
  const bool preflight = request.method == "OPTIONS" &&
                         !request.field("access-control-request-method").empty() &&
                         impl_->shared.origin_allowed(request.field("origin"));
  if (!r.open && !preflight && !impl_->shared.allow(request.field("authorization")))
    return context->fail({401,
                          "authentication_error",
                          "a valid API key is needed: Authorization: Bearer <key>",
                          {},
                          "invalid_api_key"});
  impl_->dispatch(request, r, context);
}

context_ptr service::impl::make_context(const http_request& request, std::shared_ptr<exchange> to,
                                        const route& r) const {
  const auto given = request.field("x-request-id");
  auto id = printable(given) ? std::string(given) : fmt::format("{:016x}", shared.random());
  auto context = std::make_shared<request_context>(std::move(to), std::move(id), r.path,
                                                   shared.http(), std::chrono::steady_clock::now());
  const auto origin = request.field("origin");
  if (shared.origin_allowed(origin)) {
    context->add_field("Access-Control-Allow-Origin", std::string(origin));
    context->add_field("Access-Control-Expose-Headers", "X-Request-Id");
    context->add_field("Vary", "Origin");
  }
  return context;
}

void service::impl::dispatch(http_request& request, const route& r, const context_ptr& context) {
  if (r.to == endpoint::none)
    return context->fail(
        {404, "invalid_request_error", "there is no such path here", {}, "not_found"});
  if (request.method == "OPTIONS") {
    context->add_field("Allow", std::string(r.allow));
    context->add_field("Access-Control-Allow-Methods", std::string(r.allow));
    context->add_field("Access-Control-Allow-Headers", "Authorization, Content-Type, X-Request-Id");
    context->add_field("Access-Control-Max-Age", "600");
    http_response response;
    response.status = 204;
    return context->respond(std::move(response));
  }
  const bool reading = request.method == "GET" || request.method == "HEAD";
  if (reading && r.get) return read(request, r, context);
  if (request.method == "POST" && r.post) return write(request, r, context);
  context->add_field("Allow", std::string(r.allow));
  context->fail({405,
                 "invalid_request_error",
                 fmt::format("this path takes {}, not {}", r.allow, request.method),
                 {},
                 "method_not_allowed"});
}

void service::impl::read(const http_request& request, const route& r, const context_ptr& context) {
  switch (r.to) {
    case endpoint::cluster:
      return ask_cluster(context);
    case endpoint::models:
      return models(context);
    case endpoint::one_model:
      return one_model(request.path, context);
    case endpoint::ready:
      return ready(context);
    case endpoint::live:
      return context->respond({});
    case endpoint::version:
      return context->json(fmt::format(R"({{"version":"{}"}})", version()));
    case endpoint::metrics: {
      http_response response;
      response.content_type = "text/plain; version=0.0.4; charset=utf-8";
      response.body = shared.registry().text();
      return context->respond(std::move(response));
    }
    default:
      return health(context);
  }
}

void service::impl::write(http_request& request, const route& r, const context_ptr& context) {
  switch (r.to) {
    case endpoint::chat:
      return generate(call_kind::chat, std::move(request.body), context);
    case endpoint::completions:
      return generate(call_kind::completion, std::move(request.body), context);
    case endpoint::tokenize:
      return tokenize(std::move(request.body), context);
    case endpoint::detokenize:
      return detokenize(std::move(request.body), context);
    default:
      return health(context);
  }
}

void service::impl::health(const context_ptr& context) const {
  http_response response;
  if (shared.status().state != engine_state::ready) {
    response.status = 503;
    response.fields.emplace_back("Retry-After", "1");
  }
  context->respond(std::move(response));
}

void service::impl::ready(const context_ptr& context) const {
  auto status = shared.status();
  const bool busy = status.running + status.waiting > 0;
  const bool stuck = busy && status.last_step_age_ms > stuck_after_ms;
  if (stuck && status.reason.empty())
    status.reason = fmt::format("no progress for {} ms", status.last_step_age_ms);
  const bool fine = status.state == engine_state::ready && !stuck;
  std::string body =
      fmt::format(R"({{"ready":{},"state":"{}","stage":)", fine, state_text(status.state));
  append_json(body, status.stage);
  body += R"(,"reason":)";
  append_json(body, status.reason);
  fmt::format_to(std::back_inserter(body), R"(,"last_step_age_ms":{},"running":{},"waiting":{}}})",
                 status.last_step_age_ms, status.running, status.waiting);
  http_response response;
  response.body = std::move(body);
  if (!fine) {
    response.status = 503;
    response.fields.emplace_back("Retry-After", "1");
  }
  context->respond(std::move(response));
}

void service::impl::ask_cluster(const context_ptr& context) {
  if (asked.size() >= status_questions_max)
    return context->fail({errc::unavailable, "too many ask how the cluster is", {}});
  const auto id = shared.engine().next_id();
  asked.emplace(id, context);
  shared.engine().show_cluster(id);
}

void service::impl::tell_cluster(request_id id, const result<std::string>& text) {
  const auto found = asked.find(id);
  if (found == asked.end()) return;
  const auto context = std::move(found->second);
  asked.erase(found);
  if (text) context->json(*text);
  else context->fail(text.error());
}

void service::impl::models(const context_ptr& context) const {
  const auto model = shared.model();
  context->json(R"({"object":"list","data":[)" + (model ? model_object(*model) : "") + "]}");
}

void service::impl::one_model(std::string_view path, const context_ptr& context) const {
  const auto model = shared.model();
  const auto name = percent_decoded(path.substr(std::string_view("/v1/models/").size()));
  if (!model || !check_model_name(name, *model->served))
    return context->fail(
        {errc::not_found, fmt::format("The model `{}` does not exist.", name), "model"});
  context->json(model_object(*model));
}

void service::impl::generate(call_kind kind, std::string body, const context_ptr& context) {
  const auto status = shared.status();
  if (status.state != engine_state::ready)
    return context->fail({errc::unavailable,
                          fmt::format("the server is {}: {}", state_text(status.state),
                                      status.reason.empty() ? status.stage : status.reason),
                          {}});
  calls.start(kind, std::move(body), context);
}

void service::impl::tokenize(std::string body, const context_ptr& context) const {
  struct job {
    std::string body;
    std::shared_ptr<const loaded_model> model;
    std::int64_t now_unix = 0;
    result<std::string> answer = std::string();
  };
  auto work = std::make_shared<job>();
  work->body = std::move(body);
  work->model = shared.model();
  work->now_unix = shared.now_unix();
  if (!work->model) return context->fail({errc::unavailable, "the model is not loaded yet", {}});
  offload(
      [work] { work->answer = tokenize_answer(work->body, *work->model->served, work->now_unix); },
      [work, context] {
        if (work->answer) context->json(std::move(*work->answer));
        else context->fail(work->answer.error());
      });
}

void service::impl::detokenize(std::string body, const context_ptr& context) const {
  const auto model = shared.model();
  if (!model) return context->fail({errc::unavailable, "the model is not loaded yet", {}});
  auto answer = detokenize_answer(body, *model->served);
  if (answer) context->json(std::move(*answer));
  else context->fail(answer.error());
}

}  // namespace dinfer::net

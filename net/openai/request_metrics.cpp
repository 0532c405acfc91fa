// SPDX-License-Identifier: Apache-2.0
// Names and bucket edges as vLLM's dashboards expect them.
#include "net/openai/request_metrics.hpp"

#include <fmt/format.h>

namespace dinfer::net {
namespace {

constexpr double first_token_edges[] = {0.001, 0.005, 0.01, 0.02,  0.04,  0.06,  0.08, 0.1,
                                        0.25,  0.5,   0.75, 1.0,   2.5,   5.0,   7.5,  10.0,
                                        20.0,  40.0,  80.0, 160.0, 640.0, 2560.0};
constexpr double gap_edges[] = {0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2,  0.3,  0.4, 0.5,
                                0.75, 1.0,   2.5,  5.0,   7.5, 10.0, 20.0, 40.0, 80.0};
constexpr double total_edges[] = {0.3,  0.5,   0.8,   1.0,   1.5,   2.0,    2.5,
                                  5.0,  10.0,  15.0,  20.0,  30.0,  40.0,   50.0,
                                  60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0};
constexpr double http_edges[] = {0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0,  1.5, 2.0,
                                 2.5,  3.0,   3.5,  4.0,   4.5, 5.0,  7.5, 10.0, 30.0, 60.0};
constexpr double n_edges[] = {1, 2, 5, 10, 20};

// 1, 2, 5, 10, 20, ... up to `most`.
std::vector<double> token_edges(std::uint32_t most) {
  std::vector<double> out;
  for (double decade = 1;; decade *= 10)
    for (const double step : {1.0, 2.0, 5.0}) {
      if (decade * step > std::max(most, 1U)) return out;
      out.push_back(decade * step);
    }
}

}  // namespace

request_metrics::request_metrics(runtime::metrics_registry& registry, const served_model& model)
    : make_(registry, model.name),
      first_token_(make_.make_histogram("time_to_first_token_seconds",
                                        "From the request to its first token.", first_token_edges)),
      gap_(make_.make_histogram("inter_token_latency_seconds", "Between tokens of one sequence.",
                                gap_edges)),
      total_(make_.make_histogram("e2e_request_latency_seconds",
                                  "From the request to its last token.", total_edges)),
      decode_(make_.make_histogram("request_decode_time_seconds",
                                   "From the first token to the last.", total_edges)),
      prompt_tokens_(make_.make_histogram("request_prompt_tokens", "Prompt tokens of a request.",
                                          token_edges(model.max_model_len))),
      generation_tokens_(make_.make_histogram("request_generation_tokens",
                                              "Tokens generated for a request.",
                                              token_edges(model.max_model_len))),
      params_n_(make_.make_histogram("request_params_n", "The request's n.", n_edges)),
      params_max_tokens_(make_.make_histogram("request_params_max_tokens",
                                              "The request's max_tokens.",
                                              token_edges(model.max_model_len))),
      stop_(make_.make_counter("request_success_total", "Requests that ended, by reason.",
                               {{"finished_reason", "stop"}})),
      length_(make_.make_counter("request_success_total", "Requests that ended, by reason.",
                                 {{"finished_reason", "length"}})),
      abort_(make_.make_counter("request_success_total", "Requests that ended, by reason.",
                                {{"finished_reason", "abort"}})),
      error_(make_.make_counter("request_success_total", "Requests that ended, by reason.",
                                {{"finished_reason", "error"}})),
      too_slow_(make_.make_counter("slow_readers_total",
                                   "Streams aborted because the client read too slowly.")) {}

void request_metrics::submitted(const prepared_call& call) const {
  params_n_.each([&](auto& m) { m.observe(call.call.n); });
  params_max_tokens_.each([&](auto& m) { m.observe(call.call.sampling.max_tokens); });
}

void request_metrics::gap(double seconds) const {
  gap_.each([&](auto& m) { m.observe(seconds); });
}

void request_metrics::finished(const generation_summary& summary, std::string_view outcome) const {
  const auto& counter = outcome == "stop"     ? stop_
                        : outcome == "length" ? length_
                        : outcome == "abort"  ? abort_
                                              : error_;
  counter.each([](auto& m) { m.add(); });
  total_.each([&](auto& m) { m.observe(summary.total_s); });
  prompt_tokens_.each([&](auto& m) { m.observe(summary.used.prompt_tokens); });
  generation_tokens_.each([&](auto& m) { m.observe(summary.used.completion_tokens); });
  if (summary.first_token_s < 0) return;
  first_token_.each([&](auto& m) { m.observe(summary.first_token_s); });
  decode_.each([&](auto& m) { m.observe(summary.decode_s); });
}

void request_metrics::too_slow() const {
  too_slow_.each([](auto& m) { m.add(); });
}

http_metrics::http_metrics(runtime::metrics_registry& registry,
                           std::span<const std::string_view> handlers) {
  for (const auto handler : handlers) {
    const std::string name(handler);
    for (const unsigned status : {2U, 4U, 5U})
      counts_[{name, status}] =
          &registry.make_counter("http_requests_total", "HTTP requests answered.",
                                 {{"handler", name}, {"status", fmt::format("{}xx", status)}});
    durations_[name] = &registry.make_histogram(
        "http_request_duration_seconds", "From a request's last byte to the end of its answer.",
        http_edges, {{"handler", name}});
  }
}

void http_metrics::answered(std::string_view handler, unsigned status, double seconds) const {
  const auto duration = durations_.find(handler);
  const auto count = counts_.find({std::string(handler), status / 100});
  if (duration != durations_.end()) duration->second->observe(seconds);
  if (count != counts_.end()) count->second->add();
}

}  // namespace dinfer::net

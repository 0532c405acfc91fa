// SPDX-License-Identifier: Apache-2.0
// What the HTTP side measures of requests and connections. Made once per server; any thread.
#pragma once

#include "net/openai/engine_metrics.hpp"
#include "net/openai/generation.hpp"

#include <map>
#include <string>
#include <string_view>
#include <utility>

namespace dinfer::net {

// Of generations; made when the model's name is known.
class request_metrics {
 public:
  request_metrics(runtime::metrics_registry& registry, const served_model& model);
  void submitted(const prepared_call& call) const;
  void gap(double seconds) const;
  // `outcome`: "stop", "length", "abort" or "error".
  void finished(const generation_summary& summary, std::string_view outcome) const;
  void too_slow() const;

 private:
  twin_maker make_;
  twin_histogram first_token_, gap_, total_, decode_, prompt_tokens_, generation_tokens_, params_n_,
      params_max_tokens_;
  twin_counter stop_, length_, abort_, error_, too_slow_;
};

// Of HTTP requests, by route and class of status: http_requests_total and its duration.
class http_metrics {
 public:
  http_metrics(runtime::metrics_registry& registry, std::span<const std::string_view> handlers);
  void answered(std::string_view handler, unsigned status, double seconds) const;

 private:
  std::map<std::pair<std::string, unsigned>, runtime::counter*> counts_;
  std::map<std::string, runtime::histogram*, std::less<>> durations_;
};

}  // namespace dinfer::net

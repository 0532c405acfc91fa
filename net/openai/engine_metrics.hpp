// SPDX-License-Identifier: Apache-2.0
// The engine's own metrics, under vLLM's names and under dinfer's. The scheduler's owner makes one
// and calls update() after steps; any one thread.
#pragma once

#include "runtime/base/metrics.hpp"
#include "runtime/schedule/scheduler.hpp"

#include <array>
#include <span>
#include <string>

namespace dinfer::net {

// A metric of two names: dashboards made for vLLM read "vllm:", ours read "dinfer:".
template <class Metric>
class twin {
 public:
  twin(Metric& first, Metric& second) : both_{&first, &second} {}
  template <class Call>
  void each(Call&& call) const {
    for (auto* m : both_) call(*m);
  }

 private:
  std::array<Metric*, 2> both_;
};

using twin_counter = twin<runtime::counter>;
using twin_gauge = twin<runtime::gauge>;
using twin_histogram = twin<runtime::histogram>;

// `name` without prefix; `more` are labels besides model_name and engine.
class twin_maker {
 public:
  using labels = runtime::metrics_registry::labels;
  twin_maker(runtime::metrics_registry& registry, const std::string& model_name);
  twin_counter make_counter(const std::string& name, const std::string& help,
                            const labels& more = {}) const;
  twin_gauge make_gauge(const std::string& name, const std::string& help,
                        const labels& more = {}) const;
  twin_histogram make_histogram(const std::string& name, const std::string& help,
                                std::span<const double> edges, const labels& more = {}) const;

 private:
  labels with(const labels& more) const;
  runtime::metrics_registry& registry_;
  labels common_;
};

class engine_metrics {
 public:
  engine_metrics(runtime::metrics_registry& registry, const std::string& model_name);
  void update(const runtime::scheduler_stats& stats);
  // Prompt and output tokens of one step.
  void step(std::uint32_t tokens, double seconds);

 private:
  twin_maker make_;
  twin_gauge running_, waiting_, cache_usage_, blocks_, blocks_used_;
  twin_counter preemptions_, prompt_tokens_, generation_tokens_, prefix_queries_, prefix_hits_,
      steps_;
  twin_histogram iteration_tokens_, step_seconds_;
};

}  // namespace dinfer::net

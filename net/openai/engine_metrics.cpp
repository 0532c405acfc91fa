// SPDX-License-Identifier: Apache-2.0
// Names, help texts and bucket edges; edges are those that vLLM's dashboards were made for.
#include "net/openai/engine_metrics.hpp"

namespace dinfer::net {
namespace {

constexpr double token_edges[] = {1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384};
constexpr double step_edges[] = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                 0.25,   0.5,   1.0,    2.5,   5.0,  10.0,  30.0};

}  // namespace

twin_maker::twin_maker(runtime::metrics_registry& registry, const std::string& model_name)
    : registry_(registry), common_{{"model_name", model_name}, {"engine", "0"}} {}

twin_maker::labels twin_maker::with(const labels& more) const {
  auto out = common_;
  out.insert(out.end(), more.begin(), more.end());
  return out;
}

twin_counter twin_maker::make_counter(const std::string& name, const std::string& help,
                                      const labels& more) const {
  return {registry_.make_counter("vllm:" + name, help, with(more)),
          registry_.make_counter("dinfer:" + name, help, with(more))};
}

twin_gauge twin_maker::make_gauge(const std::string& name, const std::string& help,
                                  const labels& more) const {
  return {registry_.make_gauge("vllm:" + name, help, with(more)),
          registry_.make_gauge("dinfer:" + name, help, with(more))};
}

twin_histogram twin_maker::make_histogram(const std::string& name, const std::string& help,
                                          std::span<const double> edges, const labels& more) const {
  return {registry_.make_histogram("vllm:" + name, help, edges, with(more)),
          registry_.make_histogram("dinfer:" + name, help, edges, with(more))};
}

engine_metrics::engine_metrics(runtime::metrics_registry& registry, const std::string& model_name)
    : make_(registry, model_name),
      running_(make_.make_gauge("num_requests_running", "Requests in the running batch.")),
      waiting_(make_.make_gauge("num_requests_waiting", "Requests that wait for a slot.")),
      cache_usage_(make_.make_gauge("kv_cache_usage_perc", "Part of the KV cache in use, 0 to 1.")),
      blocks_(make_.make_gauge("kv_cache_blocks", "Blocks of the KV cache.")),
      blocks_used_(make_.make_gauge("kv_cache_blocks_used", "Blocks that requests hold.")),
      preemptions_(make_.make_counter("num_preemptions_total", "Sequences put back in the queue.")),
      prompt_tokens_(make_.make_counter("prompt_tokens_total", "Prompt tokens computed.")),
      generation_tokens_(make_.make_counter("generation_tokens_total", "Tokens generated.")),
      prefix_queries_(make_.make_counter("prefix_cache_queries_total",
                                         "Prompt tokens looked up in the prefix cache.")),
      prefix_hits_(make_.make_counter("prefix_cache_hits_total",
                                      "Prompt tokens found in the prefix cache.")),
      steps_(make_.make_counter("engine_steps_total", "Steps that the engine finished.")),
      iteration_tokens_(make_.make_histogram("iteration_tokens_total",
                                             "Tokens computed in one step.", token_edges)),
      step_seconds_(
          make_.make_histogram("engine_step_seconds", "Duration of a step.", step_edges)) {}

void engine_metrics::update(const runtime::scheduler_stats& stats) {
  const auto usage =
      stats.blocks_total > 0 ? static_cast<double>(stats.blocks_used) / stats.blocks_total : 0.0;
  running_.each([&](auto& m) { m.set(stats.running); });
  waiting_.each([&](auto& m) { m.set(stats.waiting); });
  cache_usage_.each([&](auto& m) { m.set(usage); });
  blocks_.each([&](auto& m) { m.set(stats.blocks_total); });
  blocks_used_.each([&](auto& m) { m.set(stats.blocks_used); });
  preemptions_.each([&](auto& m) { m.set_total(stats.preemptions); });
  prompt_tokens_.each([&](auto& m) { m.set_total(stats.prompt_tokens); });
  generation_tokens_.each([&](auto& m) { m.set_total(stats.generation_tokens); });
  prefix_queries_.each([&](auto& m) { m.set_total(stats.prefix_queries); });
  prefix_hits_.each([&](auto& m) { m.set_total(stats.prefix_hits); });
  steps_.each([&](auto& m) { m.set_total(stats.steps); });
}

void engine_metrics::step(std::uint32_t tokens, double seconds) {
  iteration_tokens_.each([&](auto& m) { m.observe(tokens); });
  step_seconds_.each([&](auto& m) { m.observe(seconds); });
}

}  // namespace dinfer::net

// SPDX-License-Identifier: Apache-2.0
// The metrics that dashboards read, after requests whose numbers are known.
#include "net/openai/engine_metrics.hpp"

#include "tests/net/http/fixture.hpp"

#include <fmt/format.h>

using dinfer::tests::server_fixture;

namespace {

constexpr const char* labels = R"({model_name="echo",engine="0"})";

}  // namespace

TEST_CASE("requests are measured under vLLM's names and ours") {
  const server_fixture f;
  const std::string body = R"("prompt":"abcd","max_tokens":8,"add_special_tokens":false)";
  f.post("/v1/completions", "{" + body + "}");
  f.stream("/v1/completions", "{" + body + R"(,"stream":true,"n":2})");
  f.post("/v1/completions", "{" + body + R"(,"stop":"c"})");
  for (const std::string prefix : {"vllm:", "dinfer:"}) {
    CAPTURE(prefix);
    const auto value = [&](const std::string& name) { return f.metric(prefix + name + labels); };
    CHECK(value("e2e_request_latency_seconds_count") == 3);
    CHECK(value("time_to_first_token_seconds_count") == 3);
    CHECK(value("request_prompt_tokens_sum") == 12);
    CHECK(value("request_generation_tokens_sum") == 8 + 16 + 3);
    CHECK(value("inter_token_latency_seconds_count") == 7 + 14 + 2);
    CHECK(value("request_params_n_sum") == 4);
    CHECK(value("request_params_max_tokens_sum") == 24);
    const auto ended = [&](const std::string& reason) {
      return f.metric(fmt::format(
          R"({}request_success_total{{model_name="echo",engine="0",finished_reason="{}"}})", prefix,
          reason));
    };
    CHECK(ended("length") == 2);
    CHECK(ended("stop") == 1);
    CHECK(ended("abort") == 0);
  }
  CHECK(f.metric(R"(http_requests_total{handler="/v1/completions",status="2xx"})") == 3);
}

TEST_CASE("the edges of latency buckets are those of existing dashboards") {
  const server_fixture f;
  for (const std::string edge : {"0.001", "0.005", "0.25", "2560", "+Inf"})
    CHECK(f.metric(fmt::format(
              R"(vllm:time_to_first_token_seconds_bucket{{model_name="echo",engine="0",le="{}"}})",
              edge)) == 0);
}

TEST_CASE("the scheduler's numbers become gauges and totals") {
  dinfer::runtime::metrics_registry registry;
  dinfer::net::engine_metrics metrics(registry, "m");
  dinfer::runtime::scheduler_stats stats;
  stats.running = 3;
  stats.waiting = 2;
  stats.blocks_total = 8;
  stats.blocks_used = 2;
  stats.generation_tokens = 77;
  metrics.update(stats);
  metrics.step(64, 0.02);
  const auto text = registry.text();
  for (const std::string line :
       {R"(vllm:num_requests_running{model_name="m",engine="0"} 3)",
        R"(dinfer:num_requests_waiting{model_name="m",engine="0"} 2)",
        R"(vllm:kv_cache_usage_perc{model_name="m",engine="0"} 0.25)",
        R"(vllm:generation_tokens_total{model_name="m",engine="0"} 77)",
        R"(vllm:iteration_tokens_total_sum{model_name="m",engine="0"} 64)"}) {
    CAPTURE(line);
    CHECK(text.find("\n" + line + "\n") != std::string::npos);
  }
}

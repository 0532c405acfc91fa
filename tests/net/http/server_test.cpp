// SPDX-License-Identifier: Apache-2.0
// The server over real sockets: endpoints, shapes, streams.
#include "net/http/server.hpp"

#include "tests/net/http/fixture.hpp"

using dinfer::tests::server_fixture;

TEST_CASE("health follows the engine's state") {
  const server_fixture f;
  CHECK(f.get("/health").status == 200);
  CHECK(f.get("/live").status == 200);
  dinfer::net::engine_status status;
  status.state = dinfer::net::engine_state::loading;
  status.stage = "loading weights";
  f.engine->report(status);
  const auto loading = f.get("/health");
  CHECK(loading.status == 503);
  CHECK(loading.field("retry-after") == "1");
  CHECK(loading.body.empty());
  CHECK(f.get("/ready").status == 503);
  CHECK(f.get("/live").status == 200);
  CHECK(f.post("/v1/completions", R"({"prompt":"a"})").status == 503);
}

TEST_CASE("a completion is the prompt, echoed by the simulated engine") {
  const server_fixture f;
  const auto answer =
      f.post("/v1/completions",
             R"({"model":"echo","prompt":"abc","max_tokens":5,"add_special_tokens":false})");
  CHECK(answer.status == 200);
  CHECK(answer.field("content-type") == "application/json");
  CHECK(answer.body ==
        R"({"id":"cmpl-0000000000000001","object":"text_completion","created":1700000000,)"
        R"("model":"echo","choices":[{"index":0,"text":"abcab","logprobs":null,)"
        R"("finish_reason":"length","stop_reason":null}],"usage":{"prompt_tokens":3,)"
        R"("completion_tokens":5,"total_tokens":8,"prompt_tokens_details":{"cached_tokens":0}}})");
}

TEST_CASE("a chat streams role, pieces, end, usage and done") {
  const server_fixture f;
  const auto events = f.stream("/v1/chat/completions",
                               R"({"messages":[{"role":"user","content":"x"}],"max_tokens":2,)"
                               R"("stream":true,"stream_options":{"include_usage":true}})");
  const std::string opening =
      R"({"id":"chatcmpl-0000000000000001","object":"chat.completion.chunk","created":1700000000,)"
      R"("model":"echo","choices":[)";
  REQUIRE(events.size() == 6);
  CHECK(events[0] == opening + R"({"index":0,"delta":{"role":"assistant","content":""},)"
                               R"("logprobs":null,"finish_reason":null}],"usage":null})");
  CHECK(events[1] == opening + R"({"index":0,"delta":{"content":"u"},"logprobs":null,)"
                               R"("finish_reason":null}],"usage":null})");
  CHECK(events[2] == opening + R"({"index":0,"delta":{"content":"s"},"logprobs":null,)"
                               R"("finish_reason":null}],"usage":null})");
  CHECK(events[3] == opening + R"({"index":0,"delta":{},"logprobs":null,)"
                               R"("finish_reason":"length","stop_reason":null}],"usage":null})");
  CHECK(events[4] == opening +
                         R"(],"usage":{"prompt_tokens":19,"completion_tokens":2,"total_tokens":21,)"
                         R"("prompt_tokens_details":{"cached_tokens":0}}})");
  CHECK(events[5] == "[DONE]");
}

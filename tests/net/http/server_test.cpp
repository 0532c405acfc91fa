// SPDX-License-Identifier: Apache-2.0
// The server over real sockets: endpoints, shapes, streams.
#include "net/http/server.hpp"

#include "tests/net/http/fixture.hpp"

#include <algorithm>

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

TEST_CASE("a request's own id names the answer") {
  const server_fixture f;
  const auto answer =
      f.post("/v1/completions", R"({"prompt":"abc","max_tokens":1,"request_id":"mine"})");
  CHECK(answer.body.starts_with(R"({"id":"cmpl-mine",)"));
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

TEST_CASE("a prompt that leaves no room is refused with the context's length") {
  server_fixture::setup setup;
  setup.max_model_len = 10;
  const server_fixture f(setup);
  const auto ask = [&](const std::string& fields) {
    return f.post("/v1/completions", R"({"add_special_tokens":false,)" + fields + "}");
  };
  const auto prompt = ask(R"("prompt":"0123456789")");
  CHECK(prompt.status == 400);
  CHECK(prompt.body.find("maximum context length is 10 tokens") != std::string::npos);
  CHECK(prompt.body.find(R"("param":"prompt")") != std::string::npos);
  const auto output = ask(R"("prompt":"0123456","max_tokens":4)");
  CHECK(output.status == 400);
  CHECK(output.body.find(R"("param":"max_tokens")") != std::string::npos);
  CHECK(ask(R"("prompt":"0123456","max_tokens":3)").status == 200);
  // Without a number a completion gets 16 tokens, or what is left.
  CHECK(ask(R"("prompt":"0123456")").body.find(R"("completion_tokens":3)") != std::string::npos);
}

TEST_CASE("a long prompt is prepared off the io thread and answered all the same") {
  server_fixture::setup setup;
  setup.max_model_len = 1 << 20;
  const server_fixture f(setup);
  const auto answer =
      f.post("/v1/completions", R"({"max_tokens":3,"add_special_tokens":false,"prompt":")" +
                                    std::string(100'000, 'z') + R"("})");
  CHECK(answer.status == 200);
  CHECK(answer.body.find(R"("text":"zzz")") != std::string::npos);
  CHECK(answer.body.find(R"("prompt_tokens":100000)") != std::string::npos);
}

TEST_CASE("the cluster's status is the engine's answer") {
  const server_fixture f;
  const auto answer = f.get("/cluster");
  CHECK(answer.status == 200);
  CHECK(answer.body == R"({"nodes":[]})");
}

TEST_CASE("models are listed, and others do not exist") {
  const server_fixture f;
  const std::string model =
      R"({"id":"echo","object":"model","created":1700000000,"owned_by":"dinfer",)"
      R"("root":"echo.gguf","parent":null,"max_model_len":4096,"permission":[]})";
  CHECK(f.get("/v1/models").body == R"({"object":"list","data":[)" + model + "]}");
  CHECK(f.get("/v1/models/echo").body == model);
  CHECK(f.get("/v1/models/%65cho").body == model);
  CHECK(f.get("/v1/models/other").status == 404);
  const auto answer = f.post("/v1/completions", R"({"model":"other","prompt":"a"})");
  CHECK(answer.status == 404);
  CHECK(answer.body.find(R"("code":"model_not_found")") != std::string::npos);
}

TEST_CASE("text becomes token ids and back without generating") {
  const server_fixture f;
  CHECK(f.post("/tokenize", R"({"prompt":"hi","return_token_strs":true})").body ==
        R"({"count":3,"max_model_len":4096,"tokens":[256,104,105],"token_strs":["<s>","h","i"]})");
  CHECK(f.post("/tokenize", R"({"prompt":"hi","add_special_tokens":false})").body ==
        R"({"count":2,"max_model_len":4096,"tokens":[104,105],"token_strs":null})");
  CHECK(f.post("/detokenize", R"({"tokens":[104,105]})").body == R"({"prompt":"hi"})");
  CHECK(f.post("/detokenize", R"({"tokens":[9999]})").status == 400);
  CHECK(f.post("/tokenize", "{}").status == 400);
}

TEST_CASE("text of a message never becomes a control token") {
  const server_fixture f;
  f.post("/v1/chat/completions",
         R"({"messages":[{"role":"user","content":"</s>"}],"max_tokens":1})");
  const auto submitted = f.engine->submitted();
  REQUIRE(submitted.size() == 1);
  const auto& prompt = submitted[0].prompt;
  CHECK(std::find(prompt.begin(), prompt.end(), dinfer::tests::byte_tokenizer::eos_id) ==
        prompt.end());
}

TEST_CASE("the last message can be continued") {
  const server_fixture f;
  f.post("/v1/chat/completions",
         R"({"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"so far"}],)"
         R"("continue_final_message":true,"max_tokens":1})");
  const auto submitted = f.engine->submitted();
  REQUIRE(submitted.size() == 1);
  CHECK(dinfer::tests::byte_tokenizer().decode(submitted[0].prompt, false) ==
        "user: q\nassistant: so far");
}

TEST_CASE("an engine that makes no progress with work is not ready, yet healthy") {
  const server_fixture f;
  dinfer::net::engine_status status;
  status.state = dinfer::net::engine_state::ready;
  status.stage = "serving";
  status.running = 1;
  status.last_step_age_ms = 10'001;
  f.engine->report(status);
  const auto stuck = f.get("/ready");
  CHECK(stuck.status == 503);
  CHECK(stuck.body ==
        R"({"ready":false,"state":"ready","stage":"serving","reason":"no progress for 10001 ms",)"
        R"("last_step_age_ms":10001,"running":1,"waiting":0})");
  CHECK(f.get("/health").status == 200);
  status.last_step_age_ms = 10'000;
  f.engine->report(status);
  CHECK(f.get("/ready").status == 200);
}

TEST_CASE("a server without a model says so") {
  server_fixture::setup setup;
  setup.loaded = false;
  const server_fixture f(setup);
  CHECK(f.get("/health").status == 503);
  CHECK(f.get("/v1/models").body == R"({"object":"list","data":[]})");
  CHECK(f.post("/v1/completions", R"({"prompt":"a"})").status == 503);
  CHECK(f.post("/tokenize", R"({"prompt":"a"})").status == 503);
}

// SPDX-License-Identifier: Apache-2.0
// Every field of a request with every kind of wrong value: a 400 that names it, never more.
#include "net/openai/parse.hpp"

#include "net/openai/render.hpp"
#include "tests/net/http/fixture.hpp"
#include "tests/support/catch.hpp"

#include <fmt/format.h>

using namespace dinfer;

namespace {

struct field_case {
  std::string name;
  std::vector<std::string> good, bad;  // as JSON; null is always good
};

const std::vector<std::string> not_numbers = {R"("1")", "true", "[]", "{}", "1e999", "-1e999"};

field_case number(std::string name, std::vector<std::string> good, std::vector<std::string> bad) {
  bad.insert(bad.end(), not_numbers.begin(), not_numbers.end());
  return {std::move(name), std::move(good), std::move(bad)};
}

field_case integer(std::string name, std::vector<std::string> good, std::vector<std::string> bad) {
  bad.push_back("1.5");
  bad.push_back("18446744073709551615");
  bad.push_back("-9223372036854775808");
  return number(std::move(name), std::move(good), std::move(bad));
}

field_case flag(std::string name) {
  return {std::move(name), {"true", "false"}, {"0", R"("true")", "[]", "{}"}};
}

field_case text(std::string name) {
  return {std::move(name),
          {R"("x")", R"("")"},
          {"1", "true", "[]", "{}", '"' + std::string(300, 'x') + '"'}};
}

std::string repeated(const std::string& item, std::size_t n, char open, char close) {
  std::string out(1, open);
  for (std::size_t i = 0; i < n; ++i) out += (i > 0 ? "," : "") + item;
  return out + close;
}

std::vector<field_case> common_cases() {
  std::string biases = "{";
  for (int i = 0; i < 1025; ++i) biases += fmt::format("{}\"{}\":1", i > 0 ? "," : "", i);
  biases += "}";
  return {
      number("temperature", {"0", "2", "0.5", "1e-3"}, {"-0.001", "2.001", "1e300"}),
      number("top_p", {"1", "0.01"}, {"0", "1.01", "-1", "1e-300"}),
      number("min_p", {"0", "0.99"}, {"1", "-0.1"}),
      number("presence_penalty", {"-2", "2"}, {"-2.01", "2.01"}),
      number("frequency_penalty", {"-2", "2"}, {"-2.01", "2.01"}),
      number("repetition_penalty", {"2", "0.1"}, {"0", "2.1", "-1"}),
      integer("top_k", {"-1", "0", "40"}, {"-2", "99999999"}),
      integer("max_tokens", {"1", "16", "3.0"}, {"0", "-1", "4294967296"}),
      integer("min_tokens", {"0", "1"}, {"-1"}),
      integer("n", {"1", "16", "2.0"}, {"0", "17", "-1"}),
      integer("priority", {"-5", "5"}, {"1000001"}),
      {"seed",
       {"0", "-1", "18446744073709551615"},
       {"1.5", R"("1")", "true", "[]", "{}", "18446744073709551616"}},
      {"stop",
       {R"("x")", "[]", R"(["x","y"])"},
       {"1", "{}", "[1]", R"("")", R"([""])", '"' + std::string(257, 'x') + '"',
        repeated(R"("x")", 17, '[', ']')}},
      {"stop_token_ids",
       {"[]", "[1,2]"},
       {"1", "{}", R"("1")", "[1.5]", "[-1]", R"(["1"])", "[4294967296]",
        repeated("1", 129, '[', ']')}},
      {"logit_bias",
       {"{}", R"({"1":-100,"2":100})"},
       {"1", "[]", R"({"a":1})", R"({"1":101})", R"({"1":"x"})", R"({"-1":1})", R"({"1 ":1})",
        R"({"99999999999":1})", R"({"1":1e999})", R"({"1":null})", biases}},
      flag("ignore_eos"),
      flag("stream"),
      flag("skip_special_tokens"),
      flag("include_stop_str_in_output"),
      flag("add_special_tokens"),
      flag("return_token_ids"),
      text("model"),
      text("cache_salt"),
      text("request_id"),
      {"stream_options", {}, {"1", R"("x")", "[]", R"({"include_usage":true})"}},  // without stream
      {"tools", {"[]"}, {R"([{"type":"function"}])"}},
      {"response_format",
       {R"({"type":"text"})"},
       {R"({"type":"json_object"})", "{}", "1", R"({"type":1})"}},
      {"best_of", {"1"}, {"2"}},
      {"use_beam_search", {"false"}, {"true"}},
      {"prompt_logprobs", {}, {"1"}},
      {"user", {R"("someone")"}, {}},
      {"a_field_of_the_future", {"1", "[[[]]]", R"({"x":1})"}, {}},
  };
}

std::vector<field_case> completion_cases() {
  auto out = common_cases();
  out.push_back(integer("logprobs", {"0", "20"}, {"-1", "21"}));
  out.push_back(flag("echo"));
  out.push_back({"suffix", {R"("")"}, {R"("x")"}});
  return out;
}

std::vector<field_case> chat_cases() {
  auto out = common_cases();
  out.push_back(flag("logprobs"));
  out.push_back(integer("top_logprobs", {"0"}, {"-1", "21", "1"}));  // 1 needs logprobs
  out.push_back(integer("max_completion_tokens", {"1"}, {"0", "-1"}));
  out.push_back(flag("add_generation_prompt"));
  out.push_back(flag("continue_final_message"));
  return out;
}

const std::string chat_base = R"("messages":[{"role":"user","content":"x"}])";

template <class Parse>
void check_cases(const std::vector<field_case>& cases, const std::string& base, Parse parse) {
  for (const auto& c : cases) {
    auto good = c.good;
    good.push_back("null");
    for (const auto& value : good) {
      CAPTURE(c.name, value);
      const auto call = parse(fmt::format(R"({{{},"{}":{}}})", base, c.name, value));
      CHECK((call ? "" : call.error().message) == "");
    }
    for (const auto& value : c.bad) {
      CAPTURE(c.name, value);
      const auto call = parse(fmt::format(R"({{{},"{}":{}}})", base, c.name, value));
      REQUIRE_FALSE(call);
      CHECK(net::to_api_error(call.error()).status == 400);
    }
    if (c.good.empty()) continue;
    CAPTURE(c.name);
    CHECK_FALSE(parse(fmt::format(R"({{{0},"{1}":{2},"{1}":{2}}})", base, c.name, c.good[0])));
  }
}

}  // namespace

TEST_CASE("every field of a completion is bounded") {
  check_cases(completion_cases(), R"("prompt":"x")",
              [](const std::string& body) { return net::parse_completion(body); });
}

TEST_CASE("every field of a chat is bounded") {
  check_cases(chat_cases(), chat_base,
              [](const std::string& body) { return net::parse_chat(body); });
}

TEST_CASE("prompts come as text, ids, or lists of either") {
  const auto prompts = [](const std::string& value) {
    auto call = net::parse_completion(R"({"prompt":)" + value + "}");
    return call ? std::move(call->prompts) : std::vector<net::prompt_input>{};
  };
  CHECK(prompts(R"("a")") == std::vector<net::prompt_input>{"a"});
  CHECK(prompts(R"(["a","b"])") == std::vector<net::prompt_input>{"a", "b"});
  CHECK(prompts("[1,2]") == std::vector<net::prompt_input>{std::vector<token_id>{1, 2}});
  CHECK(prompts(R"([[1],"a"])") ==
        std::vector<net::prompt_input>{std::vector<token_id>{1}, std::string("a")});
  for (const std::string wrong : {"null", "1", "{}", "[]", "[true]", R"([1,"a"])", "[[1],2]",
                                  "[-1]", "[1.5]", "[[[1]]]", "[9999999999]"}) {
    CAPTURE(wrong);
    CHECK(prompts(wrong).empty());
  }
  CHECK(prompts(repeated(R"("a")", 64, '[', ']')).size() == 64);
  CHECK(prompts(repeated(R"("a")", 65, '[', ']')).empty());
}

TEST_CASE("messages have known roles and content of text") {
  const auto subject = [](const std::string& messages) {
    const auto call = net::parse_chat(R"({"messages":)" + messages + "}");
    return call ? std::string("fine") : call.error().subject;
  };
  CHECK(subject(R"([{"role":"system","content":"a"},{"role":"tool","content":"b"}])") == "fine");
  CHECK(subject(R"([{"role":"assistant","content":null}])") == "fine");
  CHECK(subject("[]") == "messages");
  CHECK(subject("[1]") == "messages");
  CHECK(subject(R"([{"role":"wizard","content":"a"}])") == "messages[0].role");
  CHECK(subject(R"([{"content":"a"}])") == "messages[0].role");
  CHECK(subject(R"([{"role":"user","content":"a"},{"role":"user"}])") == "messages[1].content");
  CHECK(subject(R"([{"role":"user","content":1}])") == "messages[0].content");
  CHECK(subject(R"([{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}])") ==
        "messages[0].content");
  CHECK(subject(R"([{"role":"user","content":[{"type":"text"}]}])") == "messages[0].content");
  CHECK(subject(repeated(R"({"role":"user","content":"a"})", 1025, '[', ']')) == "messages");
  const auto parts =
      net::parse_chat(R"({"messages":[{"role":"user","content":[{"type":"text","text":"a"},)"
                      R"({"type":"text","text":"b"}]}]})");
  REQUIRE(parts);
  CHECK(parts->messages[0].content == "ab");
}

TEST_CASE("what is not strict JSON is refused") {
  const auto accepted = [](const std::string& body) {
    return net::parse_completion(body).has_value();
  };
  const std::string prompt = R"("prompt":"x")";
  CHECK(accepted("{" + prompt + "}"));
  for (const auto& bad : {std::string(),
                          std::string("null"),
                          std::string("[]"),
                          std::string("\"x\""),
                          std::string("{"),
                          "{" + prompt + "} x",
                          "{" + prompt + ",}",
                          std::string("{prompt:\"x\"}"),
                          std::string("{'prompt':'x'}"),
                          "{" + prompt + ",\"temperature\":NaN}",
                          "{" + prompt + ",\"temperature\":Infinity}",
                          "{" + prompt + ",\"temperature\":01}",
                          "{" + prompt + ",\"temperature\":+1}",
                          "/**/{" + prompt + "}",
                          std::string("{\"prompt\":\"\xFF\"}"),
                          std::string("{\"prompt\":\"\xC0\x80\"}"),
                          std::string("{\"prompt\":\"\xED\xA0\x80\"}"),
                          std::string(R"({"prompt":"\ud800"})"),
                          std::string(R"({"prompt":"\udc00x"})"),
                          std::string(R"({"prompt":"\ud800\u0041"})"),
                          std::string("{\"prompt\":\"a\nb\"}"),
                          std::string(R"({"prompt":"\x"})"),
                          "\xEF\xBB\xBF{" + prompt + "}",
                          std::string("{\"prompt\":\"x\"}\0", 15),
                          "{" + prompt + ",\"pr\\u006fmpt\":\"y\"}"}) {
    CAPTURE(bad);
    CHECK_FALSE(accepted(bad));
  }
  const auto nested = [&](int depth) {
    return "{" + prompt + ",\"x\":" + std::string(depth, '[') + std::string(depth, ']') + "}";
  };
  CHECK(accepted(nested(31)));
  CHECK_FALSE(accepted(nested(32)));
  CHECK_FALSE(accepted(nested(100'000)));
}

TEST_CASE("a refusal names the field that the client sent") {
  const auto call =
      net::parse_chat("{" + chat_base + R"(,"logprobs":true,"top_logprobs":21,"n":2.0})");
  REQUIRE_FALSE(call);
  CHECK(call.error().message == "top_logprobs must be from 0 to 20, but is 21");
  CHECK(call.error().subject == "top_logprobs");
  const auto none = net::parse_chat("{" + chat_base + R"(,"max_completion_tokens":0})");
  REQUIRE_FALSE(none);
  CHECK(none.error().subject == "max_completion_tokens");
}

TEST_CASE("whole numbers may be written with a fraction of zero") {
  const auto call = net::parse_completion(R"({"prompt":"x","max_tokens":3.0,"n":2e0})");
  REQUIRE(call);
  CHECK(call->max_tokens == 3);
  CHECK(call->n == 2);
}

TEST_CASE("what a request leaves out is drawn as the model's own settings say") {
  sampling_params defaults;
  defaults.temperature = 0.6F;
  defaults.top_p = 0.9F;
  defaults.top_k = 40;
  defaults.repetition_penalty = 1.1F;
  const auto left_out = net::parse_completion(R"({"prompt":"x"})", defaults);
  REQUIRE(left_out);
  CHECK(left_out->sampling.temperature == 0.6F);
  CHECK(left_out->sampling.top_p == 0.9F);
  CHECK(left_out->sampling.top_k == 40);
  CHECK(left_out->sampling.repetition_penalty == 1.1F);
  const auto said = net::parse_chat(
      "{" + chat_base + R"(,"temperature":0,"top_p":1,"top_k":-1,"repetition_penalty":1})",
      defaults);
  REQUIRE(said);
  CHECK(said->sampling.greedy());
  CHECK_FALSE(said->sampling.filtered());
  CHECK_FALSE(said->sampling.penalised());
}

TEST_CASE("fields nobody knows are listed, a few of them") {
  const auto call = net::parse_completion(R"({"prompt":"x","alpha":1,"user":"u","beta":null})");
  REQUIRE(call);
  CHECK(call->unknown_fields == std::vector<std::string>{"alpha", "beta"});
}

TEST_CASE("no generated request makes the server fail") {
  tests::server_fixture::setup setup;
  setup.max_model_len = 200;  // no stream is longer than what may wait for this client
  const tests::server_fixture f(setup);
  const auto ask = [&](const char* path, const std::string& base, const field_case& c) {
    auto values = c.good;
    values.insert(values.end(), c.bad.begin(), c.bad.end());
    values.push_back("null");
    values.push_back(R"("\ud800")");
    values.push_back("\"\xFF\"");
    values.push_back(std::string(33, '[') + std::string(33, ']'));
    for (const auto& value : values) {
      const auto body = fmt::format(R"({{{},"{}":{}}})", base, c.name, value);
      CAPTURE(path, body);
      const auto status = f.post(path, body).status;
      CHECK((status == 200 || status == 400 || status == 404));
    }
  };
  for (const auto& c : completion_cases()) ask("/v1/completions", R"("prompt":"x")", c);
  for (const auto& c : chat_cases()) ask("/v1/chat/completions", chat_base, c);
  CHECK(f.get("/health").status == 200);
}

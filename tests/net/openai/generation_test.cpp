// SPDX-License-Identifier: Apache-2.0
// A generation without server or engine: events in, text out.
#include "net/openai/generation.hpp"

#include "net/openai/parse.hpp"
#include "tests/support/byte_tokenizer.hpp"
#include "tests/support/catch.hpp"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>

using namespace dinfer;
namespace json = boost::json;
using net::generation;
using net::generation_effects;
using tests::byte_tokenizer;

namespace {

std::shared_ptr<const net::served_model> model() {
  net::served_model m;
  m.name = "echo";
  m.max_model_len = 1000;
  m.words = std::make_shared<byte_tokenizer>();
  return std::make_shared<const net::served_model>(std::move(m));
}

// A completion by its JSON, with its requests already made.
struct running {
  explicit running(const std::string& body) : served(model()) {
    auto call = net::parse_completion(body);
    REQUIRE(call);
    auto prepared = net::prepare(std::move(*call), *served, 0, 7);
    REQUIRE(prepared);
    net::answer_style style;
    style.id = "cmpl-1";
    style.model = "echo";
    work =
        std::make_unique<generation>(std::move(*prepared), style, served, generation::time_point{});
    requests = work->requests([this] { return ++last_id; });
  }

  // `text` byte by byte as tokens of one event.
  generation_effects give(request_id id, std::string_view text,
                          finish_reason finish = finish_reason::none,
                          std::optional<token_id> stop = std::nullopt) {
    token_event event;
    event.id = id;
    for (const char c : text) event.tokens.push_back({static_cast<unsigned char>(c), -0.5F, {}});
    if (stop) event.tokens.push_back({*stop, -0.5F, {}});
    event.finish = finish;
    event.stop_token = stop;
    generation_effects out;
    work->take(event, generation::time_point{}, out);
    return out;
  }
  json::object choice(std::size_t i = 0) const {
    return json::parse(work->body()).at("choices").at(i).as_object();
  }
  std::string text(std::size_t i = 0) const { return choice(i).at("text").as_string().c_str(); }

  std::shared_ptr<const net::served_model> served;
  std::unique_ptr<generation> work;
  std::vector<generate_request> requests;
  request_id last_id = 0;
};

// The text of all chunks of choice `index`.
std::string streamed(const std::string& events, std::int64_t index) {
  std::string out;
  for (std::size_t at = 0; (at = events.find("data: {", at)) != std::string::npos; ++at) {
    const auto end = events.find("\n\n", at);
    const auto chunk = json::parse(events.substr(at + 6, end - at - 6));
    for (const auto& c : chunk.at("choices").as_array())
      if (c.at("index") == index) out += c.at("text").as_string().c_str();
  }
  return out;
}

}  // namespace

TEST_CASE("a stop string over several events ends the choice and cancels the sequence") {
  running r(R"({"prompt":"p","stop":["END","\n\n"]})");
  CHECK(r.give(1, "some E").stop.empty());
  CHECK(r.give(1, "N").stop.empty());
  const auto last = r.give(1, "Dand more");
  CHECK(last.stop == std::vector<request_id>{1});
  CHECK(last.ended == std::vector<request_id>{1});
  CHECK(last.complete);
  CHECK(r.text() == "some ");
  CHECK(r.choice().at("finish_reason") == "stop");
  CHECK(r.choice().at("stop_reason") == "END");
  // Only tokens up to the stop string count: 6 + 1 + 1.
  CHECK(json::parse(r.work->body()).at("usage").at("completion_tokens") == 8);
  CHECK_FALSE(r.give(1, "late").complete);
  CHECK(r.text() == "some ");
}

TEST_CASE("a stop string may be kept in the output") {
  running r(R"({"prompt":"p","stop":"END","include_stop_str_in_output":true})");
  CHECK(r.give(1, "some END").complete);
  CHECK(r.text() == "some END");
}

TEST_CASE("text that only looked like a stop string comes out at the end") {
  running r(R"({"prompt":"p","stop":"END","stream":true})");
  std::string events = r.give(1, "xEN").events;
  CHECK(streamed(events, 0) == "x");
  events += r.give(1, "", finish_reason::length).events;
  CHECK(streamed(events, 0) == "xEN");
  CHECK(events.ends_with("data: [DONE]\n\n"));
}

TEST_CASE("stop strings do not count before min_tokens") {
  running r(R"({"prompt":"p","stop":"b","min_tokens":2})");
  CHECK_FALSE(r.give(1, "bb").complete);
  CHECK(r.give(1, "ab").complete);
  CHECK(r.text() == "bba");
}

TEST_CASE("the end-of-sequence token is counted and not shown, and is no stop reason") {
  running r(R"({"prompt":"p"})");
  CHECK(r.give(1, "hi", finish_reason::stop, byte_tokenizer::eos_id).complete);
  CHECK(r.text() == "hi");
  CHECK(r.choice().at("finish_reason") == "stop");
  CHECK(r.choice().at("stop_reason").is_null());
  CHECK(json::parse(r.work->body()).at("usage").at("completion_tokens") == 3);
}

TEST_CASE("a stop token of the request is the stop reason") {
  running r(R"({"prompt":"p","stop_token_ids":[33]})");
  CHECK(r.give(1, "hi", finish_reason::stop, 33).complete);
  CHECK(r.text() == "hi");
  CHECK(r.choice().at("stop_reason") == 33);
}

TEST_CASE("a character of several tokens is never split") {
  running r(R"({"prompt":"p","stream":true})");
  std::string events;
  std::size_t pieces = 0;
  for (const char c : std::string("\xE2\x82\xAC\xF0\x9F\x98\x80z")) {
    const auto step = r.give(1, std::string(1, c)).events;
    events += step;
    pieces += step.empty() ? 0 : 1;
  }
  CHECK(pieces == 3);
  CHECK(streamed(events, 0) == "\xE2\x82\xAC\xF0\x9F\x98\x80z");
  events = r.give(1, "\xE2\x82", finish_reason::length).events;
  CHECK(streamed(events, 0) == "\xEF\xBF\xBD");  // cut off by the end
}

TEST_CASE("n choices of several prompts are numbered prompt by prompt, with seeds of their own") {
  running r(R"({"prompt":["p","qq"],"n":2,"seed":5,"add_special_tokens":false})");
  REQUIRE(r.requests.size() == 4);
  CHECK(r.requests[0].prompt == std::vector<token_id>{'p'});
  CHECK(r.requests[3].prompt == std::vector<token_id>{'q', 'q'});
  CHECK(r.requests[0].sampling.seed == 5);
  CHECK(r.requests[1].sampling.seed != 5);
  CHECK(r.requests[2].sampling.seed == 5);
  CHECK(r.requests[1].sampling.seed == r.requests[3].sampling.seed);
  for (request_id id = 4; id >= 1; --id) {
    const auto step = r.give(id, std::string(id, 'x'), finish_reason::length);
    CHECK(step.complete == (id == 1));
  }
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(r.choice(i).at("index") == i);
    CHECK(r.text(i) == std::string(i + 1, 'x'));
  }
  const auto usage = json::parse(r.work->body()).at("usage");
  CHECK(usage.at("prompt_tokens") == 3);  // each prompt once
  CHECK(usage.at("completion_tokens") == 10);
}

TEST_CASE("echo with log-probabilities lists the prompt first") {
  running r(
      R"({"prompt":"ab","echo":true,"logprobs":1,"max_tokens":2,"add_special_tokens":false})");
  CHECK(r.requests[0].sampling.prompt_logprobs == 1);
  token_event event;
  event.id = 1;
  event.prompt_logprobs = {{'b', -1.5F, {{'z', -0.25F}}}};
  generation_effects out;
  r.work->take(event, generation::time_point{}, out);
  CHECK_FALSE(out.complete);
  CHECK(r.give(1, "c", finish_reason::length).complete);
  CHECK(r.text() == "abc");
  CHECK(json::serialize(r.choice().at("logprobs")) ==
        R"({"text_offset":[0,1,2],"token_logprobs":[null,-1.5E0,-5E-1],"tokens":["a","b","c"],)"
        R"("top_logprobs":[null,{"z":-2.5E-1,"b":-1.5E0},{"c":-5E-1}]})");
}

TEST_CASE("echo with no tokens to generate scores the prompt alone") {
  running r(
      R"({"prompt":"ab","echo":true,"logprobs":0,"max_tokens":0,"add_special_tokens":false})");
  CHECK(r.requests[0].sampling.max_tokens == 1);
  token_event event;
  event.id = 1;
  event.prompt_logprobs = {{'b', -1.5F, {}}};
  event.tokens = {{'c', -0.5F, {}}};
  event.finish = finish_reason::length;
  generation_effects out;
  r.work->take(event, generation::time_point{}, out);
  CHECK(out.complete);
  CHECK(r.text() == "ab");
  CHECK(r.choice().at("logprobs").at("tokens").as_array().size() == 2);
  CHECK(json::parse(r.work->body()).at("usage").at("completion_tokens") == 0);
}

TEST_CASE("an echoed prompt streams before its first token") {
  running r(
      R"({"prompt":"ab","echo":true,"stream":true,"max_tokens":2,"add_special_tokens":false})");
  token_event event;
  event.id = 1;
  generation_effects out;
  r.work->take(event, generation::time_point{}, out);
  CHECK(out.started);
  CHECK(out.events.empty());
  CHECK(streamed(r.give(1, "c").events, 0) == "abc");
  CHECK(streamed(r.give(1, "d").events, 0) == "d");
}

TEST_CASE("token ids are returned on demand") {
  running r(R"({"prompt":"ab","return_token_ids":true,"add_special_tokens":false})");
  r.give(1, "cd", finish_reason::stop, byte_tokenizer::eos_id);
  CHECK(json::serialize(r.choice().at("token_ids")) == "[99,100,257]");
  CHECK(json::serialize(r.choice().at("prompt_token_ids")) == "[97,98]");
}

TEST_CASE("an engine's error or abort fails the call as a whole") {
  running r(R"({"prompt":"ab","n":2})");
  const auto failed = r.give(1, "", finish_reason::abort);
  REQUIRE(failed.failure);
  CHECK(failed.failure->code == errc::cancelled);
  CHECK(r.work->unfinished() == std::vector<request_id>{2});
}

// SPDX-License-Identifier: Apache-2.0
// Strings and errors as JSON, read back by another parser.
#include "net/openai/render.hpp"

#include "tests/support/byte_tokenizer.hpp"
#include "tests/support/catch.hpp"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>

#include <cmath>
#include <random>

using namespace dinfer;
namespace json = boost::json;

namespace {

std::string round_trip(std::string_view text) {
  std::string out;
  net::append_json(out, text);
  return json::parse(out).as_string().c_str();
}

}  // namespace

TEST_CASE("strings survive JSON") {
  std::string controls;
  for (char c = 1; c < 0x20; ++c) controls += c;
  for (const auto& text : {std::string(), std::string("plain"), std::string("\"\\/"),
                           controls + "\x7f", std::string("\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80")})
    CHECK(round_trip(text) == text);
}

TEST_CASE("bytes that are not UTF-8 become replacement characters") {
  const std::string r = "\xEF\xBF\xBD";
  CHECK(round_trip("a\xFFz") == "a" + r + "z");
  CHECK(round_trip("\xE2\x82") == r + r);
  CHECK(round_trip("\xC0\x80") == r + r);
  CHECK(round_trip("\xED\xA0\x80") == r + r + r);
  CHECK(round_trip("\xF4\x90\x80\x80") == r + r + r + r);
}

TEST_CASE("random bytes always give valid JSON") {
  std::mt19937 random(42);
  for (int i = 0; i < 5000; ++i) {
    std::string bytes(random() % 12, '\0');
    for (auto& b : bytes) b = static_cast<char>(random());
    std::string out;
    net::append_json(out, bytes);
    boost::system::error_code bad;
    json::parse(out, bad);
    REQUIRE_FALSE(bad);
  }
}

TEST_CASE("errors map to the status that clients expect") {
  const auto status = [](errc code) { return net::to_api_error({code, "m", "s"}).status; };
  CHECK(status(errc::invalid_argument) == 400);
  CHECK(status(errc::unsupported) == 400);
  CHECK(status(errc::not_found) == 404);
  CHECK(status(errc::queue_full) == 429);
  CHECK(status(errc::unavailable) == 503);
  CHECK(status(errc::peer_lost) == 503);
  CHECK(status(errc::internal) == 500);
  CHECK(
      net::render_error({400, "invalid_request_error", "say \"x\"", "n", {}}) ==
      R"({"error":{"message":"say \"x\"","type":"invalid_request_error","param":"n","code":null}})");
}

TEST_CASE("log-probabilities have the chat's shape and no infinity") {
  const tests::byte_tokenizer words;
  const sampled_token tokens[] = {{'a', -INFINITY, {{'a', -0.5F}, {'b', -1.5F}}}, {0xE2, -1, {}}};
  std::string out;
  net::append_chat_logprobs(out, words, {tokens, false, 0}, 1);
  CHECK(out == R"({"content":[{"token":"a","logprob":-9999,"bytes":[97],"top_logprobs":)"
               R"([{"token":"a","logprob":-0.5,"bytes":[97]}]},{"token":")"
               "\xEF\xBF\xBD"
               R"(","logprob":-1,"bytes":[226],"top_logprobs":[]}],"refusal":null})");
}

TEST_CASE("text offsets count characters, not bytes") {
  const tests::byte_tokenizer words;
  const sampled_token tokens[] = {{0xC3, -1, {}}, {0xA4, -1, {}}, {'x', -1, {}}};
  std::string out;
  net::append_completion_logprobs(out, words, {tokens, false, 5}, 0);
  CHECK(json::serialize(json::parse(out).at("text_offset")) == "[5,6,6]");
}

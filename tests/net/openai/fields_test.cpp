// SPDX-License-Identifier: Apache-2.0
// Every field that requests may have, with values that nobody means: an answer, or an error of the
// client's that names the field. The fields are those that the parser itself asks for.
#include "net/openai/parse.hpp"
#include "net/openai/prepare.hpp"
#include "net/openai/render.hpp"
#include "runtime/base/limits.hpp"
#include "tests/support/byte_tokenizer.hpp"
#include "tests/support/catch.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

using namespace dinfer;
using net::call_kind;

namespace {

const std::string base_chat = R"("messages":[{"role":"user","content":"x"}])";
const std::string base_completion = R"("prompt":"x")";

net::served_model small_model() {
  net::served_model out;
  out.name = "small";
  out.max_model_len = 100;
  out.words = std::make_shared<tests::byte_tokenizer>();
  auto chat = runtime::chat_template::parse("{{ messages[0]['content'] }}");
  REQUIRE(chat);
  out.chat = std::make_shared<runtime::chat_template>(std::move(*chat));
  return out;
}

// As far as a request gets before the engine.
result<net::prepared_call> prepare(call_kind kind, const std::string& body) {
  static const auto model = small_model();
  auto call = kind == call_kind::chat ? net::parse_chat(body) : net::parse_completion(body);
  if (!call) return tl::unexpected(call.error());
  return net::prepare(std::move(*call), model, 0, 1);
}

// A body in which `field` has `value`; what is needed beside it is there.
std::string body_with(call_kind kind, const std::string& field, const std::string& value) {
  const auto& base = kind == call_kind::chat ? base_chat : base_completion;
  const bool own = base.starts_with('"' + field + '"');
  return own ? fmt::format(R"({{"{}":{}}})", field, value)
             : fmt::format(R"({{{},"{}":{}}})", base, field, value);
}

std::string lists(std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); }

std::string numbers(std::size_t count) {
  std::string out = "[0";
  for (std::size_t i = 1; i < count; ++i) out += ",0";
  return out + "]";
}

std::string names(std::size_t count) {
  std::string out = "{";
  for (std::size_t i = 0; i < count; ++i) out += fmt::format("{}\"{}\":1", i > 0 ? "," : "", i);
  return out + "}";
}

// Each may fit some field; none may do worse than be refused.
std::vector<std::string> odd_values() {
  return {"null",
          "true",
          "0",
          "-1",
          "1.5",
          "1e308",
          "-1e308",
          "1e-320",
          "2147483648",
          "-2147483649",
          "9223372036854775807",
          "-9223372036854775808",
          "18446744073709551615",
          "18446744073709551616",
          R"("")",
          R"("x")",
          R"("\u0000")",
          R"("\ud83d\ude00")",
          "[]",
          "{}",
          "[null]",
          "[[]]",
          "[{}]",
          R"([""])",
          R"({"":1})",
          R"({"type":null})",
          R"([{"type":"text"}])",
          '"' + std::string(1 << 20, 'x') + '"',
          numbers(100'000),
          names(4000),
          lists(30)};
}

// What no JSON may hold, wherever it stands.
std::vector<std::string> broken_values() {
  return {"1e999",
          "-1e999",
          "NaN",
          "Infinity",
          "01",
          "0x1",
          "tru",
          "'x'",
          "\"\xFF\"",
          "\"\xC0\x80\"",
          "\"\xED\xA0\x80\"",
          R"("\ud800")",
          R"("\udc00\ud800")",
          R"("\x41")",
          "\"a\nb\"",
          "[1,]",
          R"({"a":1,"a":2})",
          R"({"a":1,"\u0061":2})",
          lists(33),
          names(4097),
          "\"open"};
}

bool names_it(const error& why, const std::string& field) {
  return why.subject.find(field) != std::string::npos &&
         why.message.find(field) != std::string::npos;
}

}  // namespace

TEST_CASE("any field may have any value without a fault of the server's") {
  for (const auto kind : {call_kind::chat, call_kind::completion})
    for (const auto& field : net::known_fields(kind))
      for (const auto& value : odd_values()) {
        CAPTURE(field, value.substr(0, 40));
        const auto ready = prepare(kind, body_with(kind, field, value));
        if (ready) continue;
        const auto shown = net::to_api_error(ready.error());
        CAPTURE(shown.message, shown.param);
        CHECK((shown.status == 400 || (shown.status == 404 && field == "model")));
        CHECK(shown.message.size() < 500);
        CHECK(names_it(ready.error(), field));
      }
}

TEST_CASE("what is no JSON is refused with the field in which it stands") {
  for (const auto kind : {call_kind::chat, call_kind::completion})
    for (const auto& field : net::known_fields(kind))
      for (const auto& value : broken_values()) {
        CAPTURE(field, value.substr(0, 40));
        const auto ready = prepare(kind, body_with(kind, field, value));
        REQUIRE_FALSE(ready);
        CHECK(net::to_api_error(ready.error()).status == 400);
        CHECK(names_it(ready.error(), field));
        const auto twice = fmt::format(R"({{"{0}":1,"{0}":1}})", field);
        REQUIRE_FALSE(prepare(kind, twice));
        CHECK(names_it(prepare(kind, twice).error(), field));
      }
}

TEST_CASE("numbers are taken to the last within their bounds, and none beyond") {
  const auto fields = net::known_fields(call_kind::completion);
  int seen = 0;
  for (const auto& row : runtime::limits()) {
    const std::string field(row.field);
    if (!row.unit.empty() || field == "logit_bias" ||
        std::count(fields.begin(), fields.end(), field) == 0)
      continue;
    ++seen;
    const bool whole =
        field != "temperature" && !field.ends_with("_p") && !field.ends_with("penalty");
    const double step = whole ? 1 : 1e-3;
    const auto parse = [&](double value) {
      return net::parse_completion(
          body_with(call_kind::completion, field, fmt::format("{}", value)));
    };
    CAPTURE(field);
    for (const auto beyond : {row.min - step, row.max + step}) {
      const auto call = parse(beyond);
      REQUIRE_FALSE(call);
      CHECK(call.error().subject == field);
      CHECK(call.error().message.find(field + " must be ") == 0);
    }
    CHECK(parse(row.max).has_value() != row.max_excluded);
    const bool needs_echo = field == "max_tokens";  // for its least, 0
    CHECK(parse(row.min).has_value() != (row.min_excluded || needs_echo));
  }
  CHECK(seen >= 10);
}

TEST_CASE("fields that are needed are missed by name") {
  const auto chat = net::parse_chat("{}");
  REQUIRE_FALSE(chat);
  CHECK(names_it(chat.error(), "messages"));
  const auto completion = net::parse_completion("{}");
  REQUIRE_FALSE(completion);
  CHECK(names_it(completion.error(), "prompt"));
}

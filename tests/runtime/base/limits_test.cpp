// SPDX-License-Identifier: Apache-2.0
// Each row at its edges, and the whole request.
#include "runtime/base/limits.hpp"

#include "tests/support/catch.hpp"

#include <cmath>
#include <limits>

using dinfer::generate_request;
using dinfer::runtime::check_limit;
using dinfer::runtime::limit;
using dinfer::runtime::limit_row;
using dinfer::runtime::validate;

namespace {

generate_request good() {
  generate_request r;
  r.prompt = {1, 2, 3};
  r.sampling.max_tokens = 7;
  return r;
}

constexpr dinfer::runtime::request_bounds bounds{10, 100};

// The field that is refused, or empty.
std::string refused(const generate_request& r) {
  const auto checked = validate(r, bounds);
  if (checked) return {};
  CHECK(checked.error().code == dinfer::errc::invalid_argument);
  CHECK_FALSE(checked.error().message.empty());
  return checked.error().subject;
}

}  // namespace

TEST_CASE("every row of the limits holds at its edges and not beyond") {
  for (std::size_t i = 0; i < dinfer::runtime::limits().size(); ++i) {
    const auto& row = dinfer::runtime::limits()[i];
    const auto which = static_cast<limit>(i);
    CAPTURE(row.field, row.unit);
    CHECK(row.min < row.max);
    CHECK(check_limit(which, row.min).has_value() == !row.min_excluded);
    CHECK(check_limit(which, row.max).has_value() == !row.max_excluded);
    CHECK(check_limit(which, (row.min + row.max) / 2).has_value());
    CHECK_FALSE(check_limit(which, std::nextafter(row.min, -1e300)));
    CHECK_FALSE(check_limit(which, std::nextafter(row.max, 1e300)));
    CHECK_FALSE(check_limit(which, std::nan("")));
    CHECK_FALSE(check_limit(which, std::numeric_limits<double>::infinity()));
    CHECK_FALSE(check_limit(which, -std::numeric_limits<double>::infinity()));
  }
}

TEST_CASE("messages name the field, the range and the value") {
  const auto message = [](limit which, double value) {
    return check_limit(which, value).error().message;
  };
  CHECK(message(limit::temperature, 3) == "temperature must be from 0 to 2, but is 3");
  CHECK(message(limit::top_p, 0) == "top_p must be above 0 and at most 1, but is 0");
  CHECK(message(limit::min_p, 1) == "min_p must be at least 0 and below 1, but is 1");
  CHECK(message(limit::stop_strings, 17) == "stop must have from 0 to 16 entries, but has 17");
}

TEST_CASE("a request is valid up to the whole context") {
  auto r = good();
  CHECK(refused(r).empty());
  r.sampling.max_tokens = 8;
  CHECK(refused(r) == "max_tokens");
  r = good();
  r.prompt.assign(10, 1);
  CHECK(refused(r) == "prompt");
  r = good();
  r.sampling.max_tokens = std::numeric_limits<std::uint32_t>::max();
  CHECK(refused(r) == "max_tokens");
}

TEST_CASE("what is wrong with a request is named") {
  const auto with = [](auto&& edit) {
    auto r = good();
    edit(r, r.sampling);
    return refused(r);
  };
  CHECK(with([](auto& r, auto&) { r.prompt.clear(); }) == "prompt");
  CHECK(with([](auto& r, auto&) { r.prompt[1] = 100; }) == "prompt");
  CHECK(with([](auto& r, auto&) { r.prompt[1] = -1; }) == "prompt");
  CHECK(with([](auto& r, auto&) { r.priority = 2'000'000; }) == "priority");
  CHECK(with([](auto& r, auto&) { r.cache_salt.assign(257, 'a'); }) == "cache_salt");
  CHECK(with([](auto&, auto& s) { s.temperature = NAN; }) == "temperature");
  CHECK(with([](auto&, auto& s) { s.top_p = 0; }) == "top_p");
  CHECK(with([](auto&, auto& s) { s.top_k = -2; }) == "top_k");
  CHECK(with([](auto&, auto& s) { s.min_p = 1; }) == "min_p");
  CHECK(with([](auto&, auto& s) { s.repetition_penalty = 0; }) == "repetition_penalty");
  CHECK(with([](auto&, auto& s) { s.presence_penalty = 2.5F; }) == "presence_penalty");
  CHECK(with([](auto&, auto& s) { s.frequency_penalty = -2.5F; }) == "frequency_penalty");
  CHECK(with([](auto&, auto& s) { s.logprobs = 21; }) == "logprobs");
  CHECK(with([](auto&, auto& s) { s.prompt_logprobs = -2; }) == "logprobs");
  CHECK(with([](auto&, auto& s) { s.max_tokens = 0; }) == "max_tokens");
  CHECK(with([](auto&, auto& s) { s.min_tokens = 8; }) == "min_tokens");
  CHECK(with([](auto&, auto& s) { s.stop_token_ids = {100}; }) == "stop_token_ids");
  CHECK(with([](auto&, auto& s) { s.stop_token_ids.assign(129, 1); }) == "stop_token_ids");
  CHECK(with([](auto&, auto& s) { s.logit_biases = {{1, 101}}; }) == "logit_bias");
  CHECK(with([](auto&, auto& s) { s.logit_biases = {{100, 1}}; }) == "logit_bias");
  CHECK(with([](auto&, auto& s) { s.logit_biases.resize(1025); }) == "logit_bias");
}

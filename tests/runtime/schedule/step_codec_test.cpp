// SPDX-License-Identifier: Apache-2.0
// Blobs: known bytes, round trips over random values, and hostile input.
#include "runtime/schedule/step_codec.hpp"

#include "dinfer/version.hpp"
#include "tests/support/catch.hpp"

#include <bit>
#include <cmath>
#include <limits>
#include <random>

using namespace dinfer;
using namespace dinfer::runtime;

namespace {

class inventor {
 public:
  explicit inventor(std::uint64_t seed) : random_(seed) {}
  std::uint32_t pick(std::uint32_t most) {
    return static_cast<std::uint32_t>(random_() % (most + 1));
  }
  template <class T>
  std::vector<T> numbers() {
    std::vector<T> v(pick(4));
    for (T& x : v) x = static_cast<T>(random_());
    return v;
  }
  float real() { return std::bit_cast<float>(static_cast<std::uint32_t>(random_())); }
  std::string text() { return std::string(pick(5), static_cast<char>(pick(255))); }

  sampling_params sampling() {
    sampling_params s;
    s.temperature = real();
    s.top_k = static_cast<std::int32_t>(random_());
    s.top_p = real();
    s.repetition_penalty = real();
    for (std::uint32_t n = pick(3); n > 0; --n) s.logit_biases.push_back({7, real()});
    s.seed = random_();
    s.max_tokens = pick(9999);
    s.ignore_eos = pick(1) != 0;
    s.stop_token_ids = numbers<token_id>();
    s.prompt_logprobs = static_cast<std::int32_t>(pick(20)) - 1;
    return s;
  }
  std::vector<sampled_token> tokens() {
    std::vector<sampled_token> v(pick(3));
    for (sampled_token& t : v) {
      t = {static_cast<token_id>(pick(50'000)), real(), {}};
      for (std::uint32_t n = pick(3); n > 0; --n) t.top.push_back({9, real()});
    }
    return v;
  }
  step_plan plan() {
    step_plan p{pick(9), random_(), numbers<slot_id>(), {}, {}, {}};
    for (std::uint32_t n = pick(3); n > 0; --n)
      p.starts.push_back({pick(9), random_(), sampling(), pick(99), pick(1), numbers<token_id>(),
                          numbers<token_id>()});
    for (std::uint32_t n = pick(3); n > 0; --n)
      p.blocks.push_back({pick(9), pick(1), numbers<block_id>()});
    for (std::uint32_t n = pick(5); n > 0; --n)
      p.sequences.push_back({pick(9), pick(999), pick(3), numbers<token_id>(), pick(2),
                             pick(1) != 0, numbers<token_id>()});
    return p;
  }
  step_result step() {
    step_result r{pick(9), random_(), {}, pick(999)};
    for (std::uint32_t n = pick(4); n > 0; --n)
      r.sequences.push_back({pick(9), tokens(), tokens()});
    return r;
  }
  generate_request request() {
    return {random_(), numbers<token_id>(), sampling(), -3, text(), pick(3)};
  }
  token_batch batch() {
    token_batch b;
    for (std::uint32_t n = pick(3); n > 0; --n) {
      token_event e{random_(), tokens(),
                    tokens(),  static_cast<finish_reason>(pick(4)),
                    {},        {pick(9), pick(9), pick(9)},
                    text()};
      if (pick(1) != 0) e.stop_token = static_cast<token_id>(pick(99));
      b.tokens.push_back(e);
    }
    for (std::uint32_t n = pick(2); n > 0; --n)
      b.rejected.push_back({random_(), {errc::queue_full, text(), text()}});
    return b;
  }

 private:
  std::mt19937_64 random_;
};

template <class Decode>
void torture(const std::string& good, Decode decode, std::mt19937_64& random) {
  REQUIRE(decode(good).has_value());
  REQUIRE(encode(*decode(good)) == good);
  for (std::size_t n = 0; n < good.size(); ++n) CHECK_FALSE(decode(good.substr(0, n)).has_value());
  CHECK_FALSE(decode(good + '\0').has_value());
  for (int i = 0; i < 40; ++i) {
    std::string bad = good;
    for (std::uint64_t flips = 1 + random() % 3; flips > 0; --flips)
      bad[random() % bad.size()] = static_cast<char>(random());
    const auto value = decode(bad);
    if (!value) CHECK(value.error().code == errc::mismatch);
  }
}

}  // namespace

TEST_CASE("a plan has the bytes that the format says") {
  step_plan p{3, 258, {5}, {}, {{1, 0, {7}}}, {}};
  p.sequences.push_back({1, 9, 1, {}, 1, true, {}});
  p.sequences.push_back({2, 0, 2, {10, 11}, 0, false, {}});
  const auto v = static_cast<char>(protocol_version);
  const std::string expected =
      std::string{1, v, 0, 0, 0} + std::string{3, 0, 0, 0} +
      std::string{2, 1, 0, 0, 0, 0, 0, 0} +  // step
      std::string{1, 0, 0, 0, 5, 0, 0, 0} +  // releases
      std::string{0, 0, 0, 0} +              // starts
      std::string{1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0} +
      std::string{2, 0, 0, 0} +                 // sequences
      std::string{7, 1, 0, 0, 0, 9, 0, 0, 0} +  // one query, row, draw
      std::string{8, 2, 0, 0, 0, 0, 0,  0, 0, 2, 0,  0, 0, 0, 0,
                  0, 0, 2, 0, 0, 0, 10, 0, 0, 0, 11, 0, 0, 0};
  CHECK(encode(p) == expected);
}

TEST_CASE("blobs survive the way there and back, and damage is refused") {
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    CAPTURE(seed);
    inventor invent(seed);
    std::mt19937_64 random(seed);
    torture(encode(invent.plan()), decode_plan, random);
    torture(encode(invent.step()), decode_result, random);
    torture(encode(invent.request()), decode_request, random);
    torture(encode(invent.batch()), decode_batch, random);
  }
}

TEST_CASE("floats that a text or a struct would lose arrive bit for bit") {
  generate_request r;
  r.prompt = {1};
  r.sampling.temperature = -0.0F;
  r.sampling.top_p = std::numeric_limits<float>::infinity();
  r.sampling.min_p = std::numeric_limits<float>::quiet_NaN();
  r.sampling.presence_penalty = std::numeric_limits<float>::denorm_min();
  const auto back = decode_request(encode(r));
  REQUIRE(back);
  CHECK(std::signbit(back->sampling.temperature));
  CHECK(std::isinf(back->sampling.top_p));
  CHECK(std::isnan(back->sampling.min_p));
  CHECK(back->sampling.presence_penalty == std::numeric_limits<float>::denorm_min());
}

TEST_CASE("a count larger than the bytes behind it allocates nothing") {
  std::string bytes = encode(step_plan{});
  for (std::size_t at = 17; at + 4 <= bytes.size(); ++at) {
    std::string bad = bytes;
    bad.replace(at, 4, "\xff\xff\xff\x7f");
    CHECK_FALSE(decode_plan(bad).has_value());
  }
}

TEST_CASE("blobs of another kind or protocol are refused by name") {
  const std::string plan = encode(step_plan{});
  CHECK(decode_result(plan).error().message.find("step result") != std::string::npos);
  std::string other = plan;
  other[1] = static_cast<char>(protocol_version + 1);
  CHECK(decode_plan(other).error().message.find("protocol") != std::string::npos);
}

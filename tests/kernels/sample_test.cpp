// SPDX-License-Identifier: Apache-2.0
// The sampler's rules one by one: greedy, penalties, min_tokens, log-probabilities, hostile logits,
// last tokens. How draws are distributed: sample_distribution_test.cpp.
#include "tests/kernels/draw.hpp"
#include "tests/kernels/support.hpp"
#include "tests/kernels/thread_ranks.hpp"

using namespace dinfer;
using namespace dinfer::kernels;
using namespace dinfer::tests;

namespace {

sampling_params greedy() {
  sampling_params p;
  p.temperature = 0;
  return p;
}

sampled_token draw(device& d, sampler& s, const std::vector<float>& logits, const sample_row& row) {
  const auto whole = static_cast<std::int64_t>(logits.size());
  return draw_rows(d, s, logits, {&row, 1}, {&whole, 1})[0];
}

std::vector<double> log_softmax(const std::vector<float>& x) {
  double peak = -1e300, sum = 0;
  for (const auto v : x) peak = std::max(peak, static_cast<double>(v));
  for (const auto v : x) sum += std::exp(static_cast<double>(v) - peak);
  std::vector<double> out;
  for (const auto v : x) out.push_back(static_cast<double>(v) - peak - std::log(sum));
  return out;
}

}  // namespace

TEST_CASE("greedy takes the largest logit, the lowest id among equals") {
  const auto d = open_cpu(2);
  const auto s = d->ops().make_sampler(4, 40);
  s->start(1, greedy(), {});
  std::vector<float> logits(40, -5);
  logits[7] = logits[23] = logits[39] = 2;
  CHECK(draw(*d, *s, logits, {1, 0, -1}).token == 7);
  logits[38] = 2.5F;
  CHECK(draw(*d, *s, logits, {1, 0, -1}).token == 38);
}

TEST_CASE("logits that are not numbers never win, and a row without any gives token 0") {
  const auto d = open_cpu(1);
  const float inf = std::numeric_limits<float>::infinity();
  auto random = greedy();
  random.temperature = 0.7F;
  auto filtered = random;
  filtered.top_k = 5;
  filtered.top_p = 0.9F;
  filtered.min_p = 0.01F;
  auto nucleus = random;
  nucleus.top_p = 0.5F;
  auto logprobs = filtered;
  logprobs.logprobs = 3;
  for (const auto& params : {greedy(), random, filtered, nucleus, logprobs}) {
    const auto s = d->ops().make_sampler(1, 20);
    s->start(0, params, {});
    std::vector<float> logits(20, poison);
    CHECK(draw(*d, *s, logits, {0, 1, -1}).token == 0);
    std::fill(logits.begin(), logits.end(), -inf);
    CHECK(draw(*d, *s, logits, {0, 1, -1}).token == 0);
    std::fill(logits.begin(), logits.end(), poison);
    logits[13] = -3;
    CHECK(draw(*d, *s, logits, {0, 2, -1}).token == 13);
    logits[4] = inf;
    const auto drawn = draw(*d, *s, logits, {0, 3, -1});
    CHECK(drawn.token == 4);
    if (params.logprobs >= 0) CHECK(drawn.logprob == drawn.logprob);
    for (const auto& t : drawn.top) CHECK(t.logprob == t.logprob);
    std::fill(logits.begin(), logits.end(), inf);
    const auto any = draw(*d, *s, logits, {0, 4, -1}).token;
    CHECK((any >= 0 && any < 20));
  }
}

TEST_CASE("extreme temperatures and filters draw something sane") {
  const auto d = open_cpu(1);
  const auto s = d->ops().make_sampler(1, 30);
  std::vector<float> logits(30, 0);
  logits[11] = 1;
  for (const float temperature : {1e-30F, 1e-6F, 0.01F}) {
    for (const int filter : {0, 1, 2, 3}) {
      sampling_params p;
      p.temperature = temperature;
      if (filter == 1) p.top_k = 1000;
      if (filter == 2) p.top_p = 1e-9F;
      if (filter == 3) p.min_p = 0.999F;
      s->start(0, p, {});
      CHECK(draw(*d, *s, logits, {0, 3, -1}).token == 11);
    }
  }
}

TEST_CASE("bias and penalties change the greedy choice as their formulas say") {
  const auto d = open_cpu(1);
  const auto s = d->ops().make_sampler(1, 6);
  const std::vector<float> logits{1.0F, 2.0F, 3.0F, -1.0F, 0.5F, 2.9F};
  auto p = greedy();
  p.logit_biases = {{0, 2.5F}, {2, -0.05F}, {99, 5}};
  s->start(0, p, {});
  CHECK(draw(*d, *s, logits, {0, 0, -1}).token == 0);

  p = greedy();
  p.repetition_penalty = 1.5F;  // 3 -> 2; the unseen 2.9 wins
  s->start(0, p, {});
  s->observe(0, std::vector<token_id>{2, 2}, false);
  CHECK(draw(*d, *s, logits, {0, 0, -1}).token == 5);  // now counted: 2.9 -> 1.93
  CHECK(draw(*d, *s, logits, {0, 0, -1}).token ==
        1);  // 2 by itself ties with 3 / 1.5: the lower id
  CHECK(draw(*d, *s, logits, {0, 0, -1}).token == 2);

  p = greedy();
  p.presence_penalty = 0.2F;
  s->start(0, p, {});
  s->observe(0, std::vector<token_id>{2}, false);  // prompt tokens are not punished for presence
  CHECK(draw(*d, *s, logits, {0, 0, -1}).token == 2);
  CHECK(draw(*d, *s, logits, {0, 0, -1}).token == 5);

  p = greedy();
  p.frequency_penalty = 0.06F;
  s->start(0, p, {});
  s->observe(0, std::vector<token_id>{2}, true);
  CHECK(draw(*d, *s, logits, {0, 0, -1}).token == 2);  // 2.94
  CHECK(draw(*d, *s, logits, {0, 0, -1}).token == 5);  // 2.88 against 2.9

  p = greedy();
  p.repetition_penalty = 2;  // negative logits grow more so
  p.logprobs = 6;
  s->start(0, p, {});
  s->observe(0, std::vector<token_id>{3}, false);
  const auto right = log_softmax({1.0F, 2.0F, 3.0F, -2.0F, 0.5F, 2.9F});
  for (const auto& t : draw(*d, *s, logits, {0, 0, -1}).top) {
    CHECK(t.logprob == Approx(right[static_cast<std::size_t>(t.token)]).margin(1e-5));
  }
}

TEST_CASE("the smallest repetition penalty leaves log-probabilities numbers") {
  const auto d = open_cpu(1);
  const auto s = d->ops().make_sampler(1, 6);
  auto p = greedy();
  p.repetition_penalty = 1e-44F;
  p.logprobs = 6;
  s->start(0, p, {});
  s->observe(0, std::vector<token_id>{1, 2}, false);
  const auto drawn = draw(*d, *s, {1.0F, 2.0F, 3.0F, -1.0F, 0.5F, 2.9F}, {0, 0, -1});
  CHECK(drawn.token == 1);  // both are as large as can be
  CHECK(std::isfinite(drawn.logprob));
  for (const auto& t : drawn.top) CHECK(std::isfinite(t.logprob));
}

TEST_CASE("a slot that is taken anew forgets") {
  const auto d = open_cpu(1);
  const auto s = d->ops().make_sampler(1, 3);
  auto p = greedy();
  p.presence_penalty = 2;
  s->start(0, p, {});
  CHECK(draw(*d, *s, {1, 0.5F, 0}, {0, 0, -1}).token == 0);
  CHECK(draw(*d, *s, {1, 0.5F, 0}, {0, 0, -1}).token == 1);
  s->start(0, p, {});
  CHECK(draw(*d, *s, {1, 0.5F, 0}, {0, 0, -1}).token == 0);
}

TEST_CASE("no stop token is drawn before min_tokens output tokens") {
  const auto d = open_cpu(1);
  const auto s = d->ops().make_sampler(1, 8);
  auto p = greedy();
  p.min_tokens = 3;
  const std::vector<token_id> stops{6, 2};
  s->start(0, p, stops);
  s->observe(0, std::vector<token_id>{1, 1, 1, 1}, false);  // prompt does not count
  s->observe(0, std::vector<token_id>{1}, true);
  const std::vector<float> logits{0, 1, 9, 2, 3, 4, 8, 5};
  CHECK(draw(*d, *s, logits, {0, 0, -1}).token == 7);
  CHECK(draw(*d, *s, logits, {0, 1, -1}).token == 7);
  CHECK(draw(*d, *s, logits, {0, 2, -1}).token == 2);
}

TEST_CASE("log-probabilities are those of float64, the best first, ties by id") {
  random_numbers random(41);
  const auto d = open_cpu(2);
  const std::int64_t vocabulary = 5000;
  const auto s = d->ops().make_sampler(2, vocabulary);
  sampling_params p;
  p.temperature = 0.5F;  // comes after
  p.top_k = 3;
  p.logprobs = 20;
  p.prompt_logprobs = 4;
  p.logit_biases = {{17, 3.5F}};
  s->start(1, p, {});
  for (int round = 0; round < 20; ++round) {
    auto logits = random.floats(vocabulary, -10, 10);
    logits[100] = logits[50] = 12;
    auto biased = logits;
    biased[17] += 3.5F;
    const auto right = log_softmax(biased);
    const auto drawn = draw(*d, *s, logits, {1, round, -1});
    CHECK(drawn.logprob == Approx(right[static_cast<std::size_t>(drawn.token)]).margin(1e-4));
    REQUIRE(drawn.top.size() == 20);
    for (std::size_t i = 0; i < 20; ++i) {
      const auto& t = drawn.top[i];
      CHECK(t.logprob == Approx(right[static_cast<std::size_t>(t.token)]).margin(1e-4));
      if (i > 0) CHECK(drawn.top[i - 1].logprob >= t.logprob);
    }
    const auto first = drawn.top[0].token == 17 ? 1U : 0U;
    CHECK(drawn.top[first].token == 50);
    CHECK(drawn.top[first + 1].token == 100);
    std::int64_t larger = 0;
    for (const auto r : right)
      larger += r > static_cast<double>(drawn.top[19].logprob) + 1e-4 ? 1 : 0;
    CHECK(larger == 19);

    // A target is not drawn; it is told what the model itself says of it.
    const auto raw = log_softmax(logits);
    const auto told = draw(*d, *s, logits, {1, round, 4321});
    CHECK(told.token == 4321);
    CHECK(told.logprob == Approx(raw[4321]).margin(1e-4));
    CHECK(told.top.size() == 4);
  }
}

TEST_CASE("fill_last puts each slot's last token where an id is missing") {
  const auto d = open_cpu(1);
  const auto s = d->ops().make_sampler(3, 4);
  for (std::uint32_t slot = 0; slot < 3; ++slot) s->start(slot, greedy(), {});
  draw(*d, *s, {0, 0, 5, 0}, {2, 0, -1});
  s->set_last(1, 3);
  draw(*d, *s, {9, 0, 0, 0}, {1, 0, 2});  // a target leaves the last token alone
  std::vector<std::int32_t> ids{8, -1, -1, 9}, slots{0, 2, 1, 1};
  s->fill_last(over(ids), over(slots));
  CHECK(ids == std::vector<std::int32_t>{8, 2, 3, 9});
}

TEST_CASE("rows are simple when the best candidate is all they need") {
  const auto d = open_cpu(1);
  const auto s = d->ops().make_sampler(2, 4);
  const auto simple = [&](const sampling_params& p, const std::vector<token_id>& stops = {}) {
    s->start(0, p, stops);
    const std::vector<sample_row> rows{{2, 0, -1}, {0, 0, -1}};  // the first one is padding
    return s->simple(rows);
  };
  const auto with = [](auto change) {
    sampling_params p;
    change(p);
    return p;
  };
  CHECK(simple(greedy()));
  CHECK(simple({}));
  CHECK(simple(with([](auto& p) { p.temperature = 0, p.top_k = 1; })));  // greedy all the same
  CHECK_FALSE(simple(with([](auto& p) { p.top_k = 1; })));
  CHECK_FALSE(simple(with([](auto& p) { p.top_p = 0.5F; })));
  CHECK_FALSE(simple(with([](auto& p) { p.min_p = 0.5F; })));
  CHECK_FALSE(simple(with([](auto& p) { p.logit_biases = {{1, 1}}; })));
  CHECK_FALSE(simple(with([](auto& p) { p.presence_penalty = 1; })));
  CHECK_FALSE(simple(with([](auto& p) { p.logprobs = 0; })));
  CHECK(simple(with([](auto& p) { p.prompt_logprobs = 0; })));
  const sample_row told{0, 0, 3};
  CHECK_FALSE(s->simple({&told, 1}));

  const auto patient = with([](auto& p) { p.min_tokens = 2; });
  CHECK(simple(patient));
  CHECK_FALSE(simple(patient, {3}));
  const sample_row row{0, 0, -1};
  draw(*d, *s, {0, 1, 2, 3}, row);
  CHECK_FALSE(s->simple({&row, 1}));
  draw(*d, *s, {0, 1, 2, 3}, row);
  CHECK(s->simple({&row, 1}));
}

TEST_CASE("what a row did not ask for is left alone, and a short vocabulary ends its candidates") {
  const auto d = open_cpu(1);
  const auto s = d->ops().make_sampler(2, 4);
  auto p = greedy();
  s->start(0, p, {});
  p.logprobs = 6;
  s->start(1, p, {});
  const std::int64_t vocabulary = 4;
  const std::vector<sample_row> rows{{0, 0, -1}, {2, 0, -1}, {1, 0, -1}};
  const std::vector<float> logits{0, 1, 2, 3, 3, 2, 1, 0, 1, 3, -poison, 2};
  const auto drawn = draw_rows(*d, *s, logits, rows, {&vocabulary, 1});
  CHECK(drawn[0].token == 3);
  CHECK(std::isnan(drawn[0].logprob));
  CHECK(drawn[0].top.empty());
  CHECK(std::isnan(drawn[1].logprob));
  CHECK(drawn[2].token == 1);
  REQUIRE(drawn[2].top.size() == 3);
  CHECK(drawn[2].top[0].token == 1);
  CHECK(drawn[2].top[2].token == 0);
}

TEST_CASE("a draw depends on seed and position, not on slot, batch or threads") {
  random_numbers random(42);
  const std::int64_t vocabulary = 3000;
  const auto logits = random.floats(vocabulary, -1, 1);
  sampling_params plain;
  plain.seed = 0xFEEDFACE12345678U;
  auto other = plain;
  other.seed ^= 1ULL << 40;
  auto filtered = plain;
  filtered.top_p = 0.9F;
  const auto one = open_cpu(1);
  const auto two = open_cpu(2);
  const auto alone = one->ops().make_sampler(1, vocabulary);
  const auto together = two->ops().make_sampler(4, vocabulary);
  together->start(3, plain, {});
  together->start(1, other, {});
  together->start(0, filtered, {});
  int differ_by_seed = 0, differ_by_position = 0;
  token_id before = -1;
  for (std::int64_t position = 0; position < 20; ++position) {
    std::vector<float> rows;
    for (int i = 0; i < 3; ++i) rows.insert(rows.end(), logits.begin(), logits.end());
    const std::vector<sample_row> who{{3, position, -1}, {1, position, -1}, {0, position, -1}};
    const auto batch = draw_rows(*two, *together, rows, who, {&vocabulary, 1});
    alone->start(0, plain, {});
    const auto token = draw(*one, *alone, logits, {0, position, -1}).token;
    CHECK(token == batch[0].token);
    differ_by_seed += batch[0].token != batch[1].token ? 1 : 0;
    differ_by_position += token != before ? 1 : 0;
    before = token;
    alone->start(0, filtered, {});
    CHECK(draw(*one, *alone, logits, {0, position, -1}).token == batch[2].token);
  }
  CHECK(differ_by_seed > 15);
  CHECK(differ_by_position > 15);
}

TEST_CASE("three ranks with uneven shards draw what one draws, and all the same") {
  random_numbers random(43);
  const std::int64_t vocabulary = 1000;
  const std::vector<std::int64_t> shards{400, 399, 201};
  sampling_params plain, filtered, penalised = greedy(), told;
  plain.seed = 5;
  filtered.top_k = 50;
  filtered.top_p = 0.8F;
  filtered.seed = 6;
  penalised.frequency_penalty = 1;
  penalised.repetition_penalty = 1.2F;
  penalised.min_tokens = 10;
  told.logprobs = 2;
  told.prompt_logprobs = 2;
  const std::vector<token_id> stops{3, 777};
  const std::vector<sampling_params> simple{greedy(), plain, penalised},
      all{greedy(), plain, penalised, filtered, told};
  for (const auto& params : {simple, all}) {
    const auto rows = static_cast<std::int64_t>(params.size());
    constexpr int steps = 12;
    std::vector<std::vector<float>> logits;
    for (int i = 0; i < steps; ++i) {
      logits.push_back(random.floats(rows * vocabulary, -2, 6));
      logits.back()[250] = logits.back()[650] = 9;  // a tie across ranks, in the greedy row
    }
    const auto run = [&](communicator* tp) {
      const auto d = open_cpu(1);
      const auto s = d->ops().make_sampler(8, vocabulary);
      std::vector<std::vector<sampled_token>> out;
      std::int64_t first = 0, width = vocabulary;
      for (std::int32_t r = 0; tp != nullptr && r < tp->rank(); ++r)
        first += shards[static_cast<std::size_t>(r)];
      if (tp != nullptr) width = shards[static_cast<std::size_t>(tp->rank())];
      for (std::uint32_t i = 0; i < params.size(); ++i) {
        s->start(i, params[i], stops);
        s->observe(i, std::vector<token_id>{250, 8, 900}, false);
      }
      for (int step = 0; step < steps; ++step) {
        std::vector<float> part;
        std::vector<sample_row> who;
        for (std::int64_t r = 0; r < rows; ++r) {
          const auto begin =
              logits[static_cast<std::size_t>(step)].begin() + r * vocabulary + first;
          part.insert(part.end(), begin, begin + width);
          who.push_back({static_cast<std::uint32_t>(r), step, -1});
        }
        if (rows == 5 && step % 2 == 1) who[4].target = 500;
        const std::span<const std::int64_t> one(&vocabulary, 1);
        out.push_back(draw_rows(*d, *s, part, who, tp == nullptr ? one : shards, tp));
      }
      return out;
    };
    const auto right = run(nullptr);
    CHECK(right[0][0].token == 250);
    std::vector<std::vector<std::vector<sampled_token>>> got(3);
    on_ranks(3, [&](communicator& tp) { got[static_cast<std::size_t>(tp.rank())] = run(&tp); });
    for (const auto& ranks : got) {
      for (std::size_t step = 0; step < steps; ++step) {
        for (std::size_t r = 0; r < params.size(); ++r) {
          CHECK(ranks[step][r].token == right[step][r].token);
          CHECK(same_bits({ranks[step][r].logprob}, {right[step][r].logprob}));
          CHECK(ranks[step][r].top.size() == right[step][r].top.size());
        }
      }
    }
  }
}

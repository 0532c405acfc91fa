// SPDX-License-Identifier: Apache-2.0
// The real model: greedy tokens against a float32 reference (tests/golden/smollm2_greedy.json), one
// process against several ranks, and the memory that ranks take.
#include "dinfer/engine.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/model_path.hpp"
#include "tests/support/rank_cluster.hpp"
#include "tests/support/smollm2_answers.hpp"

#include <algorithm>
#include <cmath>

using namespace dinfer;
using namespace dinfer::tests;

namespace {

runtime::runner_options real_model() {
  runtime::runner_options o;
  o.device = "cpu:0";
  o.device_options.activation = kernels::dtype::f32;  // as the reference
  o.model_path = model_path();
  o.max_model_len = 1024;
  o.max_num_seqs = 16;
  o.max_num_batched_tokens = 256;
  o.cache_blocks = 400;
  return o;
}

std::vector<token_id> tokens_of(const std::vector<sampled_token>& drawn) {
  std::vector<token_id> out;
  for (const auto& t : drawn) out.push_back(t.token);
  return out;
}

std::vector<scripted_sequence> scripts(const std::vector<smollm2_answer>& cases) {
  std::vector<scripted_sequence> out;
  for (const auto& c : cases) {
    scripted_sequence s;
    s.prompt = c.prompt;
    s.tokens = static_cast<std::uint32_t>(c.tokens.size());
    s.sampling.temperature = 0;
    s.sampling.logprobs = 0;
    out.push_back(std::move(s));
  }
  return out;
}

}  // namespace

TEST_CASE("greedy tokens of the real model are the reference's", "[model]") {
  const auto cases = smollm2_answers(10);
  rank_cluster cluster(real_model(), 1, {30});
  auto sequences = scripts(cases);
  run_script(cluster, sequences, 16);
  for (std::size_t i = 0; i < cases.size(); ++i) {
    CAPTURE(i);
    REQUIRE(tokens_of(sequences[i].drawn) == cases[i].tokens);
    for (std::size_t t = 0; t < cases[i].tokens.size(); ++t)
      CHECK(sequences[i].drawn[t].logprob == Approx(cases[i].logprobs[t]).margin(1e-3));
  }
}

TEST_CASE("in bytes the real model finds the reference's answers as likely", "[model]") {
  engine_options options;
  options.model_path = model_path();
  options.threads = 2;
  options.max_model_len = 1024;
  auto opened = engine::open(options);
  REQUIRE(opened);
  double off = 0, worst = 0;
  std::size_t count = 0;
  for (const auto& c : smollm2_answers(10)) {
    generate_request request;
    request.id = count + 1;
    request.prompt = c.prompt;
    request.prompt.insert(request.prompt.end(), c.tokens.begin(), c.tokens.end());
    request.sampling.prompt_logprobs = 0;
    request.sampling.max_tokens = 1;
    REQUIRE(opened->submit(request));
    std::vector<sampled_token> told;  // of the second token of the prompt on
    while (opened->busy()) {
      const auto events = opened->step();
      REQUIRE(events);
      for (const auto& e : *events)
        told.insert(told.end(), e.prompt_logprobs.begin(), e.prompt_logprobs.end());
    }
    REQUIRE(told.size() == request.prompt.size() - 1);
    for (std::size_t t = 0; t < c.tokens.size(); ++t, ++count) {
      const auto logprob = static_cast<double>(told[c.prompt.size() - 1 + t].logprob);
      off += logprob - c.logprobs[t];
      worst = std::max(worst, std::abs(logprob - c.logprobs[t]));
    }
  }
  INFO("mean difference " << off / static_cast<double>(count) << ", largest " << worst);
  CHECK(std::abs(off / static_cast<double>(count)) < 0.05);
  CHECK(worst > 1e-4);  // the bytes are used
  CHECK(worst < 1);
}

TEST_CASE("ranks of the real model draw the tokens of one process in its memory", "[model]") {
  const auto cases = smollm2_answers(2);
  rank_cluster one(real_model(), 1, {30});
  auto expected = scripts(cases);
  run_script(one, expected, 0);
  const std::uint64_t whole = one.runner(0).report().weight_bytes;

  const auto stages = GENERATE(std::vector<std::uint32_t>{30}, std::vector<std::uint32_t>{16, 14});
  rank_cluster many(real_model(), 3, stages);
  auto sequences = scripts(cases);
  run_script(many, sequences, 7);
  std::uint64_t held = 0, replicated = 0;
  for (std::size_t i = 0; i < many.size(); ++i) {
    held += many.runner(i).report().weight_bytes;
    replicated += many.runner(i).report().replicated_bytes;
  }
  for (std::size_t i = 0; i < cases.size(); ++i)
    CHECK(tokens_of(sequences[i].drawn) == tokens_of(expected[i].drawn));
  if (stages.size() == 1)
    CHECK(static_cast<double>(held) <= 1.05 * static_cast<double>(whole + replicated));
}

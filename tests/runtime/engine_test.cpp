// SPDX-License-Identifier: Apache-2.0
// The engine without actors: whole outputs, single steps, refusals.
#include "dinfer/engine.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/tiny_llama.hpp"

#include <algorithm>
#include <map>

using namespace dinfer;
using namespace dinfer::tests;

namespace {

engine_options options_for(const tiny_llama& model) {
  engine_options o;
  o.model_path = model.path();
  o.threads = 1;
  o.max_num_seqs = 8;
  o.max_num_batched_tokens = 32;
  return o;
}

engine must_open(const engine_options& options) {
  auto e = engine::open(options);
  if (!e) FAIL(e.error().message);
  return std::move(*e);
}

sampling_params greedy(std::uint32_t tokens) {
  sampling_params p;
  p.temperature = 0;
  p.max_tokens = tokens;
  p.ignore_eos = true;
  return p;
}

std::vector<std::vector<token_id>> some_prompts(int count) {
  std::vector<std::vector<token_id>> prompts(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i)
    for (int j = 0; j < 5 + 3 * i; ++j)
      prompts[static_cast<std::size_t>(i)].push_back((j < 8 ? j : i * j) * 13 % 97);
  return prompts;
}

std::vector<token_id> expected(const tiny_llama& model, const std::vector<token_id>& prompt,
                               int count) {
  const auto all = model.greedy(prompt, count);
  return {all.begin() + static_cast<std::ptrdiff_t>(prompt.size()), all.end()};
}

}  // namespace

TEST_CASE("the engine generates what the reference does, however small its cache") {
  const tiny_llama model({});
  auto options = options_for(model);
  // Blocks of 16 tokens take 4 layers x 2 x 3 heads x 16 x 16 floats; ten of them and the null
  // block hold two or three of the longer sequences.
  if (GENERATE(false, true)) options.cache_bytes = 11 * 4 * 2 * 3 * 16 * 16 * 4;
  options.prefix_caching = GENERATE(false, true);
  engine e = must_open(options);
  const auto prompts = some_prompts(8);
  for (int round = 0; round < 2; ++round) {
    const auto outputs = e.generate(prompts, greedy(20));
    if (!outputs) FAIL(outputs.error().message);
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      CHECK((*outputs)[i].size() == 20);
      CHECK(model.greedy_after(prompts[i], (*outputs)[i]));
    }
  }
}

TEST_CASE("tokens come step by step, and a cancelled request ends") {
  const tiny_llama model({});
  engine e = must_open(options_for(model));
  const auto prompts = some_prompts(2);
  for (request_id id : {10, 11}) {
    generate_request r;
    r.id = id;
    r.prompt = prompts[id - 10];
    r.sampling = greedy(id == 10 ? 6 : 100);
    REQUIRE(e.submit(r));
  }
  std::map<request_id, std::vector<token_id>> tokens;
  std::map<request_id, finish_reason> ends;
  for (int steps = 0; e.busy(); ++steps) {
    REQUIRE(steps < 100);
    if (tokens[11].size() >= 9) e.cancel(11);
    const auto events = e.step();
    REQUIRE(events);
    for (const auto& event : *events) {
      for (const auto& t : event.tokens) tokens[event.id].push_back(t.token);
      if (event.finish != finish_reason::none) ends[event.id] = event.finish;
    }
  }
  CHECK(tokens[10] == expected(model, prompts[0], 6));
  CHECK(ends[10] == finish_reason::length);
  CHECK(ends[11] == finish_reason::abort);
  const auto all = expected(model, prompts[1], 12);
  REQUIRE(tokens[11].size() >= 9);
  CHECK(std::equal(tokens[11].begin(), tokens[11].end(), all.begin()));
  CHECK(e.step().value().empty());
}

TEST_CASE("what the engine cannot do it says and goes on") {
  const tiny_llama model({});
  engine e = must_open(options_for(model));
  auto prompts = some_prompts(3);
  const auto good = prompts;
  prompts.push_back({1000});
  const auto outputs = e.generate(prompts, greedy(4));
  REQUIRE_FALSE(outputs);
  CHECK(outputs.error().code == errc::invalid_argument);
  CHECK_FALSE(e.busy());
  CHECK(e.generate(good, greedy(4)).value()[2] == expected(model, good[2], 4));

  auto options = options_for(model);
  options.max_model_len = 1'000'000;
  CHECK(engine::open(options).error().subject == "max_model_len");
  options = options_for(model);
  options.model_path += ".missing";
  CHECK(engine::open(options).error().code == errc::not_found);
}

TEST_CASE("texts go in and come out") {
  const tiny_llama model({});
  engine e = must_open(options_for(model));
  const std::vector<std::string> prompts{"Hello,world", "abc"};
  const auto texts = e.generate(prompts, greedy(7));
  if (!texts) FAIL(texts.error().message);
  const auto tokens = e.encode(prompts[1]);
  CHECK(tokens == std::vector<token_id>{'a' - '!' + 1, 'b' - '!' + 1, 'c' - '!' + 1});
  CHECK((*texts)[1] == e.decode(expected(model, tokens, 7)));
}

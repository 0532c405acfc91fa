// SPDX-License-Identifier: Apache-2.0
// A model over any number of ranks says what a naive forward pass in double precision says, and the
// same bits whatever the chunks and batches.
#include "dinfer/engine.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/rank_cluster.hpp"
#include "tests/support/tiny_llama.hpp"

#include <algorithm>
#include <cmath>

using namespace dinfer;
using namespace dinfer::tests;

namespace {

// f32 against double over four layers: observed below 1e-5.
constexpr double logprob_tolerance = 1e-4;

runtime::runner_options options_for(const tiny_llama& model) {
  runtime::runner_options o;
  o.device = "cpu:0";
  o.device_options.activation = kernels::dtype::f32;
  o.model_path = model.path();
  o.max_num_seqs = 4;
  o.max_num_batched_tokens = 64;
  o.block_size = 4;
  o.cache_blocks = 100;
  return o;
}

std::vector<token_id> some_prompt(int length, int salt) {
  std::vector<token_id> tokens;
  for (int i = 0; i < length; ++i) tokens.push_back((i * i * 7 + i * salt + salt) % 97);
  return tokens;
}

std::vector<scripted_sequence> three_prompts() {
  std::vector<scripted_sequence> all(3);
  const int lengths[] = {19, 1, 8};
  for (int i = 0; i < 3; ++i) {
    auto& s = all[static_cast<std::size_t>(i)];
    s.prompt = some_prompt(lengths[i], i + 3);
    s.sampling.temperature = 0;
    s.sampling.logprobs = 3;
    s.sampling.prompt_logprobs = 2;
    s.tokens = 6;
    s.score_prompt = true;
  }
  return all;
}

std::vector<token_id> tokens_of(const std::vector<sampled_token>& drawn) {
  std::vector<token_id> out;
  for (const auto& t : drawn) out.push_back(t.token);
  return out;
}

// Everything that a sequence was told agrees with the reference.
void check_against(const tiny_llama& model, const scripted_sequence& s) {
  const auto expected = model.greedy(s.prompt, static_cast<int>(s.tokens));
  const auto split = expected.begin() + static_cast<std::ptrdiff_t>(s.prompt.size());
  CHECK(tokens_of(s.drawn) == std::vector<token_id>(split, expected.end()));
  const auto logits = model.logits(expected);
  const auto expect_near = [&](const sampled_token& t, std::size_t position) {
    const auto reference = log_softmax(logits[position - 1]);
    CHECK(t.token == expected[position]);
    CHECK(std::abs(t.logprob - reference[static_cast<std::size_t>(t.token)]) < logprob_tolerance);
    for (const auto& top : t.top)
      CHECK(std::abs(top.logprob - reference[static_cast<std::size_t>(top.token)]) <
            logprob_tolerance);
  };
  if (s.score_prompt) {
    REQUIRE(s.scores.size() == s.prompt.size() - 1);
    for (std::size_t i = 0; i < s.scores.size(); ++i) expect_near(s.scores[i], i + 1);
  }
  REQUIRE(s.drawn.size() == s.tokens);
  for (std::size_t i = 0; i < s.drawn.size(); ++i) expect_near(s.drawn[i], s.prompt.size() + i);
}

void check_same_bits(const std::vector<scripted_sequence>& a,
                     const std::vector<scripted_sequence>& b) {
  for (std::size_t i = 0; i < a.size(); ++i) {
    const auto same = [](const sampled_token& x, const sampled_token& y) {
      return x.token == y.token && x.logprob == y.logprob;
    };
    CHECK(std::ranges::equal(a[i].drawn, b[i].drawn, same));
    CHECK(std::ranges::equal(a[i].scores, b[i].scores, same));
  }
}

}  // namespace

TEST_CASE("one rank computes what the reference computes") {
  const bool tied = GENERATE(true, false);
  tiny_llama_options o;
  o.tied = tied;
  const tiny_llama model(o);
  rank_cluster cluster(options_for(model), 1, {4});
  auto sequences = three_prompts();
  run_script(cluster, sequences, 0);
  for (const auto& s : sequences) check_against(model, s);
}

TEST_CASE("chunks of a prompt do not change a bit") {
  const tiny_llama model({});
  rank_cluster cluster(options_for(model), 1, {4});
  auto whole = three_prompts();
  run_script(cluster, whole, 0);
  for (const std::uint32_t chunk : {1U, 3U, 16U}) {
    auto cut = three_prompts();
    run_script(cluster, cut, chunk);
    check_same_bits(whole, cut);
  }
}

TEST_CASE("company in the batch does not change a bit") {
  const tiny_llama model({});
  rank_cluster cluster(options_for(model), 1, {4});
  auto together = three_prompts();
  run_script(cluster, together, 5);
  for (const auto& s : three_prompts()) {
    std::vector<scripted_sequence> alone{s};
    run_script(cluster, alone, 0);
    const auto same = [&](const auto& other) { return other.prompt == s.prompt; };
    check_same_bits(alone, {*std::ranges::find_if(together, same)});
  }
}

TEST_CASE("tensor and pipeline parallel ranks agree with the reference") {
  const tiny_llama model({});
  struct grid {
    std::uint32_t tp;
    std::vector<std::uint32_t> stages;
  };
  const grid g = GENERATE(grid{2, {4}}, grid{3, {4}}, grid{5, {4}}, grid{1, {3, 1}},
                          grid{1, {1, 1, 1, 1}}, grid{3, {2, 2}}, grid{2, {1, 2, 1}});
  CAPTURE(g.tp, g.stages);
  rank_cluster cluster(options_for(model), g.tp, g.stages);
  auto sequences = three_prompts();
  run_script(cluster, sequences, 3);
  for (const auto& s : sequences) check_against(model, s);
}

TEST_CASE("quantised weights compute what the same weights compute dequantised") {
  tiny_llama_options o;
  o.matrices = GENERATE(kernels::dtype::q8_0, kernels::dtype::q4_1);
  o.head_dim = 32;
  o.hidden = 96;
  const tiny_llama model(o);
  auto options = options_for(model);
  auto quantised = three_prompts();
  {
    rank_cluster cluster(options, 1, {4});
    run_script(cluster, quantised, 0);
  }
  for (const auto& s : quantised) check_against(model, s);
  options.dequantize = true;
  rank_cluster cluster(options, 1, {4});
  auto expanded = three_prompts();
  run_script(cluster, expanded, 0);
  check_same_bits(quantised, expanded);
}

TEST_CASE("8-bit floats are refused where the device has none") {
  const tiny_llama model(tiny_llama_options{});
  const auto refusal = [&](auto choose) {
    engine_options options;
    options.model_path = model.path();
    choose(options);
    const auto refused = engine::open(options);
    REQUIRE(!refused);
    CHECK(refused.error().code == errc::unsupported);
    CHECK(refused.error().message.find("8.9") != std::string::npos);
    return refused.error();
  };
  const auto weights = refusal([](auto& o) { o.quantization = quantization_choice::fp8; });
  CHECK(weights.message.find("model.quantization") != std::string::npos);
  const auto cache = refusal([](auto& o) { o.kv_cache_dtype = cache_dtype_choice::fp8; });
  CHECK(cache.subject == "cache.kv_cache_dtype");
  CHECK(cache.message.find("cache.kv_cache_dtype") != std::string::npos);
}

// Four ranks cut attention's output and, having two super-blocks for four, the MLP inside of them.
TEST_CASE("super-blocks are cut where the ranks want it") {
  tiny_llama_options o;
  o.matrices = kernels::dtype::q4_k;
  o.layers = 2;
  o.hidden = 256;
  o.heads = 4;
  o.kv_heads = 2;
  o.head_dim = 64;
  o.mlp = 512;
  const tiny_llama model(o);
  for (const std::uint32_t tp : {1U, 2U, 4U}) {
    CAPTURE(tp);
    rank_cluster cluster(options_for(model), tp, {2});
    auto sequences = three_prompts();
    run_script(cluster, sequences, 3);
    for (const auto& s : sequences) check_against(model, s);
  }
}

TEST_CASE("sampled tokens do not depend on the number of ranks") {
  const tiny_llama model({});
  auto draw = [&](std::uint32_t tp, const std::vector<std::uint32_t>& stages) {
    rank_cluster cluster(options_for(model), tp, stages);
    auto sequences = three_prompts();
    for (auto& s : sequences) {
      s.sampling = {};
      s.sampling.temperature = 0.9F;
      s.sampling.top_p = 0.9F;
      s.sampling.seed = 11;
      s.sampling.presence_penalty = 0.5F;
      s.score_prompt = false;
      s.tokens = 12;
    }
    run_script(cluster, sequences, 3);
    std::vector<std::vector<token_id>> out;
    for (const auto& s : sequences) out.push_back(tokens_of(s.drawn));
    return out;
  };
  const auto one = draw(1, {4});
  CHECK(draw(3, {4}) == one);
  CHECK(draw(2, {1, 3}) == one);
}

TEST_CASE("a sequence that comes back is penalised as if it had never left") {
  const tiny_llama model({});
  const auto stages = GENERATE(std::vector<std::uint32_t>{4}, std::vector<std::uint32_t>{2, 2});
  rank_cluster cluster(options_for(model), 1, stages);
  std::vector<scripted_sequence> whole(1);
  whole[0].prompt = some_prompt(9, 5);
  whole[0].sampling.temperature = 0.8F;
  whole[0].sampling.seed = 3;
  const bool penalised = GENERATE(true, false);
  if (penalised) {
    whole[0].sampling.repetition_penalty = 1.3F;
    whole[0].sampling.frequency_penalty = 0.7F;
  }
  whole[0].sampling.min_tokens = 12;
  for (token_id t = 0; t < 60; ++t) whole[0].stop_tokens.push_back(t);
  whole[0].tokens = 24;
  run_script(cluster, whole, 0);

  // The first seven outputs are known to the host; eight tokens may be in the prefix cache.
  const bool cached = GENERATE(false, true);
  auto resumed = whole;
  resumed[0].drawn.clear();
  resumed[0].outputs = tokens_of(whole[0].drawn);
  resumed[0].outputs.resize(7);
  resumed[0].tokens = 17;
  resumed[0].cached = cached ? 8 : 0;
  run_script(cluster, resumed, 6);
  const auto all = tokens_of(whole[0].drawn);
  CHECK(tokens_of(resumed[0].drawn) == std::vector<token_id>(all.begin() + 7, all.end()));
}

TEST_CASE("a bad plan is an error of every rank, and new connections heal it") {
  const tiny_llama model({});
  rank_cluster cluster(options_for(model), 2, {2, 2});
  auto sequences = three_prompts();
  run_script(cluster, sequences, 3);
  const auto good = sequences;

  const auto bad = GENERATE(0, 1, 2);
  runtime::step_plan plan;
  plan.epoch = cluster.epoch();
  plan.step = 1000;
  if (bad == 1) plan.epoch += 1;
  if (bad == 2) {
    cluster.restart();
    plan.epoch = cluster.epoch();
    plan.step = 1;
    plan.releases = {77};
  }
  cluster.push(plan);
  cluster.push(plan);  // says nothing more
  for (std::size_t i = 0; i < cluster.size(); ++i) {
    const auto r = cluster.pop();
    REQUIRE_FALSE(r);
    CHECK(r.error().code == (bad == 2 ? errc::invalid_argument : errc::mismatch));
    CHECK_THAT(r.error().message, Catch::Contains("rank "));
  }
  cluster.reconnect();
  sequences = three_prompts();
  run_script(cluster, sequences, 3);
  check_same_bits(good, sequences);
}

TEST_CASE("a rank whose peer stays away says whom it waited for") {
  const tiny_llama model({});
  auto options = options_for(model);
  options.collective_timeout = std::chrono::milliseconds(300);
  const bool piped = GENERATE(false, true);
  rank_cluster cluster(options, piped ? 1 : 2, piped ? std::vector{2U, 2U} : std::vector{4U});
  runtime::step_plan plan;
  plan.epoch = cluster.epoch();
  plan.step = 1;
  plan.starts.emplace_back();
  plan.blocks.push_back({0, 0, {1}});
  plan.sequences.emplace_back().tokens = {5};
  cluster.push_to(1, plan);
  const auto r = cluster.pop();
  REQUIRE_FALSE(r);
  CHECK((r.error().code == errc::timeout || r.error().code == errc::peer_lost));
  CHECK_THAT(r.error().message,
             Catch::Contains("rank 1 (stage") && Catch::Contains("waited for rank 0"));
}

TEST_CASE("the cache is as large as asked, as memory allows, or as could be used") {
  const tiny_llama model({});
  const auto blocks_of = [&](auto change) {
    auto options = options_for(model);
    options.cache_blocks = 0;
    change(options);
    rank_cluster cluster(options, 1, {4});
    return cluster.cache().blocks.front();
  };
  CHECK(blocks_of([](auto& o) { o.cache_blocks = 55; }) == 55);
  // Four layers, keys and values, three heads of 16 floats, four tokens: 6144 bytes.
  CHECK(blocks_of([](auto& o) { o.cache_bytes = 6144 * 10; }) == 9);
  // Four sequences of 128 tokens can never use more than 128 blocks of four.
  CHECK(blocks_of([](auto&) {}) == 128);
}

TEST_CASE("options that do not fit the model are refused") {
  const tiny_llama model({});
  auto options = options_for(model);
  SECTION("a longer context than trained") {
    options.max_model_len = 129;
    const auto made = runtime::make_model_runner(options, nullptr);
    REQUIRE_FALSE(made);
    CHECK(made.error().subject == "max_model_len");
  }
  SECTION("a layout of another model") {
    const auto made = runtime::make_model_runner(options, nullptr);
    REQUIRE_FALSE(made);
    CHECK(made.error().code == errc::mismatch);
  }
  SECTION("a file that is not there") {
    options.model_path = "/nowhere/model.gguf";
    const auto made = runtime::make_model_runner(options, nullptr);
    REQUIRE_FALSE(made);
    CHECK(made.error().code == errc::not_found);
  }
}

// SPDX-License-Identifier: Apache-2.0
// One model on two GPUs: the tokens of one GPU, whichever way it is cut; recorded steps
// are plain ones; an abort wakes everyone, and new connections serve again.
#include "tests/kernels/cuda/gpu_support.hpp"
#include "tests/support/rank_cluster.hpp"
#include "tests/support/temporary_folder.hpp"
#include "tests/support/tiny_llama.hpp"

#include <chrono>
#include <string>
#include <thread>

using namespace dinfer;
using namespace dinfer::tests;
using std::chrono_literals::operator""s;
using std::chrono_literals::operator""ms;
using steady = std::chrono::steady_clock;

namespace {

using stages = std::vector<std::uint32_t>;

runtime::runner_options options_for(const tiny_llama& model, kernels::dtype type) {
  runtime::runner_options o;
  o.device = "cuda:0";
  o.device_options.activation = type;
  o.model_path = model.path();
  o.max_num_seqs = 8;
  o.max_num_batched_tokens = 64;
  o.cache_blocks = 64;
  o.collective_timeout = 60s;
  return o;
}

std::vector<token_id> some_prompt(int length, int salt, int vocabulary) {
  std::vector<token_id> tokens;
  for (int i = 0; i < length; ++i) tokens.push_back((i * i * 7 + i * salt + salt) % vocabulary);
  return tokens;
}

enum class wish { greedy, seeded, everything };

// Three prompts of different lengths and, with wish::everything, rows that only whole rows answer.
std::vector<scripted_sequence> prompts_of(const tiny_llama& model, wish what) {
  std::vector<scripted_sequence> all(3);
  const int lengths[] = {19, 1, 8};
  for (int i = 0; i < 3; ++i) {
    auto& s = all[static_cast<std::size_t>(i)];
    s.prompt = some_prompt(lengths[i], i + 3, model.options().vocabulary);
    s.tokens = 24;
    auto& p = s.sampling;
    p.temperature = what == wish::greedy ? 0.0F : 0.8F;
    p.seed = static_cast<std::uint64_t>(40 + i);
    if (what != wish::everything) continue;
    s.score_prompt = true;
    p.prompt_logprobs = 2;
    p.logprobs = 3;
    p.top_k = i == 0 ? 20 : 0;
    p.top_p = i == 1 ? 0.9F : 1.0F;
    p.repetition_penalty = 1.2F;
    p.frequency_penalty = 0.3F;
  }
  return all;
}

std::vector<std::vector<token_id>> tokens_of(const std::vector<scripted_sequence>& sequences) {
  std::vector<std::vector<token_id>> out;
  for (const auto& s : sequences) {
    auto& tokens = out.emplace_back();
    for (const auto& t : s.drawn) tokens.push_back(t.token);
  }
  return out;
}

std::vector<scripted_sequence> run(rank_cluster& cluster, std::vector<scripted_sequence> sequences,
                                   std::uint32_t chunk = 5) {
  run_script(cluster, sequences, chunk);
  return sequences;
}

void check_close(const std::vector<sampled_token>& got, const std::vector<sampled_token>& right) {
  REQUIRE(got.size() == right.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    CHECK(got[i].token == right[i].token);
    CHECK(std::abs(got[i].logprob - right[i].logprob) < 1e-4F);
    REQUIRE(got[i].top.size() == right[i].top.size());
    for (std::size_t k = 0; k < got[i].top.size(); ++k)
      CHECK(std::abs(got[i].top[k].logprob - right[i].top[k].logprob) < 1e-4F);
  }
}

// One step of a plan that no rank has seen, for sequence 0.
runtime::step_plan lone_plan(const rank_cluster& cluster) {
  runtime::step_plan plan;
  plan.epoch = cluster.epoch();
  plan.step = 1;
  plan.starts.emplace_back().prompt_tokens = 1;
  plan.starts.back().sampling.temperature = 0;
  plan.blocks.push_back({0, 0, {1}});
  auto& step = plan.sequences.emplace_back();
  step.query_count = step.logit_rows = 1;
  step.sample = true;
  step.tokens = {5};
  return plan;
}

}  // namespace

TEST_CASE("two GPUs draw the tokens of one, whichever way the model is cut",
          "[gpu][engine][gpus]") {
  if (!two_gpus()) return;
  struct shape {
    int heads, kv_heads, head_dim, hidden, mlp, vocabulary;
  };
  // Heads of 3 and 5 groups and the odd vocabularies do not halve; one KV head is on both ranks.
  const auto s = GENERATE(shape{6, 3, 16, 64, 160, 97}, shape{4, 1, 64, 128, 96, 257},
                          shape{5, 5, 32, 96, 64, 101});
  tiny_llama_options o;
  o.heads = s.heads, o.kv_heads = s.kv_heads, o.head_dim = s.head_dim, o.hidden = s.hidden;
  o.mlp = s.mlp, o.vocabulary = s.vocabulary;
  const tiny_llama model(o);
  const auto options = options_for(model, kernels::dtype::f32);
  std::vector<std::vector<scripted_sequence>> right;
  {
    rank_cluster one(options, 1, {4});
    for (const auto what : {wish::greedy, wish::seeded, wish::everything})
      right.push_back(run(one, prompts_of(model, what)));
  }
  for (const auto& drawn : right[0])
    CHECK(model.greedy_after(drawn.prompt, tokens_of({drawn}).front()));
  struct cut {
    std::uint32_t tp;
    stages layers;
  };
  for (const auto& c : {cut{2, {4}}, cut{1, {2, 2}}, cut{1, {3, 1}}}) {
    CAPTURE(s.heads, c.tp, c.layers);
    rank_cluster two(options, c.tp, c.layers);
    CHECK(tokens_of(run(two, prompts_of(model, wish::greedy))) == tokens_of(right[0]));
    CHECK(tokens_of(run(two, prompts_of(model, wish::seeded), 0)) == tokens_of(right[1]));
    const auto all = run(two, prompts_of(model, wish::everything), 7);
    for (std::size_t i = 0; i < all.size(); ++i) {
      check_close(all[i].drawn, right[2][i].drawn);
      check_close(all[i].scores, right[2][i].scores);
    }
  }
}

TEST_CASE("recorded steps of two GPUs draw the tokens of plain ones", "[gpu][engine][gpus]") {
  if (!two_gpus()) return;
  tiny_llama_options o;
  o.heads = 8, o.kv_heads = 4, o.head_dim = 64, o.hidden = 256, o.mlp = 512, o.vocabulary = 1000;
  const tiny_llama model(o);
  const bool piped = GENERATE(false, true);
  const temporary_folder folder;
  auto options = options_for(model, kernels::dtype::bf16);
  options.device_options.tuning_directory = folder.path("tuning");
  const auto drawn = [&](bool graphs) {
    options.graphs = graphs;
    rank_cluster two(options, piped ? 1 : 2, piped ? stages{2, 2} : stages{4});
    auto all = tokens_of(run(two, prompts_of(model, wish::greedy)));
    for (auto& one : tokens_of(run(two, prompts_of(model, wish::seeded))))
      all.push_back(std::move(one));
    return all;
  };
  (void)drawn(false);  // finds the fastest kernels, which the others take
  CHECK(drawn(true) == drawn(false));
}

TEST_CASE("an abort in the middle of a step wakes two GPUs, and new connections serve again",
          "[gpu][engine][gpus]") {
  if (!two_gpus()) return;
  const tiny_llama model({});
  const bool piped = GENERATE(false, true);
  CAPTURE(piped);
  const auto options = options_for(model, kernels::dtype::f32);
  rank_cluster two(options, piped ? 1 : 2, piped ? stages{2, 2} : stages{4});
  const auto right = tokens_of(run(two, prompts_of(model, wish::greedy)));  // steps are recorded
  for (int round = 0; round < 2; ++round) {
    two.restart();
    two.push_to(piped ? 1 : 0, lone_plan(two));  // waits for the other one
    // Long enough for the step to be launched; if it is not, the answer is the same.
    std::this_thread::sleep_for(300ms);
    const auto begin = steady::now();
    for (std::size_t i = 0; i < two.size(); ++i) two.runner(i).abort();
    const auto said = two.pop();
    const auto waited = steady::now() - begin;
    REQUIRE_FALSE(said);
    INFO(said.error().message);
    CHECK(said.error().code == errc::cancelled);
    CHECK(waited < 2s);
    two.reconnect();
    CHECK(tokens_of(run(two, prompts_of(model, wish::greedy))) == right);
  }
}

TEST_CASE("a GPU whose peer stays away ends with a timeout, and new connections serve again",
          "[gpu][engine][gpus]") {
  if (!two_gpus()) return;
  const tiny_llama model({});
  auto options = options_for(model, kernels::dtype::f32);
  options.collective_timeout = 5s;
  rank_cluster two(options, 2, {4});
  const auto right = tokens_of(run(two, prompts_of(model, wish::greedy)));
  two.restart();
  two.push_to(0, lone_plan(two));
  const auto said = two.pop();
  REQUIRE_FALSE(said);
  CHECK(said.error().code == errc::timeout);
  CHECK_THAT(said.error().message, Catch::Contains("rank 0 (stage 0, tp rank 0): cuda:0") &&
                                       Catch::Contains("waited for rank 1"));
  for (std::size_t i = 0; i < two.size(); ++i) two.runner(i).abort();
  two.reconnect();
  CHECK(tokens_of(run(two, prompts_of(model, wish::greedy))) == right);
}

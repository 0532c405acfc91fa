// SPDX-License-Identifier: Apache-2.0
// The scheduler's own plans on real ranks, several steps ahead of their results: requests that come
// and go, share prefixes and are preempted get the tokens that they would get alone.
#include "runtime/schedule/scheduler.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/rank_cluster.hpp"
#include "tests/support/tiny_llama.hpp"

#include <algorithm>
#include <map>
#include <random>

using namespace dinfer;
using namespace dinfer::tests;

namespace {

runtime::runner_options options_for(const tiny_llama& model, std::uint32_t blocks) {
  runtime::runner_options o;
  o.device = "cpu:0";
  o.model_path = model.path();
  o.max_num_seqs = 5;
  o.max_num_batched_tokens = 12;
  o.block_size = 4;
  o.cache_blocks = blocks;
  return o;
}

runtime::scheduler scheduler_for(const rank_cluster& cluster, const runtime::runner_options& o,
                                 std::uint32_t stages) {
  runtime::scheduler_config c;
  c.max_num_seqs = o.max_num_seqs;
  c.max_num_batched_tokens = o.max_num_batched_tokens;
  c.max_model_len = static_cast<std::uint32_t>(cluster.shape().max_positions);
  c.block_size = cluster.cache().block_size;
  runtime::kv_group_config group;
  group.blocks = cluster.cache().blocks.front();
  c.groups = {group};
  c.stages = stages;
  c.max_in_flight = stages + 1;
  c.eos_tokens = cluster.shape().eos_tokens;
  c.epoch = cluster.epoch();
  return runtime::scheduler(c);
}

std::vector<generate_request> random_requests(int count, std::mt19937& random) {
  std::vector<generate_request> requests;
  for (int i = 0; i < count; ++i) {
    generate_request r;
    r.id = static_cast<request_id>(i) + 1;
    const auto shared = static_cast<int>(random() % 12), own = 1 + static_cast<int>(random() % 12);
    for (int j = 0; j < shared; ++j) r.prompt.push_back(j * 5 % 97);
    for (int j = 0; j < own; ++j) r.prompt.push_back(static_cast<token_id>(random() % 97));
    r.sampling.max_tokens = 1 + static_cast<std::uint32_t>(random() % 12);
    r.sampling.ignore_eos = true;
    r.sampling.seed = random();
    if (random() % 2 == 0) r.sampling.temperature = 0;
    if (random() % 3 == 0) r.sampling.repetition_penalty = 1.2F;
    if (random() % 4 == 0) r.sampling.logprobs = 2;
    if (random() % 4 == 0) r.sampling.prompt_logprobs = 1;
    requests.push_back(std::move(r));
  }
  return requests;
}

struct answer {
  std::vector<token_id> tokens;
  std::vector<float> prompt_logprobs;
  finish_reason finish = finish_reason::none;
};

using answers = std::map<request_id, answer>;

void take(const std::vector<token_event>& events, answers& all) {
  for (const token_event& e : events) {
    answer& a = all[e.id];
    for (const auto& t : e.tokens) a.tokens.push_back(t.token);
    for (const auto& t : e.prompt_logprobs) a.prompt_logprobs.push_back(t.logprob);
    if (e.finish != finish_reason::none) a.finish = e.finish;
  }
}

// Requests arrive one by one; as many plans run ahead as the scheduler gives.
answers serve(rank_cluster& cluster, runtime::scheduler& scheduler,
              std::vector<generate_request> requests) {
  answers all;
  std::size_t next = 0, in_flight = 0;
  for (int round = 0; round < 5000; ++round) {
    if (next < requests.size()) REQUIRE(scheduler.add(requests[next++]));
    while (auto plan = scheduler.plan()) {
      cluster.push(std::move(*plan));
      ++in_flight;
    }
    if (in_flight == 0 && next == requests.size()) break;
    if (in_flight == 0) continue;
    const auto result = cluster.pop();
    if (!result) FAIL(result.error().message);
    --in_flight;
    const auto events = scheduler.apply(*result);
    if (!events) FAIL(events.error().message);
    take(*events, all);
    take(scheduler.take_events(), all);
    scheduler.check_integrity();
  }
  return all;
}

}  // namespace

TEST_CASE("served together or alone, ahead or not, over any ranks: the same tokens") {
  const tiny_llama model({});
  const std::uint32_t seed = 20240607;
  CAPTURE(seed);
  std::mt19937 random(seed);
  const auto requests = random_requests(24, random);

  answers alone;
  {
    const auto options = options_for(model, 100);
    rank_cluster cluster(options, 1, {4});
    auto scheduler = scheduler_for(cluster, options, 1);
    for (const auto& r : requests) alone.merge(serve(cluster, scheduler, {r}));
  }
  for (const auto& r : requests) {
    REQUIRE(alone[r.id].tokens.size() == r.sampling.max_tokens);
    if (!r.sampling.greedy() || r.sampling.penalised()) continue;
    CHECK(model.greedy_after(r.prompt, alone[r.id].tokens));
  }

  struct shape {
    std::uint32_t tp;
    std::vector<std::uint32_t> stages;
    std::uint32_t blocks;  // 14 hold one or two sequences: the others are preempted
  };
  const shape s =
      GENERATE(shape{1, {4}, 100}, shape{1, {4}, 14}, shape{3, {4}, 14}, shape{1, {2, 2}, 14},
               shape{1, {1, 1, 1, 1}, 100}, shape{3, {2, 2}, 14}, shape{2, {1, 2, 1}, 20});
  CAPTURE(s.tp, s.stages, s.blocks);
  const auto options = options_for(model, s.blocks);
  rank_cluster cluster(options, s.tp, s.stages);
  auto scheduler = scheduler_for(cluster, options, static_cast<std::uint32_t>(s.stages.size()));
  auto served = serve(cluster, scheduler, requests);
  for (const auto& r : requests) {
    CAPTURE(r.id);
    CHECK(served[r.id].finish == finish_reason::length);
    CHECK(served[r.id].tokens == alone[r.id].tokens);
    REQUIRE(served[r.id].prompt_logprobs.size() == alone[r.id].prompt_logprobs.size());
    for (std::size_t i = 0; i < served[r.id].prompt_logprobs.size(); ++i)
      CHECK(served[r.id].prompt_logprobs[i] == Approx(alone[r.id].prompt_logprobs[i]).margin(1e-4));
  }
  if (s.blocks == 14) CHECK(scheduler.stats().preemptions > 0);
  CHECK(scheduler.stats().blocks_used == 0);
}

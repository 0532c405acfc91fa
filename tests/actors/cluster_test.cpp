// SPDX-License-Identifier: Apache-2.0
// A whole cluster under the test scheduler: requests are answered with the tokens they have alone,
// and whatever is lost, every request gets exactly one last event.
#include "tests/actors/cluster_fixture.hpp"

namespace dinfer::actors::tests {
namespace {

using Catch::Matchers::Contains;

std::vector<token_id> prompt_of(std::mt19937& random) {
  std::vector<token_id> prompt(1 + random() % 30);
  for (auto& token : prompt) token = static_cast<token_id>(random() % 1000);
  return prompt;
}

struct asked {
  std::vector<token_id> prompt;
  std::uint32_t max_tokens = 0;
};

void check_all_ended_once(const sim_cluster& cluster) {
  for (const auto& [id, o] : cluster.outcomes()) {
    INFO("request " << id);
    CHECK(o.lasts == 1);
  }
}

}  // namespace

TEST_CASE("a submit to a single node is answered") {
  sim_cluster cluster({});
  cluster.start();
  REQUIRE(cluster.status(0).state == net::engine_state::ready);
  const auto id = cluster.submit(0, {5, 6, 7}, 4);
  cluster.run();
  const auto& o = cluster.outcomes().at(id);
  CHECK(o.lasts == 1);
  CHECK(o.finish == finish_reason::length);
  CHECK(o.tokens == cluster.expected({5, 6, 7}, 4));
}

TEST_CASE("before the engine is ready requests are refused") {
  sim_cluster cluster({});
  const auto id = cluster.submit(0, {1}, 1);
  cluster.run();
  const auto& o = cluster.outcomes().at(id);
  CHECK(o.lasts == 1);
}

TEST_CASE("a prompt over what a message may hold is refused by its gateway, in tokens") {
  sim_cluster cluster({});
  cluster.start();
  const auto id = cluster.submit(0, std::vector<token_id>(300'000, 7), 4);
  cluster.run();
  const auto& o = cluster.outcomes().at(id);
  CHECK(o.lasts == 1);
  CHECK(o.rejected);
  CHECK_THAT(o.message, Contains("the prompt has 300000 tokens; at most 262"));
  CHECK(cluster.stats().prompt_tokens == 0);
}

TEST_CASE("any shape and order gives every request its own tokens") {
  const auto shape = GENERATE(table<std::uint32_t, std::uint32_t, std::uint32_t>(
      {{1, 1, 1}, {1, 2, 1}, {1, 1, 2}, {2, 1, 2}, {2, 3, 2}, {3, 2, 3}}));
  for (std::uint32_t seed = 1; seed <= 10; ++seed) {
    cluster_options options;
    std::tie(options.nodes, options.tensor_parallel_size, options.pipeline_parallel_size) = shape;
    const auto ranks = options.tensor_parallel_size * options.pipeline_parallel_size;
    options.devices_per_node = (ranks + options.nodes - 1) / options.nodes;
    options.gateways = 2;
    options.seed = seed;
    INFO("seed " << seed << ", " << options.nodes << " nodes, tp " << options.tensor_parallel_size
                 << ", pp " << options.pipeline_parallel_size);
    sim_cluster cluster(options);
    cluster.start();
    REQUIRE(cluster.status(0).state == net::engine_state::ready);
    REQUIRE(cluster.status(1).state == net::engine_state::ready);
    std::map<request_id, asked> all;
    for (int i = 0; i < 20; ++i) {
      asked a{prompt_of(cluster.random()), 1 + static_cast<std::uint32_t>(cluster.random()() % 20)};
      all[cluster.submit(cluster.random()() % 2, a.prompt, a.max_tokens)] = a;
      cluster.run_some(cluster.random()() % 60);
    }
    cluster.run();
    check_all_ended_once(cluster);
    for (const auto& [id, a] : all)
      CHECK(cluster.outcomes().at(id).tokens == cluster.expected(a.prompt, a.max_tokens));
    CHECK(cluster.stats().running == 0);
    CHECK(cluster.stats().waiting == 0);
  }
}

TEST_CASE("a cancelled request ends once, the others go on") {
  for (std::uint32_t seed = 1; seed <= 30; ++seed) {
    INFO("seed " << seed);
    sim_cluster cluster({.nodes = 2, .pipeline_parallel_size = 2, .gateways = 2, .seed = seed});
    cluster.start();
    std::map<request_id, asked> kept;
    std::vector<std::pair<std::uint32_t, request_id>> cancelled;
    for (int i = 0; i < 12; ++i) {
      const asked a{prompt_of(cluster.random()), 15};
      const auto g = static_cast<std::uint32_t>(cluster.random()() % 2);
      const auto id = cluster.submit(g, a.prompt, a.max_tokens);
      if (i % 3 == 0) cancelled.emplace_back(g, id);
      else kept[id] = a;
      cluster.run_some(cluster.random()() % 40);
    }
    for (const auto& [g, id] : cancelled) {
      cluster.cancel(g, id);
      cluster.run_some(cluster.random()() % 20);
    }
    cluster.run();
    check_all_ended_once(cluster);
    for (const auto& [id, a] : kept)
      CHECK(cluster.outcomes().at(id).tokens == cluster.expected(a.prompt, a.max_tokens));
  }
}

}  // namespace dinfer::actors::tests

// SPDX-License-Identifier: Apache-2.0
// Admission of nodes, orders to shards, the scheduler's numbers, and the words about a late step.
#include "actors/orders.hpp"
#include "tests/support/catch.hpp"

namespace dinfer::actors {
namespace {

using Catch::Matchers::Contains;

cluster_config two_nodes() {
  cluster_config config;
  config.nodes.resize(2);
  config.nodes[0].name = "a";
  config.nodes[1].name = "b";
  config.model.path = "m.gguf";
  return config;
}

hello greeting(std::uint32_t index, const std::string& name) {
  hello h;
  h.node = name;
  h.index = index;
  h.build = "0.1.0 GNU 12";
  h.protocol = 1;
  h.config = "max_num_seqs = 8\nblock_size = 16\n";
  h.model = "abc";
  return h;
}

cluster_plan plan_of(std::uint32_t stages, std::uint32_t tp) {
  cluster_plan plan;
  plan.stages = stages;
  plan.tensor_parallel_size = tp;
  plan.max_model_len = 100;
  for (std::uint32_t r = 0; r < stages * tp; ++r) {
    planned_rank p;
    p.node = r % 2;
    p.device = "fake:" + std::to_string(r);
    p.layout.rank = static_cast<std::int32_t>(r);
    p.layout.stage = static_cast<std::int32_t>(r / tp);
    p.layout.stages = static_cast<std::int32_t>(stages);
    p.layout.tp_rank = static_cast<std::int32_t>(r % tp);
    p.layout.tp_size = static_cast<std::int32_t>(tp);
    p.layout.layers = {10 * r, 10 * r + 9};
    p.layout.query_heads = {1, 4};
    p.layout.kv_heads = {0, 1};
    p.layout.kv_of_query = {0, 0, 0};
    p.layout.mlp = {32, 96};
    p.layout.vocabulary = {5, 50};
    plan.ranks.push_back(std::move(p));
  }
  return plan;
}

cache_offer offer(std::uint32_t block_size, std::vector<std::uint32_t> blocks) {
  return {block_size, std::move(blocks), 1024};
}

}  // namespace

TEST_CASE("a node that agrees is admitted") {
  CHECK(admit(greeting(0, "a"), greeting(1, "b"), two_nodes()));
}

TEST_CASE("a node that differs is refused with one line that says where") {
  const auto config = two_nodes();
  const auto ours = greeting(0, "a");
  auto theirs = greeting(1, "b");
  const auto refusal = [&] {
    const auto refused = admit(ours, theirs, config);
    REQUIRE(!refused);
    CHECK(refused.error().code == errc::mismatch);
    CHECK(refused.error().message.find('\n') == std::string::npos);
    return refused.error().message;
  };
  SECTION("protocol") {
    theirs.protocol = 2;
    CHECK(refusal() ==
          "node b at 127.0.0.1:4242 was refused by a: protocol is \"2\" there and \"1\" here");
  }
  SECTION("build") {
    theirs.build = "0.2.0 GNU 12";
    CHECK_THAT(refusal(), Contains("build is \"0.2.0 GNU 12\" there"));
  }
  SECTION("configuration names the first line that differs") {
    theirs.config = "max_num_seqs = 8\nblock_size = 32\n";
    CHECK_THAT(refusal(), Contains("\"block_size = 32\" there and \"block_size = 16\" here"));
  }
  SECTION("configuration with a line less") {
    theirs.config = "max_num_seqs = 8\n";
    CHECK_THAT(refusal(), Contains("\"\" there and \"block_size = 16\" here"));
  }
  SECTION("model") {
    theirs.model = "abd";
    CHECK_THAT(refusal(), Contains("model is \"abd\" there and \"abc\" here"));
  }
  SECTION("a node nobody knows") {
    theirs.index = 7;
    CHECK_THAT(refusal(), Contains("no such node"));
    theirs = greeting(0, "b");
    CHECK_THAT(refusal(), Contains("no such node"));
  }
}

TEST_CASE("an order carries the whole layout of a rank") {
  const auto plan = plan_of(2, 2);
  for (std::size_t rank = 0; rank < plan.ranks.size(); ++rank) {
    const auto options = options_of(order_of(plan, rank), two_nodes());
    REQUIRE(options);
    const auto& expected = plan.ranks[rank].layout;
    CHECK(options->device == plan.ranks[rank].device);
    CHECK(options->max_model_len == 100);
    CHECK(options->layout.rank == expected.rank);
    CHECK(options->layout.stage == expected.stage);
    CHECK(options->layout.tp_rank == expected.tp_rank);
    CHECK(options->layout.layers == expected.layers);
    CHECK(options->layout.query_heads == expected.query_heads);
    CHECK(options->layout.kv_heads == expected.kv_heads);
    CHECK(options->layout.kv_of_query == expected.kv_of_query);
    CHECK(options->layout.mlp == expected.mlp);
    CHECK(options->layout.vocabulary == expected.vocabulary);
  }
  auto order = order_of(plan, 0);
  order.ranges.pop_back();
  CHECK(options_of(order, two_nodes()).error().code == errc::mismatch);
}

TEST_CASE("an order says how its device computes") {
  auto config = two_nodes();
  const auto plan = plan_of(2, 1);
  const auto options = [&] {
    auto made = options_of(order_of(plan, 0), config);
    REQUIRE(made);
    return *made;
  };
  CHECK(!options().device_options.activation);  // a CPU may round where weights are quantised
  config.model.dtype = dtype_choice::float32;
  CHECK(options().device_options.activation == kernels::dtype::f32);
  config.model.dtype = dtype_choice::automatic;
  CHECK(options().max_num_batched_tokens == 512);
  CHECK(options().graphs);
  config.nodes[0].devices = {"cuda:0"};
  config.model.format = load_format::random;
  config.model.seed = 5;
  config.scheduler.batch_invariant = true;
  config.cuda.graphs = false;
  config.cache.fraction = 0.5;
  CHECK(options().device_options.activation == kernels::dtype::bf16);
  CHECK(options().device_options.batch_invariant);
  CHECK(options().max_num_batched_tokens == 8192);
  CHECK(options().format == load_format::random);
  CHECK(options().seed == 5);
  CHECK(options().memory_fraction == 0.5);
  CHECK_FALSE(options().graphs);
}

TEST_CASE("what a host has comes through its words") {
  runtime::host_facts host{8, 2, 1 << 20, {7, 0}, {5, 0}, "m", false};
  const auto back = facts_of(words_of(host));
  CHECK(back.cores == 8);
  CHECK(back.first_core == 2);
  CHECK(back.memory_bytes == 1 << 20);
  CHECK(back.device_bytes == host.device_bytes);
  CHECK(back.device_free_bytes == host.device_free_bytes);
  CHECK(back.machine == "m");
  CHECK_FALSE(back.fp8);
}

TEST_CASE("a shard is told the type of its cache") {
  auto config = two_nodes();
  const auto plan = plan_of(1, 2);
  const auto told = [&] { return options_of(order_of(plan, 1), config); };
  REQUIRE(told());
  CHECK(told()->kv_cache_dtype == cache_dtype_choice::automatic);
  config.cache.kv_cache_dtype = cache_dtype_choice::fp8;
  CHECK(told()->kv_cache_dtype == cache_dtype_choice::fp8);
}

TEST_CASE("the scheduler counts on what the smallest rank offers") {
  auto config = two_nodes();
  config.scheduler.max_num_seqs = 8;
  const auto plan = plan_of(2, 2);
  const auto made = scheduler_config_of(
      config, plan, {offer(16, {9, 5}), offer(16, {7, 6}), offer(16, {8, 8}), offer(16, {9, 9})},
      3);
  REQUIRE(made);
  CHECK(made->groups.size() == 2);
  CHECK(made->groups[0].blocks == 7);
  CHECK(made->groups[1].blocks == 5);
  CHECK(made->block_size == 16);
  CHECK(made->max_num_mixed_tokens == 512);
  CHECK(made->stages == 2);
  CHECK(made->max_in_flight == 3);
  CHECK(made->epoch == 3);
  CHECK(made->max_queued_requests == 32);
  CHECK(made->max_queued_tokens == 8ULL * 100 * 8);
}

TEST_CASE("ranks that cannot work together are named") {
  const auto config = two_nodes();
  const auto plan = plan_of(1, 2);
  const auto other = scheduler_config_of(config, plan, {offer(16, {9}), offer(32, {9})}, 1);
  REQUIRE(!other);
  CHECK_THAT(other.error().message, Contains("rank 1 (stage 0, node b, fake:1)"));
  const auto none = scheduler_config_of(config, plan, {offer(16, {9}), offer(16, {0})}, 1);
  REQUIRE(!none);
  CHECK(none.error().code == errc::out_of_memory);
}

TEST_CASE("a late step is blamed on the ranks that hold it up") {
  const auto text = overdue_words(two_nodes(), plan_of(2, 2), {1, 17, 60'000},
                                  {{0, 17, 17}, {1, 17, 16}, {2, 16, 16}});
  CHECK(text ==
        "step 17 had no result after 60000 ms: rank 1 (stage 0, node b, fake:1) is still in it; "
        "rank 2 (stage 1, node a, fake:2) has not begun it (its last is 16); rank 3 (stage 1, node "
        "b, fake:3) gives no answer");
}

}  // namespace dinfer::actors

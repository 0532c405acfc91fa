// SPDX-License-Identifier: Apache-2.0
// Plans for small clusters, worked out by hand: sizes, seats, bytes, threads, and the words of
// refusals.
#include "runtime/parallel/placement.hpp"

#include "tests/runtime/parallel/plan_fixture.hpp"
#include "tests/support/catch.hpp"

#include <algorithm>
#include <cmath>
#include <random>
#include <set>

namespace dinfer::tests {
namespace {

using Catch::Matchers::Contains;
using counts = std::vector<std::uint32_t>;

std::string seats_of(const runtime::placement& plan, const cluster_config& config) {
  std::string out;
  for (const auto& rank : plan.ranks)
    out += (out.empty() ? "" : " ") + config.nodes[rank.node].name + "/" + rank.device;
  return out;
}

// The message of a refusal.
std::string refusal(const plan_fixture& cluster, const std::string& subject,
                    errc code = errc::invalid_argument) {
  const auto plan = cluster.place();
  REQUIRE_FALSE(plan);
  CHECK(plan.error().code == code);
  CHECK(plan.error().subject == subject);
  return plan.error().message;
}

}  // namespace

TEST_CASE("configured sizes are kept and weighed", "[parallel][placement]") {
  plan_fixture cluster(smollm2(), smollm2_bytes());
  cluster.node("a", {"cpu:0", "cpu:1", "cpu:2"}, 64 * gib, 8);
  cluster.node("b", {"cpu:0", "cpu:1", "cpu:2"}, 64 * gib, 8);
  cluster.sizes(3, 2);
  const auto plan = cluster.place();
  REQUIRE(plan);
  CHECK(plan->reason == "as configured");
  CHECK(plan->layers_per_stage == counts{15, 15});
  CHECK(seats_of(*plan, cluster.config) == "a/cpu:0 a/cpu:1 a/cpu:2 b/cpu:0 b/cpu:1 b/cpu:2");
  CHECK(plan->idle.empty());
  // A third of 15 layers of 2216448 bytes and of a table of 30081024; the last stage's also of the
  // final norm, 2304.
  CHECK(plan->ranks[0].weight_bytes == 15 * 738'816 + 10'027'008);
  CHECK(plan->ranks[5].weight_bytes == 15 * 738'816 + 10'027'776);
  // 8192 positions x 256 sequences are worth 48 GiB; a rank takes 4 GiB at most by itself. A block
  // has 2 x 15 layers x 1 head x 64 x 16 tokens x 4 bytes. 4 GiB hold 34952, one is the null block.
  CHECK(plan->block_size == 16);
  CHECK(plan->cache_blocks == 34951);
  CHECK(plan->ranks[0].cache_bytes == std::uint64_t{34952} * 122'880);
  CHECK(plan->max_model_len == 8192);
}

TEST_CASE("a model that fits one device takes one", "[parallel][placement]") {
  plan_fixture cluster(smollm2(), smollm2_bytes());
  cluster.node("a", {"cpu:0"}, 16 * gib, 2).node("b", {"cpu:0", "cpu:1"}, 16 * gib, 2);
  const auto plan = cluster.place();
  REQUIRE(plan);
  CHECK(plan->ranks.size() == 1);
  CHECK(plan->ranks[0].weight_bytes == 30 * 2'216'448 + 30'081'024 + 2304);  // tied: one table
  CHECK(plan->ranks[0].cpu_threads == 2);
  CHECK(plan->idle == std::vector<std::string>{"b/cpu:0", "b/cpu:1"});
  CHECK_THAT(plan->reason, Contains("fits one device") && Contains("2 of 3 devices stay idle"));
}

TEST_CASE("sizes grow only as far as the model needs", "[parallel][placement]") {
  const auto grown = [](std::size_t nodes, std::vector<std::string> devices, std::uint64_t bytes,
                        const runtime::model_shape& shape = eight_billion()) {
    plan_fixture cluster(shape, eight_billion_bytes());
    for (std::size_t i = 0; i < nodes; ++i)
      cluster.gpu_node(std::string(1, static_cast<char>('a' + i)), devices, bytes);
    auto plan = cluster.place();
    REQUIRE(plan);
    return *plan;
  };
  const std::vector<std::string> four{"cuda:0", "cuda:1", "cuda:2", "cuda:3"};

  const auto one = grown(2, four, 24 * gib);
  CHECK(one.tensor_parallel_size * 10 + one.pipeline_parallel_size == 11);

  const auto two = grown(2, four, 12 * gib);
  CHECK(two.tensor_parallel_size * 10 + two.pipeline_parallel_size == 21);
  CHECK_THAT(two.reason, Contains("2 devices of one node share the heads evenly"));

  const auto node = grown(2, four, 8 * gib);
  CHECK(node.tensor_parallel_size * 10 + node.pipeline_parallel_size == 41);

  const auto both = grown(2, four, 6 * gib);
  CHECK(both.tensor_parallel_size * 10 + both.pipeline_parallel_size == 42);
  CHECK_THAT(both.reason, Contains("one node is too small"));
  for (const auto& rank : both.ranks)
    CHECK(rank.node == static_cast<std::size_t>(rank.layout.stage));
  CHECK(both.layers_per_stage == counts{16, 16});
  CHECK(both.idle.empty());

  // 9 heads of 3 KV heads share out evenly over 1, 3 and 9, not over 2: layers are shared instead.
  auto odd = eight_billion();
  odd.heads = 9, odd.kv_heads = 3, odd.head_dim = 64;
  const auto stages = grown(1, {"cuda:0", "cuda:1"}, 12 * gib, odd);
  CHECK(stages.tensor_parallel_size * 10 + stages.pipeline_parallel_size == 12);
  CHECK_THAT(stages.reason, Contains("heads do not split evenly"));
}

TEST_CASE("one size given, the other is found", "[parallel][placement]") {
  plan_fixture cluster(eight_billion(), eight_billion_bytes());
  const std::vector<std::string> two{"cuda:0", "cuda:1"};
  cluster.gpu_node("a", two, 8 * gib).gpu_node("b", two, 8 * gib);
  cluster.config.scheduler.max_num_batched_tokens = 2048;
  const auto sizes = [&](std::uint32_t tp, std::uint32_t pp) {
    const auto plan = cluster.sizes(tp, pp).place();
    REQUIRE(plan);
    return counts{plan->tensor_parallel_size, plan->pipeline_parallel_size};
  };
  CHECK(sizes(0, 0) == counts{2, 2});
  CHECK(sizes(2, 0) == counts{2, 2});
  CHECK(sizes(1, 0) == counts{1, 4});
  CHECK(sizes(0, 2) == counts{2, 2});
  CHECK(sizes(0, 4) == counts{1, 4});
  CHECK(sizes(4, 0) == counts{4, 1});  // over both nodes, since it was asked for
  CHECK_THAT(cluster.place()->reason, Contains("stage 0 spans nodes a and b"));
  cluster.config.parallel.pp_layers = {17, 15};
  CHECK(cluster.sizes(0, 0).place()->layers_per_stage == counts{17, 15});
}

TEST_CASE("a stage stays in a node where one has room for it", "[parallel][placement]") {
  plan_fixture cluster(smollm2(), smollm2_bytes());
  cluster.node("a", {"cpu:0"}, 0, 4).node("b", {"cpu:0", "cpu:1", "cpu:2"}, 0, 4);
  cluster.node("c", {"cpu:0", "cpu:1", "cpu:2", "cpu:3"}, 0, 4);
  const auto plan = cluster.sizes(3, 2).place();
  REQUIRE(plan);
  CHECK(seats_of(*plan, cluster.config) == "b/cpu:0 b/cpu:1 b/cpu:2 c/cpu:0 c/cpu:1 c/cpu:2");
  CHECK(plan->idle == std::vector<std::string>{"a/cpu:0", "c/cpu:3"});
  CHECK_THAT(plan->reason, Contains("2 of 8 devices stay idle"));
}

TEST_CASE("cores are shared out over the ranks of a machine", "[parallel][placement]") {
  plan_fixture cluster(smollm2(), smollm2_bytes());
  cluster.node("a", {"cpu:0", "cpu:1"}, 0, 8, "m").node("b", {"cpu:0"}, 0, 8, "m");
  cluster.node("c", {"cpu:0"}, 0, 3).sizes(1, 4);
  const auto cores = [&] {
    const auto plan = cluster.place();
    REQUIRE(plan);
    std::vector<std::pair<std::uint32_t, int>> out;
    for (const auto& rank : plan->ranks) out.emplace_back(rank.cpu_threads, rank.first_core);
    return out;
  };
  using expected = std::vector<std::pair<std::uint32_t, int>>;
  CHECK(cores() == expected{{3, 0}, {3, 3}, {2, 6}, {3, 0}});
  cluster.config.cpu.threads = 2;
  CHECK(cores() == expected{{2, 0}, {2, 2}, {2, 4}, {2, 0}});
  cluster.config.cpu.threads = 4;  // more than there are: nobody is pinned
  CHECK(cores() == expected{{4, -1}, {4, -1}, {4, -1}, {4, -1}});
  cluster.config.cpu.threads = 0;
  cluster.hosts[0].cores = cluster.hosts[1].cores = 2;
  cluster.hosts[2].first_core = -1;
  CHECK(cores() == expected{{1, -1}, {1, -1}, {1, -1}, {3, -1}});
}

TEST_CASE("CPUs of one process share whole groups of heads, others as evenly as they go",
          "[parallel][placement]") {
  const auto first_heads = [](plan_fixture& cluster) {
    const auto plan = cluster.sizes(2, 1).place();
    REQUIRE(plan);
    return plan->ranks[0].layout.query_heads.size();
  };
  plan_fixture one(smollm2(), smollm2_bytes()), two(smollm2(), smollm2_bytes());
  plan_fixture gpus(smollm2(), smollm2_bytes());
  CHECK(first_heads(one.node("a", {"cpu:0", "cpu:1"}, 8 * gib, 2)) == 6);
  two.node("a", {"cpu:0"}, 8 * gib, 2, "m").node("b", {"cpu:0"}, 8 * gib, 2, "m");
  CHECK(first_heads(two) == 5);
  CHECK(first_heads(gpus.gpu_node("a", {"cuda:0", "cuda:1"}, 24 * gib)) == 5);
}

TEST_CASE("the pool is as large as the smallest rank's", "[parallel][placement]") {
  auto shape = smollm2();
  shape.heads = shape.kv_heads;  // no KV head can be read by both ranks
  plan_fixture cluster(shape, smollm2_bytes());
  cluster.node("a", {"cpu:0", "cpu:1"}, 16 * gib, 2).sizes(2, 1);
  cluster.config.cache.memory_bytes = 64 * mib;
  const auto plan = cluster.place();
  REQUIRE(plan);
  // Rank 0 holds 2 KV heads: 2 x 30 x 2 x 64 x 16 x 4 = 491520 bytes a block; 136 of them.
  CHECK(plan->cache_blocks == 135);
  CHECK(plan->ranks[0].cache_bytes == std::uint64_t{136} * 491'520);
  CHECK(plan->ranks[1].cache_bytes == std::uint64_t{136} * 245'760);
  cluster.config.cache.blocks = 40;
  CHECK(cluster.place()->cache_blocks == 40);
  cluster.config.cache.blocks = 0;
  cluster.config.cache.memory_bytes = 500'000;
  CHECK_THAT(refusal(cluster, "cache.memory"), Contains("at least 960.0 KiB"));
}

TEST_CASE("a GPU's cache is what its fraction of memory leaves", "[parallel][placement]") {
  plan_fixture cluster(eight_billion(), eight_billion_bytes());
  cluster.gpu_node("a", {"cuda:0", "cuda:1"}, 24 * gib).sizes(2, 1);
  const auto cache = [&](double fraction) {
    cluster.config.cache.fraction = fraction;
    const auto plan = cluster.place();
    REQUIRE(plan);
    const auto& rank = plan->ranks[0];
    // Half of 32 x 416 and 2 x 1002 MiB, and 65 norms; 2 x 32 layers x 4 heads x 128 x 32 tokens x
    // 2 bytes.
    CHECK(rank.weight_bytes == 7658 * mib + 65 * 4096 * 4);
    CHECK(plan->block_size == 32);
    CHECK(rank.cache_bytes == (plan->cache_blocks + 1) * 2 * mib);
    const double budget = fraction * 24 * static_cast<double>(gib);
    CHECK(rank.budget_bytes == static_cast<std::uint64_t>(budget));
    const double used = static_cast<double>(rank.weight_bytes + rank.steps.sum());
    CHECK(plan->cache_blocks + 1 == std::floor((budget - used) / (2.0 * static_cast<double>(mib))));
    return plan->cache_blocks;
  };
  CHECK(cache(0.5) < cache(0.75));
  // With 8-bit floats blocks of half the size: twice as many, the null block among them.
  cluster.config.cache.kv_cache_dtype = cache_dtype_choice::fp8;
  const auto narrow = cluster.place();
  REQUIRE(narrow);
  CHECK(narrow->ranks[0].cache_bytes == (narrow->cache_blocks + 1) * mib);
  cluster.config.cache.kv_cache_dtype = cache_dtype_choice::automatic;
  CHECK((narrow->cache_blocks + 1) / 2 == cluster.place()->cache_blocks + 1);
  cluster.config.cache.fraction = 0.4;
  CHECK_THAT(refusal(cluster, "cuda:0", errc::out_of_memory), Contains("there are 9.6 GiB"));
}

TEST_CASE("a GPU's bytes are those of its own way to compute", "[parallel][placement]") {
  plan_fixture cluster(eight_billion(), eight_billion_bytes());
  cluster.gpu_node("a", {"cuda:0"}, 80 * gib).sizes(1, 1);
  const auto rank_with = [&](dtype_choice type) {
    cluster.config.model.dtype = type;
    const auto plan = cluster.place();
    REQUIRE(plan);
    return plan->ranks.front();
  };
  const auto rank = rank_with(dtype_choice::automatic);
  // 32 x 416 and 2 x 1002 MiB of matrices in 16 bits; 65 norms of 4096 in 32.
  CHECK(rank.weight_bytes == (32 * 416 + 2 * 1002) * mib + 65 * 4096 * 4);
  // 8192 tokens: 3 x 4096, (32 + 2 x 8 + 32) x 128 and 14336 elements of 2 bytes each, and two rows
  // of 4096 for each of 256 sequences.
  CHECK(rank.steps.activations ==
        (std::uint64_t{12'288 + 10'240 + 14'336} * 8192 + 2 * 4096 * 256) * 2);
  CHECK(rank.steps.logits == std::uint64_t{128'256} * 256 * 4);
  // Counts of 2 bytes a slot and word, 16 KiB more a slot; 168 bytes for each row that is drawn.
  CHECK(rank.steps.sampler == std::uint64_t{256} * (2 * 128'256 + 16'384) + 8192 * 168);
  // Gate and up of 8192 tokens; 96 and 32 MiB of GEMMs and attention.
  CHECK(rank.steps.workspace == std::uint64_t{2 * 14'336} * 8192 * 2 + 128 * mib);
  CHECK(rank.steps.reserve == 1536 * mib);
  // 2 x 32 layers x 8 heads x 128 x 32 tokens x 2 bytes a block.
  CHECK(rank.cache_bytes % (4 * mib) == 0);
  const auto sum = rank.weight_bytes + rank.steps.sum() + rank.cache_bytes;
  CHECK(rank.budget_bytes == static_cast<std::uint64_t>(0.92 * 80 * static_cast<double>(gib)));
  CHECK(sum <= rank.budget_bytes);
  CHECK(sum + 4 * mib > rank.budget_bytes);

  const auto wide = rank_with(dtype_choice::float32);
  CHECK(wide.weight_bytes == 2 * (32 * 416 + 2 * 1002) * mib + 65 * 4096 * 4);
  CHECK(wide.steps.activations == 2 * rank.steps.activations);
  CHECK(wide.cache_bytes % (8 * mib) == 0);

  // What others hold is not ours.
  cluster.hosts[0].device_free_bytes = {60 * gib};
  const auto beside = rank_with(dtype_choice::automatic);
  CHECK(beside.budget_bytes == rank.budget_bytes - 20 * gib);
  cluster.hosts[0].device_free_bytes = {10 * gib};
  CHECK_THAT(refusal(cluster, "cuda:0", errc::out_of_memory),
             Contains("rank 0 on a/cuda:0 needs 15.0 GiB of weights") &&
                 Contains("there are 3.6 GiB for it"));
}

TEST_CASE("GPUs that share a model hold their parts of its steps", "[parallel][placement]") {
  plan_fixture cluster(eight_billion(), eight_billion_bytes());
  const auto ranks_of = [&](std::uint32_t tp, std::uint32_t pp) {
    const auto plan = cluster.sizes(tp, pp).place();
    REQUIRE(plan);
    return plan->ranks;
  };
  cluster.gpu_node("a", {"cuda:0", "cuda:1", "cuda:2", "cuda:3"}, 80 * gib);
  const auto slots = [](std::uint64_t tokens) {
    return std::uint64_t{256} * (2 * 128'256 + 16'384) + tokens * 168;
  };
  // Candidates of 1024 rows, own and received; 32 rows of logits: a part sent, two received, whole.
  const std::uint64_t exchange = 3 * 1024 * 8 + std::uint64_t{3 * 64'128 + 128'256} * 32 * 4;
  for (const auto& rank : ranks_of(2, 1)) {
    CHECK(rank.steps.sampler == slots(8192) + exchange);
    CHECK(rank.steps.logits == std::uint64_t{64'128} * 256 * 4);
    CHECK(rank.steps.workspace == std::uint64_t{2 * 7'168} * 8192 * 2 + 128 * mib);
    CHECK(rank.steps.reserve == (1536 + 512) * mib);
  }
  const auto piped = ranks_of(1, 3);  // a step of several stages has 2048 tokens for each GPU
  CHECK(piped[0].steps.sampler == slots(3 * 2048));
  CHECK(piped[1].steps.sampler == 0);
  CHECK(piped[2].steps.sampler == slots(3 * 2048));
  for (const auto& rank : piped) CHECK(rank.steps.reserve == (1536 + 512) * mib);
  const auto both = ranks_of(2, 2);
  CHECK(both[0].steps.sampler == slots(8192));
  CHECK(both[3].steps.sampler == slots(8192) + exchange);
  CHECK(both[3].steps.reserve == (1536 + 1024) * mib);
}

TEST_CASE("a model too large for a large cluster is refused soon", "[parallel][placement]") {
  plan_fixture cluster(eight_billion(), eight_billion_bytes());
  std::vector<std::string> devices;
  for (int i = 0; i < 8; ++i) devices.push_back("cuda:" + std::to_string(i));
  for (int i = 0; i < 64; ++i) cluster.gpu_node("n" + std::to_string(i), devices, 100 * mib);
  CHECK_THAT(refusal(cluster, "cuda:0", errc::out_of_memory), Contains("rank 0 on n0/cuda:0"));
}

TEST_CASE("what does not fit the memory is refused in bytes", "[parallel][placement]") {
  plan_fixture cluster(smollm2(), smollm2_bytes());
  cluster.node("a", {"cpu:0", "cpu:1"}, 200 * mib, 2).sizes(1, 1);
  CHECK_THAT(refusal(cluster, "cpu:0", errc::out_of_memory),
             Contains("rank 0 on a/cpu:0 needs 92.1 MiB of weights") &&
                 Contains("(4096 tokens); there are 180.0 MiB for it"));
  cluster.config.model.max_model_len = 100;
  cluster.config.scheduler.max_num_batched_tokens = 256;
  cluster.config.scheduler.max_num_seqs = 8;
  CHECK(cluster.place());
  cluster.config.cache.memory_bytes = 90 * mib;
  CHECK_THAT(refusal(cluster, "cpu:0", errc::out_of_memory), Contains("needs 92.1 MiB"));
}

TEST_CASE("sizes that cannot be are refused by key", "[parallel][placement]") {
  plan_fixture cluster(smollm2(), smollm2_bytes());
  cluster.node("a", {"cpu:0", "cpu:1", "cpu:2"}, 0, 4).node("b", {"cpu:0", "cpu:1"}, 0, 4);
  CHECK(refusal(cluster.sizes(3, 2), "tensor_parallel_size") ==
        "tensor_parallel_size: 3 x 2 (tensor x pipeline) needs 6 devices; the nodes list 5 "
        "(a: 3, b: 2); tensor_parallel_size = 2 fits 2 stages; pipeline_parallel_size = 1 fits 3 "
        "ranks a stage");
  CHECK_THAT(refusal(cluster.sizes(0, 6), "pipeline_parallel_size"), Contains("6 devices"));
  CHECK(refusal(cluster.sizes(1, 31), "pipeline_parallel_size") ==
        "pipeline_parallel_size = 31: the model has 30 layers; at most 30");
  CHECK_THAT(refusal(cluster.sizes(4294967295U, 4294967295U), "pipeline_parallel_size"),
             Contains("at most 30"));

  cluster.sizes(1, 2).config.parallel.pp_layers = {10, 10, 10};
  CHECK(refusal(cluster, "pp_layers") == "pp_layers: 3 stages; pipeline_parallel_size = 2");
  cluster.config.parallel.pp_layers = {16, 16};
  CHECK_THAT(refusal(cluster, "pp_layers"), Contains("sums to 32"));
  cluster.config.parallel.pp_layers.clear();

  cluster.config.model.max_model_len = 8193;
  CHECK_THAT(refusal(cluster, "max_model_len"), Contains("at most 8192"));
  cluster.config.model.max_model_len = 0;

  cluster.shape.heads = cluster.shape.kv_heads = 1;
  CHECK_THAT(refusal(cluster.sizes(2, 2), "tensor_parallel_size"), Contains("at most 1"));

  cluster.config.nodes[1].devices[0] = "cuda:0";
  CHECK_THAT(refusal(cluster, "node.devices"), Contains("cpu:0 and cuda:0"));
  plan_fixture bare(smollm2(), smollm2_bytes());
  CHECK_THAT(refusal(bare.node("a", {}, 0, 1), "node.devices"), Contains("no node lists a device"));
}

TEST_CASE("every plan seats each rank alone and within its memory", "[parallel][placement]") {
  const unsigned seed = 5;
  INFO("seed " << seed);
  std::mt19937 random(seed);
  int made = 0;
  for (int round = 0; round < 200; ++round) {
    plan_fixture cluster(eight_billion(), eight_billion_bytes());
    for (unsigned n = 1 + random() % 4; n > 0; --n) {
      std::vector<std::string> devices;
      for (unsigned d = random() % 5; d > 0; --d) devices.push_back("cuda:" + std::to_string(d));
      cluster.gpu_node("n" + std::to_string(n), devices, (4 + random() % 20) * gib);
    }
    const auto plan = cluster.place();
    if (!plan) continue;
    ++made;
    std::set<std::pair<std::size_t, std::string>> seats;
    std::int64_t next_layer = 0;
    for (const auto& rank : plan->ranks) {
      CHECK(seats.emplace(rank.node, rank.device).second);
      const auto& of_stage =
          plan->ranks[static_cast<std::size_t>(rank.layout.stage) * plan->tensor_parallel_size];
      CHECK(rank.node == of_stage.node);
      CHECK(rank.layout.layers == of_stage.layout.layers);
      const double bytes =
          static_cast<double>(rank.weight_bytes + rank.steps.sum() + rank.cache_bytes);
      CHECK(bytes <= 0.92 * static_cast<double>(cluster.hosts[rank.node].device_bytes[0]));
      if (rank.layout.tp_rank == 0) {
        CHECK(rank.layout.layers.begin == next_layer);
        next_layer = rank.layout.layers.end;
      }
    }
    CHECK(next_layer == 32);
    std::size_t listed = 0;
    for (const auto& node : cluster.config.nodes) listed += node.devices.size();
    CHECK(plan->idle.size() + plan->ranks.size() == listed);
  }
  CHECK(made > 100);
}

TEST_CASE("a plan is printed as a table", "[parallel][placement]") {
  plan_fixture cluster(smollm2(), smollm2_bytes());
  cluster.node("a", {"cpu:0", "cpu:1"}, 16 * gib, 8).node("b", {"cpu:0", "cpu:1"}, 16 * gib, 8);
  cluster.sizes(1, 3).config.cache.blocks = 400;
  cluster.config.model.max_model_len = 2048;
  const auto plan = cluster.place();
  REQUIRE(plan);
  CHECK(runtime::render_plan(*plan, cluster.config, cluster.shape) ==
        "model: SmolLM2 (llama), 30 layers, 9 heads, 3 KV heads, vocabulary 49152\n"
        "plan:  tensor_parallel_size = 1, pipeline_parallel_size = 3: as configured; 1 of 4 "
        "devices stay idle, since the plan needs no more\n"
        "stage  rank  node  device  layers  heads  kv heads\n"
        "0      0     a     cpu:0   0-8     0-8    0-2\n"
        "1      1     a     cpu:1   9-20    0-8    0-2\n"
        "2      2     b     cpu:0   21-29   0-8    0-2\n"
        "rank  weights   activations  logits    sampler  workspace  reserve  cache      sum        "
        "of\n"
        "0     47.7 MiB  9.4 MiB      -         -        -          -        84.6 MiB   141.7 MiB  "
        "7.2 "
        "GiB\n"
        "1     25.4 MiB  9.4 MiB      -         -        -          -        112.8 MiB  147.5 MiB  "
        "7.2 "
        "GiB\n"
        "2     47.7 MiB  10.5 MiB     48.0 MiB  -        -          -        84.6 MiB   190.8 MiB  "
        "14.4 "
        "GiB\n"
        "idle: b/cpu:1\n"
        "KV cache: 400 blocks of 16 tokens = 6400 tokens, 3.1 concurrent requests of 2048 "
        "tokens\n");
  CHECK(runtime::render_cache(12, 32, 8192) ==
        "KV cache: 12 blocks of 32 tokens = 384 tokens, 0.0 concurrent requests of 8192 tokens");
}

}  // namespace dinfer::tests

// SPDX-License-Identifier: Apache-2.0
// Layouts on the real model's file: the ranks' slices cover every matrix once, KV heads as often as
// they are shared, and the plan's bytes are those of the slices.
#include "runtime/models/model_config.hpp"
#include "runtime/parallel/memory_plan.hpp"
#include "runtime/weights/partition.hpp"
#include "tests/runtime/parallel/plan_fixture.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/model_path.hpp"

#include <algorithm>

namespace dinfer::tests {
namespace {

using runtime::range;
using runtime::rank_layout;
using runtime::stored_tensor;

range scaled(range heads, std::int64_t head_dim) {
  return {heads.begin * head_dim, heads.end * head_dim};
}

// Bytes of the slice that `layout` needs of a matrix; 0 for a vector.
std::uint64_t needed(const stored_tensor& tensor, const rank_layout& layout,
                     std::int64_t head_dim) {
  const auto is = [&](const char* part) { return tensor.name.find(part) != std::string::npos; };
  const auto bytes = [](const auto& slice) {
    REQUIRE(slice);
    return runtime::slice_bytes(*slice);
  };
  using runtime::slice_columns;
  using runtime::slice_rows;
  if (is("attn_q.")) return bytes(slice_rows(tensor, scaled(layout.query_heads, head_dim)));
  if (is("attn_k.") || is("attn_v."))
    return bytes(slice_rows(tensor, scaled(layout.kv_heads, head_dim)));
  if (is("attn_output.")) return bytes(slice_columns(tensor, scaled(layout.query_heads, head_dim)));
  if (is("ffn_gate.") || is("ffn_up.")) return bytes(slice_rows(tensor, layout.mlp));
  if (is("ffn_down.")) return bytes(slice_columns(tensor, layout.mlp));
  if (is("token_embd.")) return bytes(slice_rows(tensor, layout.vocabulary));
  return 0;
}

// The real model on one GPU: what its plan counts, as `config` stands.
struct one_gpu {
  cluster_config config;
  runtime::model_shape shape;
  runtime::weight_estimate weights;
  rank_layout rank;

  one_gpu() {
    const auto source = runtime::open_weights(model_path());
    REQUIRE(source);
    const auto read = runtime::read_model_shape(**source);
    REQUIRE(read);
    shape = *read;
    const auto factory = runtime::find_model(shape.architecture);
    REQUIRE(factory);
    const auto estimate = (*factory)->estimate(shape, **source);
    REQUIRE(estimate);
    weights = *estimate;
    config.nodes.emplace_back().devices = {"cuda:0"};
    const std::uint32_t layers = 30;
    const auto ranks = runtime::lay_out(shape, 1, std::span(&layers, 1));
    REQUIRE(ranks);
    rank = ranks->front();
  }

  runtime::device_rules rules() const { return runtime::rules_for(config, shape, weights); }
  std::uint64_t weight_bytes() const {
    return runtime::planned_weight_bytes(shape, rank, weights, rules());
  }
};

}  // namespace

TEST_CASE("ranks' slices of the real model cover it exactly", "[parallel]") {
  const auto source = runtime::open_weights(model_path());
  REQUIRE(source);
  const auto shape = runtime::read_model_shape(**source);
  REQUIRE(shape);
  for (const std::uint32_t tp : {1U, 2U, 3U, 4U, 5U, 7U, 9U}) {
    INFO("tp " << tp);
    const auto ranks = runtime::lay_out(*shape, tp, std::vector<std::uint32_t>{30});
    REQUIRE(ranks);
    std::vector<std::uint64_t> of_rank(tp, 0);
    std::int64_t kv_copies = 0;
    for (const rank_layout& rank : *ranks) kv_copies += rank.kv_heads.size();
    for (const stored_tensor& tensor : (*source)->tensors()) {
      std::uint64_t all = 0;
      for (const rank_layout& rank : *ranks) {
        const std::uint64_t bytes = needed(tensor, rank, shape->head_dim);
        of_rank[static_cast<std::size_t>(rank.rank)] += bytes;
        all += bytes;
      }
      const bool kv = tensor.name.find("attn_k.") != std::string::npos ||
                      tensor.name.find("attn_v.") != std::string::npos;
      const auto copies = static_cast<std::uint64_t>(kv ? kv_copies : 3);
      if (tensor.shape.size() == 2) CHECK(all == tensor.data.size() * copies / 3);
    }
    for (const rank_layout& rank : *ranks) {
      const auto planned = runtime::planned_weight_bytes(*shape, rank, smollm2_bytes(), {});
      const auto sliced = of_rank[static_cast<std::size_t>(rank.rank)];
      // The plan spreads the norms, 0.2 % of a layer, over the ranks.
      CHECK(static_cast<double>(planned) == Approx(static_cast<double>(sliced)).epsilon(0.003));
    }
  }
}

// A layer of SmolLM2 has 3,538,944 elements in its matrices; its table 28,311,552.
TEST_CASE("a plan with 8-bit floats counts one byte for layers and two for the table") {
  one_gpu plan;
  plan.weights = smollm2_bytes();
  const std::uint64_t whole = plan.weight_bytes();
  plan.config.model.quantization = quantization_choice::fp8;
  CHECK(whole - plan.weight_bytes() == 30ULL * 3'538'944);
  CHECK(plan.weight_bytes() > 30ULL * 3'538'944 + 2ULL * 28'311'552);
}

TEST_CASE("a plan with a cache of 8-bit floats has blocks of half the bytes") {
  one_gpu plan;
  plan.weights = smollm2_bytes();
  const auto bytes = [&] {
    return runtime::planned_block_bytes(plan.shape, plan.rank, plan.rules());
  };
  // Keys and values of 30 layers, 3 heads of 64 elements, 32 tokens.
  CHECK(bytes() == 2ULL * 30 * 3 * 64 * 32 * 2);
  plan.config.cache.kv_cache_dtype = cache_dtype_choice::fp8;
  CHECK(bytes() == 2ULL * 30 * 3 * 64 * 32);
  plan.config.model.dtype = dtype_choice::float32;
  CHECK(bytes() == 2ULL * 30 * 3 * 64 * 32);
}

// Its matrices are Q4_1 and its table Q8_0: 5 and 8.5 bits an element, packed as in the file.
TEST_CASE("a plan for a GPU counts quantised matrices packed, unless they are expanded") {
  one_gpu plan;
  const auto workspace = [&] {
    return runtime::planned_step_memory(plan.shape, plan.rank, plan.rules()).workspace;
  };
  const std::uint64_t vectors = (30 * 2 + 1) * 576 * 4, elements = 30ULL * 3'538'944 + 28'311'552;
  CHECK(plan.weight_bytes() == 30ULL * 3'538'944 * 5 / 8 + 28'311'552ULL * 17 / 16 + vectors);
  const std::uint64_t with_room = workspace();
  plan.config.model.dequantize = true;
  CHECK(plan.weight_bytes() == 2 * elements + vectors);
  CHECK(with_room - workspace() == 2ULL * 28'311'552);
  plan.config.model.dequantize = false;
  plan.config.model.dtype = dtype_choice::float32;
  CHECK(plan.weight_bytes() == 4 * elements + vectors);
}

}  // namespace dinfer::tests

// SPDX-License-Identifier: Apache-2.0
// Every way of quantising checkpoints against transformers in float32, which has the matrices as
// other libraries expand them: elements of them, the greedy tokens from one rank and from many, and
// bytes as planned.
#include "runtime/models/model.hpp"
#include "runtime/models/weight_loader.hpp"
#include "runtime/parallel/memory_plan.hpp"
#include "runtime/weights/hf_names.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/family_answers.hpp"
#include "tests/support/rank_cluster.hpp"

#include "kernels/cpu/dequantize.hpp"
#include "runtime/weights/int4.hpp"
#include "runtime/weights/partition.hpp"

#include <cmath>
#include <cstring>

namespace dinfer::tests {
namespace {

const std::vector<std::string>& kinds() {
  static const std::vector<std::string> names{
      "fp8-tensor",  "fp8-block",  "float-tensor", "float-channel", "float-block",
      "gptq",        "gptq-zeros", "gptq-v2",      "gptq-rows",     "awq",
      "awq-rounded", "packed",     "packed-zeros", "packed-rows"};
  return names;
}

runtime::runner_options options_of(const std::string& kind) {
  runtime::runner_options o;
  o.device = "cpu:0";
  o.device_options.activation = kernels::dtype::f32;
  o.model_path = quantised_path(kind);
  o.max_model_len = 128;
  o.max_num_seqs = 8;
  o.max_num_batched_tokens = 400;
  o.cache_blocks = 100;
  return o;
}

std::unique_ptr<runtime::weight_source> opened(const std::string& kind) {
  auto source = runtime::open_weights(quantised_path(kind));
  if (!source) FAIL(source.error().message);
  return std::move(*source);
}

void check_tokens(const std::string& kind, std::uint32_t tp,
                  const std::vector<std::uint32_t>& layers, bool expanded = false) {
  const auto answers = family_answers(kind, "quantised.json");
  auto options = options_of(kind);
  options.dequantize = expanded;
  rank_cluster cluster(options, tp, layers);
  std::vector<scripted_sequence> sequences;
  for (const auto& a : answers) {
    auto& s = sequences.emplace_back();
    s.prompt = a.prompt;
    s.tokens = static_cast<std::uint32_t>(a.tokens.size());
    s.sampling.temperature = 0;
  }
  run_script(cluster, sequences, 16);
  for (std::size_t i = 0; i < answers.size(); ++i) {
    INFO(kind << ", tensor parallel " << tp << ", prompt " << i);
    std::vector<token_id> got;
    for (const auto& t : sequences[i].drawn) got.push_back(t.token);
    CHECK(got == answers[i].tokens);
  }
}

// "model.layers.2.mlp.up_proj.weight" is "blk.2.ffn_up.weight".
std::string renamed(const std::string& name) {
  return runtime::rename_hf("LlamaForCausalLM", name).name;
}

// One element, by way of the slice that a rank of this row and the block around the column gets.
float element(const runtime::stored_tensor& t, std::int64_t row, std::int64_t column) {
  std::vector<float> values(32);
  const std::int64_t first = column / 32 * 32;
  if (t.int4 != nullptr) {
    std::vector<std::byte> block(20);
    REQUIRE(runtime::to_q4_1(*t.int4, {row, row + 1}, {first, first + 32}, block.data()));
    kernels::cpu::dequantize_row(kernels::dtype::q4_1, block.data(), values.data(), 32);
    return values[static_cast<std::size_t>(column - first)];
  }
  const auto slice = runtime::slice_rows(t, {row, row + 1});
  REQUIRE(slice);
  const auto at = static_cast<std::size_t>(row * slice->stored_columns + column);
  kernels::cpu::dequantize_row(t.type, slice->data + at, values.data(), 1);
  return values[0] * slice->scales.at(row, column);
}

}  // namespace

TEST_CASE("matrices of every way of quantising have the elements that their libraries expand",
          "[families]") {
  for (const std::string& kind : kinds()) {
    const auto source = opened(kind);
    for (const auto& e : quantised_elements(kind)) {
      const auto* tensor = source->find(renamed(e.tensor));
      INFO(kind << ": " << e.tensor << " [" << e.row << ", " << e.column << "]");
      REQUIRE(tensor != nullptr);
      const double got = element(*tensor, e.row, e.column);
      if (kind != "awq-rounded") {
        CHECK(got == e.value);
        continue;
      }
      // Of a scale of at most 2^-4, times a zero of at most 10.
      CHECK(std::abs(got - e.value) <= 10 * 0x1p-4 * 0x1p-11);
    }
  }
}

TEST_CASE("greedy tokens of every way of quantising are those of transformers", "[families]") {
  for (const std::string& kind : kinds()) check_tokens(kind, 1, {3});
  check_tokens("gptq-zeros", 1, {3}, true);
  check_tokens("float-channel", 1, {3}, true);
}

TEST_CASE("ranks that share a quantised model draw its tokens", "[families]") {
  for (const std::string& kind : kinds()) check_tokens(kind, 2, {2, 1});
  // Parts of a group, and of what a block of scales spans.
  for (const char* kind : {"fp8-block", "float-channel", "gptq", "awq", "packed-zeros"})
    check_tokens(kind, 3, {3});
}

TEST_CASE("plans say what ranks of quantised models hold", "[families]") {
  for (const std::string& kind : kinds()) {
    INFO(kind);
    const auto source = opened(kind);
    const auto shape = runtime::read_model_shape(*source);
    REQUIRE(shape);
    const auto* factory = runtime::find_model(shape->architecture).value();
    const auto estimate = factory->estimate(*shape, *source);
    REQUIRE(estimate);
    for (const std::uint32_t tp : {1U, 2U}) {
      const std::vector<std::uint32_t> layers{3};
      const auto layouts = runtime::lay_out(*shape, tp, layers);
      REQUIRE(layouts);
      for (const auto& layout : *layouts) {
        const auto device = kernels::open_device("cpu:0", {});
        REQUIRE(device);
        const auto model = factory->make(*shape, layout);
        REQUIRE(model->load(*source, **device, {}, {}));
        const auto planned = runtime::planned_weight_bytes(*shape, layout, *estimate, {});
        CHECK(static_cast<double>(planned) ==
              Approx(static_cast<double>(model->weight_bytes())).epsilon(0.03));
      }
    }
  }
}

TEST_CASE("plans for GPUs count 8-bit floats with a scale a row as they are stored", "[families]") {
  const auto planned = [](const std::string& kind, bool fp8, bool dequantize = false) {
    const auto source = opened(kind);
    const auto shape = runtime::read_model_shape(*source).value();
    const auto estimate = runtime::find_model("llama").value()->estimate(shape, *source).value();
    cluster_config config;
    config.nodes.emplace_back().devices = {"cuda:0"};
    config.model.dequantize = dequantize;
    auto rules = runtime::rules_for(config, shape, estimate);
    rules.keeps_f8 = rules.keeps_f8 && fp8;
    const std::vector<std::uint32_t> layers{3};
    return runtime::planned_weight_bytes(shape, runtime::lay_out(shape, 1, layers).value().front(),
                                         estimate, rules);
  };
  constexpr std::uint64_t elements = 3 * (2 * 128 * 128 + 2 * 64 * 128 + 3 * 384 * 128);
  for (const char* kind : {"fp8-tensor", "float-tensor", "float-channel"}) {
    CHECK(planned(kind, false) - planned(kind, true) == elements);
    CHECK(planned(kind, true, true) == planned(kind, false));
  }
  for (const char* kind : {"fp8-block", "float-block"})
    CHECK(planned(kind, false) == planned(kind, true));
}

}  // namespace dinfer::tests

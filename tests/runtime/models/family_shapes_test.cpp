// SPDX-License-Identifier: Apache-2.0
// What config.json and generation_config.json say of each family, and what is refused by name.
#include "runtime/models/config_json.hpp"
#include "runtime/models/generation_config.hpp"
#include "runtime/models/model.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/fake_source.hpp"

#include <algorithm>

namespace dinfer::tests {
namespace {

using Catch::Matchers::Contains;
using runtime::model_shape;

const std::string gpt2 = R"({"architectures": ["GPT2LMHeadModel"], "n_layer": 2, "n_embd": 96,
  "n_head": 12, "n_positions": 128, "n_inner": null, "vocab_size": 300, "eos_token_id": 299)";
const std::string opt = R"({"architectures": ["OPTForCausalLM"], "num_hidden_layers": 2,
  "hidden_size": 64, "ffn_dim": 160, "num_attention_heads": 4, "max_position_embeddings": 128,
  "vocab_size": 300)";
const std::string qwen2 = R"({"architectures": ["Qwen2ForCausalLM"], "num_hidden_layers": 2,
  "hidden_size": 64, "intermediate_size": 160, "num_attention_heads": 4, "num_key_value_heads": 2,
  "max_position_embeddings": 128, "vocab_size": 300, "sliding_window": 64)";

result<model_shape> parsed(const std::string& text) {
  return runtime::parse_config_json(text, "c.json", "tiny");
}

model_shape shape_of(const std::string& base, const std::string& more = "") {
  auto shape = parsed(base + (more.empty() ? "" : ", ") + more + "}");
  if (!shape) FAIL(shape.error().message);
  return std::move(*shape);
}

std::string refusal(const std::string& base, const std::string& more) {
  const auto shape = parsed(base + ", " + more + "}");
  INFO(more);
  REQUIRE_FALSE(shape);
  CHECK(shape.error().code == errc::unsupported);
  return shape.error().message;
}

}  // namespace

TEST_CASE("GPT-2's config.json is read by its own keys", "[models]") {
  const model_shape shape = shape_of(gpt2);
  CHECK(shape.architecture == "gpt2");
  CHECK(shape.mlp == 384);
  CHECK(shape.head_dim == 8);
  CHECK(shape.kv_heads == 12);
  CHECK(shape.activation == kernels::activation::gelu_tanh);
  CHECK(shape.norm == kernels::norm_kind::layer);
  CHECK((shape.fused_qkv && shape.learnt_positions && shape.tied_embeddings));
  CHECK(shape.first_position == 0);
  CHECK(shape.inverse_frequencies.empty());
  CHECK(shape.attention_scale == 0);
  CHECK(shape.eos_tokens == std::vector<token_id>{299});
  CHECK(shape_of(gpt2, R"("scale_attn_weights": false)").attention_scale == 1);
  CHECK(shape_of(gpt2, R"("activation_function": "gelu")").activation == kernels::activation::gelu);
  CHECK_FALSE(shape_of(gpt2, R"("tie_word_embeddings": false)").tied_embeddings);
  CHECK_THAT(refusal(gpt2, R"("scale_attn_by_inverse_layer_idx": true)"),
             Contains("scale_attn_by_inverse_layer_idx: true is not built for gpt2"));
  CHECK_THAT(refusal(gpt2, R"("activation_function": "swish")"), Contains("\"swish\""));
}

TEST_CASE("OPT's config.json is read in both of its forms", "[models]") {
  const model_shape plain = shape_of(opt);
  CHECK(plain.activation == kernels::activation::relu);
  CHECK(plain.first_position == 2);
  CHECK((plain.final_norm && plain.qkv_bias && plain.output_bias && plain.mlp_bias));
  CHECK_FALSE(plain.norm_after);
  CHECK(plain.table_columns() == 64);
  const model_shape after = shape_of(opt, R"("do_layer_norm_before": false,
                                             "word_embed_proj_dim": 32)");
  CHECK(after.norm_after);
  CHECK_FALSE(after.final_norm);
  CHECK(after.table_columns() == 32);
  CHECK_FALSE(shape_of(opt, R"("_remove_final_layer_norm": true)").final_norm);
  CHECK_FALSE(shape_of(opt, R"("enable_bias": false)").qkv_bias);
  CHECK_THAT(refusal(opt, R"("layer_norm_elementwise_affine": false)"),
             Contains("layer_norm_elementwise_affine"));
}

TEST_CASE("Qwen2's sliding window is refused where it is switched on", "[models]") {
  const model_shape shape = shape_of(qwen2);
  CHECK(shape.qkv_bias);
  CHECK_FALSE(shape.output_bias);
  CHECK(shape.rope == kernels::rope_style::half);
  CHECK(shape.max_positions == 128);
  CHECK_THAT(refusal(qwen2, R"("use_sliding_window": true)"),
             Contains("use_sliding_window: true is not built for qwen2"));
  CHECK_THAT(refusal(qwen2, R"("rope_scaling": {"type": "yarn", "factor": 4})"),
             Contains("\"yarn\" is not built"));
  CHECK_THAT(refusal(qwen2, R"("rope_scaling": {"rope_type": "dynamic", "factor": 4})"),
             Contains("\"dynamic\" is not built"));
}

TEST_CASE("a model lists every tensor that it reads, once", "[models]") {
  const auto names = [](const model_shape& shape) {
    const auto* factory = runtime::find_model(shape.architecture).value();
    std::vector<std::string> out;
    const auto listed = factory->tensors(shape);
    REQUIRE(listed);
    for (const auto& t : *listed) out.push_back(t.name);
    std::sort(out.begin(), out.end());
    CHECK(std::adjacent_find(out.begin(), out.end()) == out.end());
    return out;
  };
  const auto has = [](const std::vector<std::string>& all, const std::string& name) {
    return std::find(all.begin(), all.end(), name) != all.end();
  };
  const auto of_gpt2 = names(shape_of(gpt2));
  CHECK(of_gpt2.size() == 2 + 2 + 2 * 12);  // tables, final norm, layers
  CHECK((has(of_gpt2, "blk.1.attn_qkv.bias") && has(of_gpt2, "position_embd.weight")));
  const auto of_opt = names(shape_of(opt, R"("word_embed_proj_dim": 32)"));
  CHECK(of_opt.size() == 2 + 2 + 2 + 2 * 16);  // projections too
  CHECK((has(of_opt, "token_embd_in.weight") && has(of_opt, "output_proj.weight")));
  const auto of_qwen2 = names(shape_of(qwen2));
  CHECK(of_qwen2.size() == 3 + 2 * 12);
  CHECK((has(of_qwen2, "output.weight") && has(of_qwen2, "blk.0.attn_k.bias")));
}

TEST_CASE("generation_config.json adds its tokens to the end and its settings to requests",
          "[models]") {
  fake_source source;
  source.text_values["config.json"] = gpt2 + "}";
  source.text_values["generation_config.json"] =
      R"({"eos_token_id": [299, 7], "temperature": 0.6, "top_p": 0.9, "top_k": 40,
          "repetition_penalty": 1.05, "do_sample": true})";
  const auto shape = runtime::read_model_shape(source);
  REQUIRE(shape);
  CHECK(shape->eos_tokens == std::vector<token_id>{299, 7});
  const auto sampling = runtime::read_sampling_defaults(source);
  REQUIRE(sampling);
  CHECK(sampling->temperature == 0.6F);
  CHECK(sampling->top_p == 0.9F);
  CHECK(sampling->top_k == 40);
  CHECK(sampling->repetition_penalty == 1.05F);

  source.text_values["generation_config.json"] = R"({"temperature": 3})";
  const auto hot = runtime::read_sampling_defaults(source);
  REQUIRE_FALSE(hot);
  CHECK_THAT(hot.error().message, Contains("generation_config.json: temperature"));
  source.text_values["generation_config.json"] = R"({"eos_token_id": 300})";
  CHECK_THAT(runtime::read_model_shape(source).error().message,
             Contains("generation_config.json: eos_token_id: is 300; 0 to 299 fits"));
  source.text_values.erase("generation_config.json");
  CHECK(runtime::read_sampling_defaults(source)->temperature == 1.0F);
}

}  // namespace dinfer::tests

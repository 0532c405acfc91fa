// SPDX-License-Identifier: Apache-2.0
// GPT-2 (Radford et al. 2019): learnt positions, layer norms, one matrix for queries, keys and
// values, biases everywhere. Pure; any thread.
#include "runtime/models/config_json.hpp"
#include "runtime/models/decoder.hpp"
#include "runtime/models/gguf_keys.hpp"
#include "runtime/models/registry.hpp"

namespace dinfer::runtime {
namespace {

void describe(model_shape& shape) {
  shape.norm = kernels::norm_kind::layer;
  shape.activation = kernels::activation::gelu_tanh;
  shape.fused_qkv = shape.qkv_bias = shape.output_bias = shape.mlp_bias = true;
  shape.rope = kernels::rope_style::none;
  shape.learnt_positions = true;
}

result<void> read_gguf(const gguf_keys& meta, model_shape& shape) {
  describe(shape);
  DINFER_CHECK(read_gguf_sizes(meta, "attention.layer_norm_epsilon", shape));
  DINFER_CHECK(refuse_gguf_variants(meta, shape));
  DINFER_CHECK(read_gguf_heads(meta, shape));
  return read_gguf_vocabulary(meta, shape);
}

result<void> read_config(const config_section& root, model_shape& shape) {
  constexpr size_keys keys{"n_layer", "n_embd", "n_inner", "n_positions", "n_head"};
  describe(shape);
  DINFER_CHECK(refuse_config_switches(
      root, {"scale_attn_by_inverse_layer_idx", "add_cross_attention"}, shape));
  DINFER_CHECK(read_config_sizes(root, keys, true, shape));
  DINFER_CHECK(read_config_heads(root, keys, shape));
  DINFER_CHECK(read_config_activation(root, "gelu_new", shape));
  DINFER_CHECK(read_config_epsilon(root, "layer_norm_epsilon", 1e-5, shape));
  DINFER_TRY(const bool scaled, root.boolean("scale_attn_weights", true));
  if (!scaled) shape.attention_scale = 1;
  DINFER_TRY(shape.tied_embeddings, root.boolean("tie_word_embeddings", true));
  return {};
}

}  // namespace

const model_factory gpt2_factory =
    decoder_factory("gpt2", "GPT2LMHeadModel", &read_gguf, &read_config);

}  // namespace dinfer::runtime

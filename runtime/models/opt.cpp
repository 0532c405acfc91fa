// SPDX-License-Identifier: Apache-2.0
// OPT (Zhang et al. 2022): learnt positions that begin at row 2, layer norms, ReLU, biases. The
// 350m variant norms after its sums and has an embedding narrower than its layers. No GGUF has it.
// Pure; any thread.
#include "runtime/models/config_json.hpp"
#include "runtime/models/decoder.hpp"
#include "runtime/models/registry.hpp"

namespace dinfer::runtime {
namespace {

result<void> read_config(const config_section& root, model_shape& shape) {
  size_keys keys;
  keys.mlp = "ffn_dim";
  shape.norm = kernels::norm_kind::layer;
  shape.rope = kernels::rope_style::none;
  shape.learnt_positions = true;
  shape.first_position = 2;
  DINFER_CHECK(read_config_sizes(root, keys, false, shape));
  DINFER_CHECK(read_config_heads(root, keys, shape));
  DINFER_CHECK(read_config_activation(root, "relu", shape));
  DINFER_TRY(shape.embedding,
             root.integer("word_embed_proj_dim", 1, shape_limits::width, shape.hidden));
  DINFER_TRY(const bool biased, root.boolean("enable_bias", true));
  shape.qkv_bias = shape.output_bias = shape.mlp_bias = biased;
  DINFER_TRY(const bool before, root.boolean("do_layer_norm_before", true));
  shape.norm_after = !before;
  DINFER_TRY(const bool removed, root.boolean("_remove_final_layer_norm"));
  shape.final_norm = before && !removed;
  DINFER_TRY(const bool affine, root.boolean("layer_norm_elementwise_affine", true));
  if (!affine)
    return root.unsupported("layer_norm_elementwise_affine", "norms without a gain are not built");
  DINFER_TRY(shape.tied_embeddings, root.boolean("tie_word_embeddings", true));
  return {};
}

}  // namespace

const model_factory opt_factory = decoder_factory("opt", "OPTForCausalLM", nullptr, &read_config);

}  // namespace dinfer::runtime

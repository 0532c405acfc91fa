// SPDX-License-Identifier: Apache-2.0
// Llama (Touvron et al. 2023) and Qwen2 (Yang et al. 2024): rms norms, grouped-query attention,
// rotary positions, gated MLP; Qwen2 adds biases to queries, keys and values. Pure; any thread.
#include "runtime/models/config_json.hpp"
#include "runtime/models/decoder.hpp"
#include "runtime/models/gguf_keys.hpp"
#include "runtime/models/registry.hpp"

#include <fmt/format.h>

namespace dinfer::runtime {
namespace {

// Query and key rows of a GGUF llama are permuted so that pairs lie side by side; a qwen2's are
// not.
template <kernels::rope_style Style>
result<void> read_gguf(const gguf_keys& meta, model_shape& shape) {
  DINFER_CHECK(read_gguf_sizes(meta, "attention.layer_norm_rms_epsilon", shape));
  DINFER_CHECK(refuse_gguf_variants(meta, shape));
  DINFER_CHECK(read_gguf_heads(meta, shape));
  DINFER_CHECK(read_gguf_rope(meta, Style, shape));
  return read_gguf_vocabulary(meta, shape);
}

result<void> read_gguf_qwen2(const gguf_keys& meta, model_shape& shape) {
  shape.qkv_bias = true;
  return read_gguf<kernels::rope_style::half>(meta, shape);
}

result<void> read_config(const config_section& root, model_shape& shape) {
  DINFER_TRY(const auto activation, root.text("hidden_act", "silu"));
  if (activation != "silu")
    return root.unsupported("hidden_act",
                            fmt::format("\"{}\" is not built; \"silu\" is", activation));
  DINFER_TRY(const double turning, root.number("partial_rotary_factor", 1.0));
  if (turning != 1.0) return root.unsupported("partial_rotary_factor", "heads turn as a whole");
  DINFER_CHECK(read_config_sizes(root, {}, false, shape));
  DINFER_TRY(shape.tied_embeddings, root.boolean("tie_word_embeddings"));
  DINFER_CHECK(read_config_epsilon(root, "rms_norm_eps", 1e-6, shape));
  DINFER_CHECK(read_config_heads(root, {}, shape));
  return read_config_rope(root, shape);
}

result<void> read_config_llama(const config_section& root, model_shape& shape) {
  DINFER_CHECK(refuse_config_switches(root, {"attention_bias", "mlp_bias"}, shape));
  DINFER_CHECK(refuse_config_keys(root, {"sliding_window"}, shape));
  return read_config(root, shape);
}

// A sliding window stands in every file and means nothing unless it is switched on.
result<void> read_config_qwen2(const config_section& root, model_shape& shape) {
  DINFER_CHECK(refuse_config_switches(root, {"use_sliding_window"}, shape));
  shape.qkv_bias = true;
  return read_config(root, shape);
}

}  // namespace

const model_factory llama_factory = decoder_factory(
    "llama", "LlamaForCausalLM", &read_gguf<kernels::rope_style::interleaved>, &read_config_llama);
const model_factory qwen2_factory =
    decoder_factory("qwen2", "Qwen2ForCausalLM", &read_gguf_qwen2, &read_config_qwen2);

}  // namespace dinfer::runtime

// SPDX-License-Identifier: Apache-2.0
// Names of published checkpoints, as transformers writes them, and what models ask for.
#include "runtime/weights/hf_names.hpp"

#include "tests/support/catch.hpp"

namespace dinfer::tests {

using runtime::rename_hf;

TEST_CASE("llama and qwen2 names become the models' names", "[weights][hf]") {
  for (const auto* family : {"LlamaForCausalLM", "llama", "Qwen2ForCausalLM", "qwen2"}) {
    const auto name = [&](std::string_view from) { return rename_hf(family, from).name; };
    CHECK(name("model.embed_tokens.weight") == "token_embd.weight");
    CHECK(name("model.norm.weight") == "output_norm.weight");
    CHECK(name("lm_head.weight") == "output.weight");
    CHECK(name("model.layers.0.input_layernorm.weight") == "blk.0.attn_norm.weight");
    CHECK(name("model.layers.17.self_attn.q_proj.weight") == "blk.17.attn_q.weight");
    CHECK(name("model.layers.17.self_attn.k_proj.bias") == "blk.17.attn_k.bias");
    CHECK(name("model.layers.17.self_attn.v_proj.bias") == "blk.17.attn_v.bias");
    CHECK(name("model.layers.3.self_attn.o_proj.weight") == "blk.3.attn_output.weight");
    CHECK(name("model.layers.3.post_attention_layernorm.weight") == "blk.3.ffn_norm.weight");
    CHECK(name("model.layers.3.mlp.gate_proj.weight") == "blk.3.ffn_gate.weight");
    CHECK(name("model.layers.3.mlp.up_proj.weight") == "blk.3.ffn_up.weight");
    CHECK(name("model.layers.3.mlp.down_proj.weight") == "blk.3.ffn_down.weight");
    CHECK(rename_hf(family, "model.layers.3.self_attn.rotary_emb.inv_freq").ignored);
    CHECK_FALSE(rename_hf(family, "model.layers.3.mlp.up_proj.weight").transposed);
  }
}

TEST_CASE("gpt2 names lose their prefix, and matrices of its blocks are transposed",
          "[weights][hf]") {
  for (const std::string prefix : {"", "transformer."}) {
    const auto of = [&](const std::string& from) { return rename_hf("gpt2", prefix + from); };
    CHECK(of("wte.weight").name == "token_embd.weight");
    CHECK_FALSE(of("wte.weight").transposed);
    CHECK(of("wpe.weight").name == "position_embd.weight");
    CHECK(of("ln_f.bias").name == "output_norm.bias");
    CHECK(of("h.11.ln_1.weight").name == "blk.11.attn_norm.weight");
    CHECK(of("h.11.attn.c_attn.weight").name == "blk.11.attn_qkv.weight");
    CHECK(of("h.11.attn.c_attn.weight").transposed);
    CHECK(of("h.11.attn.c_attn.bias").name == "blk.11.attn_qkv.bias");
    CHECK_FALSE(of("h.11.attn.c_attn.bias").transposed);
    CHECK(of("h.0.attn.c_proj.weight").name == "blk.0.attn_output.weight");
    CHECK(of("h.0.ln_2.bias").name == "blk.0.ffn_norm.bias");
    CHECK(of("h.0.mlp.c_fc.weight").name == "blk.0.ffn_up.weight");
    CHECK(of("h.0.mlp.c_proj.weight").name == "blk.0.ffn_down.weight");
    CHECK(of("h.0.mlp.c_proj.weight").transposed);
    CHECK(of("h.0.attn.bias").ignored);
    CHECK(of("h.0.attn.masked_bias").ignored);
  }
  CHECK(rename_hf("GPT2LMHeadModel", "lm_head.weight").name == "output.weight");
}

TEST_CASE("opt names lose either prefix", "[weights][hf]") {
  for (const std::string prefix : {"model.decoder.", "decoder."}) {
    const auto name = [&](const std::string& from) {
      return rename_hf("OPTForCausalLM", prefix + from).name;
    };
    CHECK(name("embed_tokens.weight") == "token_embd.weight");
    CHECK(name("embed_positions.weight") == "position_embd.weight");
    CHECK(name("project_in.weight") == "token_embd_in.weight");
    CHECK(name("project_out.weight") == "output_proj.weight");
    CHECK(name("final_layer_norm.weight") == "output_norm.weight");
    CHECK(name("layers.2.self_attn_layer_norm.bias") == "blk.2.attn_norm.bias");
    CHECK(name("layers.2.self_attn.q_proj.bias") == "blk.2.attn_q.bias");
    CHECK(name("layers.2.self_attn.out_proj.weight") == "blk.2.attn_output.weight");
    CHECK(name("layers.2.final_layer_norm.weight") == "blk.2.ffn_norm.weight");
    CHECK(name("layers.2.fc1.weight") == "blk.2.ffn_up.weight");
    CHECK(name("layers.2.fc2.bias") == "blk.2.ffn_down.bias");
  }
}

TEST_CASE("names that no table has stay as they are", "[weights][hf]") {
  for (const std::string name :
       {"model.layers.3.self_attn.q_norm.weight", "model.layers.x.mlp.up_proj.weight",
        "model.layers..mlp.up_proj.weight", "model.layers.3", "model.layers.3.", "model.", "",
        "weight", ".weight", "model.norm", "model.embed_tokens.weight.extra"}) {
    CHECK(rename_hf("llama", name).name == name);
    CHECK_FALSE(rename_hf("llama", name).ignored);
  }
  CHECK(rename_hf("MixtralForCausalLM", "lm_head.weight").name == "lm_head.weight");
}

}  // namespace dinfer::tests

// SPDX-License-Identifier: Apache-2.0
// From the tensor names of Hugging Face checkpoints to the names that models ask for, which are
// GGUF's: "model.layers.3.self_attn.q_proj.weight" is "blk.3.attn_q.weight". One table a family.
// Pure; any thread.
//
//   models ask for          llama, qwen2                gpt2          opt
//   token_embd              embed_tokens                wte           embed_tokens
//   token_embd_in           -                           -             project_in
//   position_embd           -                           wpe           embed_positions
//   output_norm             norm                        ln_f          final_layer_norm
//   output_proj             -                           -             project_out
//   output                  lm_head                     lm_head       lm_head
//   blk.N.attn_norm         input_layernorm             ln_1          self_attn_layer_norm
//   blk.N.attn_qkv          -                           attn.c_attn   -
//   blk.N.attn_{q,k,v}      self_attn.{q,k,v}_proj      -             self_attn.{q,k,v}_proj
//   blk.N.attn_output       self_attn.o_proj            attn.c_proj   self_attn.out_proj
//   blk.N.ffn_norm          post_attention_layernorm    ln_2          final_layer_norm
//   blk.N.ffn_gate          mlp.gate_proj               -             -
//   blk.N.ffn_up            mlp.up_proj                 mlp.c_fc      fc1
//   blk.N.ffn_down          mlp.down_proj               mlp.c_proj    fc2
//
// each with ".weight" or ".bias". The parts of gpt2 that lie in blocks are stored transposed.
#pragma once

#include <string>
#include <string_view>

namespace dinfer::runtime {

struct hf_name {
  std::string name;         // what models ask for; as it was, when no table knows it
  bool transposed = false;  // the file has [in, out]
  bool ignored = false;     // a buffer that follows from the configuration; no model asks for it
};

// `architecture`: of config.json, architectures[0] ("GPT2LMHeadModel") or model_type ("gpt2").
// Names of other families stay as they are.
hf_name rename_hf(std::string_view architecture, std::string_view name);
bool has_hf_names(std::string_view architecture) noexcept;

}  // namespace dinfer::runtime

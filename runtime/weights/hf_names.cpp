// SPDX-License-Identifier: Apache-2.0
// The tables of hf_names.hpp and the one walk over them. Parts stand without ".weight" and ".bias",
// which both sides share.
#include "runtime/weights/hf_names.hpp"

#include <algorithm>
#include <array>
#include <span>

namespace dinfer::runtime {
namespace {

struct part {
  std::string_view from, to;
  bool transposed = false;
};

struct family {
  std::array<std::string_view, 2> architectures;  // the class and the model_type
  std::span<const std::string_view> prefixes;     // of everything but the head; one, or none
  std::string_view layers;                        // what stands before a layer's number
  std::span<const part> of_model, of_layer;
  std::span<const std::string_view> buffers;  // of a layer, whole names
};

constexpr std::array<std::string_view, 1> llama_prefixes{"model."};
constexpr std::array<part, 3> llama_model{
    {{"embed_tokens", "token_embd"}, {"norm", "output_norm"}, {"lm_head", "output"}}};
constexpr std::array<part, 9> llama_layer{{{"input_layernorm", "attn_norm"},
                                           {"self_attn.q_proj", "attn_q"},
                                           {"self_attn.k_proj", "attn_k"},
                                           {"self_attn.v_proj", "attn_v"},
                                           {"self_attn.o_proj", "attn_output"},
                                           {"post_attention_layernorm", "ffn_norm"},
                                           {"mlp.gate_proj", "ffn_gate"},
                                           {"mlp.up_proj", "ffn_up"},
                                           {"mlp.down_proj", "ffn_down"}}};
constexpr std::array<std::string_view, 1> llama_buffers{"self_attn.rotary_emb.inv_freq"};

constexpr std::array<std::string_view, 1> gpt2_prefixes{"transformer."};
constexpr std::array<part, 4> gpt2_model{{{"wte", "token_embd"},
                                          {"wpe", "position_embd"},
                                          {"ln_f", "output_norm"},
                                          {"lm_head", "output"}}};
constexpr std::array<part, 6> gpt2_layer{{{"ln_1", "attn_norm"},
                                          {"attn.c_attn", "attn_qkv", true},
                                          {"attn.c_proj", "attn_output", true},
                                          {"ln_2", "ffn_norm"},
                                          {"mlp.c_fc", "ffn_up", true},
                                          {"mlp.c_proj", "ffn_down", true}}};
constexpr std::array<std::string_view, 2> gpt2_buffers{"attn.bias", "attn.masked_bias"};

constexpr std::array<std::string_view, 2> opt_prefixes{"model.decoder.", "decoder."};
constexpr std::array<part, 6> opt_model{{{"embed_tokens", "token_embd"},
                                         {"embed_positions", "position_embd"},
                                         {"project_in", "token_embd_in"},
                                         {"project_out", "output_proj"},
                                         {"final_layer_norm", "output_norm"},
                                         {"lm_head", "output"}}};
constexpr std::array<part, 8> opt_layer{{{"self_attn_layer_norm", "attn_norm"},
                                         {"self_attn.q_proj", "attn_q"},
                                         {"self_attn.k_proj", "attn_k"},
                                         {"self_attn.v_proj", "attn_v"},
                                         {"self_attn.out_proj", "attn_output"},
                                         {"final_layer_norm", "ffn_norm"},
                                         {"fc1", "ffn_up"},
                                         {"fc2", "ffn_down"}}};

constexpr std::array<family, 4> families{{
    {{"LlamaForCausalLM", "llama"},
     llama_prefixes,
     "layers.",
     llama_model,
     llama_layer,
     llama_buffers},
    {{"Qwen2ForCausalLM", "qwen2"},
     llama_prefixes,
     "layers.",
     llama_model,
     llama_layer,
     llama_buffers},
    {{"GPT2LMHeadModel", "gpt2"}, gpt2_prefixes, "h.", gpt2_model, gpt2_layer, gpt2_buffers},
    {{"OPTForCausalLM", "opt"}, opt_prefixes, "layers.", opt_model, opt_layer, {}},
}};

// Takes "12." off the front of `name`; the digits, or nothing.
std::string_view take_number(std::string_view& name) {
  const std::size_t end = name.find_first_not_of("0123456789");
  if (end == 0 || end == name.npos || name[end] != '.') return {};
  const std::string_view digits = name.substr(0, end);
  name.remove_prefix(end + 1);
  return digits;
}

// `name` with the part before its last dot looked up; empty when no table has it.
hf_name look_up(std::span<const part> parts, std::string_view name) {
  const std::size_t dot = name.rfind('.');
  const std::string_view suffix = dot == name.npos ? "" : name.substr(dot);
  if (suffix != ".weight" && suffix != ".bias") return {};
  for (const part& p : parts) {
    if (p.from == name.substr(0, dot))
      return {std::string(p.to) + std::string(suffix), p.transposed && suffix == ".weight"};
  }
  return {};
}

hf_name rename(const family& of, std::string_view name) {
  for (const std::string_view prefix : of.prefixes) {
    if (!name.starts_with(prefix)) continue;
    name.remove_prefix(prefix.size());
    break;
  }
  if (!name.starts_with(of.layers)) return look_up(of.of_model, name);
  name.remove_prefix(of.layers.size());
  const std::string_view layer = take_number(name);
  if (layer.empty()) return {};
  if (std::find(of.buffers.begin(), of.buffers.end(), name) != of.buffers.end())
    return {"", false, true};
  hf_name found = look_up(of.of_layer, name);
  if (!found.name.empty()) found.name = "blk." + std::string(layer) + "." + found.name;
  return found;
}

const family* family_of(std::string_view architecture) noexcept {
  for (const family& f : families) {
    if (std::find(f.architectures.begin(), f.architectures.end(), architecture) !=
        f.architectures.end())
      return &f;
  }
  return nullptr;
}

}  // namespace

hf_name rename_hf(std::string_view architecture, std::string_view name) {
  const family* known = family_of(architecture);
  hf_name found = known != nullptr ? rename(*known, name) : hf_name{};
  if (found.name.empty()) found.name = name;
  return found;
}

bool has_hf_names(std::string_view architecture) noexcept {
  return family_of(architecture) != nullptr;
}

}  // namespace dinfer::runtime

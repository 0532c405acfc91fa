# SPDX-License-Identifier: Apache-2.0
"""The demo model's GGUF as a Hugging Face checkpoint has it: its config.json, and its tensors in float32 under transformers' names. q and
k rows are brought back from the interleaved to the half-split rotary order. Needs numpy and gguf."""
import numpy as np
from gguf.quants import dequantize

NAMES = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
         "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
         "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
ENDS = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}


def checkpoint_config(reader):
    field = lambda key: reader.fields[key].contents()
    return dict(
        vocab_size=len(field("tokenizer.ggml.tokens")), hidden_size=field("llama.embedding_length"),
        intermediate_size=field("llama.feed_forward_length"), num_hidden_layers=field("llama.block_count"),
        num_attention_heads=field("llama.attention.head_count"), num_key_value_heads=field("llama.attention.head_count_kv"),
        max_position_embeddings=field("llama.context_length"), rope_theta=field("llama.rope.freq_base"),
        rms_norm_eps=field("llama.attention.layer_norm_rms_epsilon"), tie_word_embeddings=True)


def checkpoint_tensors(reader):
    config, out = checkpoint_config(reader), {}
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        base = tensor.name.removesuffix(".weight")
        if base in ENDS:
            out[f"{ENDS[base]}.weight"] = values
            continue
        _, layer, part = base.split(".")
        if part in heads:
            rows = values.shape[0] // heads[part]
            values = values.reshape(heads[part], rows // 2, 2, -1).swapaxes(1, 2).reshape(values.shape)
        out[f"model.layers.{layer}.{NAMES[part]}.weight"] = np.ascontiguousarray(values)
    return out

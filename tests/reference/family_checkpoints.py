#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Small random checkpoints of every family, as transformers lays them out: for tests, which compare what the engine draws
from them with tests/golden/families.json (family_reference.py).

    family_checkpoints.py FOLDER      writes FOLDER/<family>/single (float32), FOLDER/<family>/sharded (bfloat16),
                                      FOLDER/<family>/<family>.gguf (float32) and FOLDER/broken/<what>

Needs numpy alone. Every value is a whole number of at most eight bits times a power of two, drawn as bytes from a fixed
seed: the same bits from every version of numpy, and exact in float32, float16 and bfloat16.
"""
import json
import math
import os
import pathlib
import shutil
import struct
import sys

import numpy as np


class Weights:
    """Tensors by their names in a checkpoint, drawn in the order in which they are asked for."""

    def __init__(self, seed):
        self.random, self.tensors = np.random.RandomState(seed), {}

    def numbers(self, *shape):
        return np.frombuffer(self.random.bytes(math.prod(shape)), np.int8).reshape(shape).astype(np.float32)

    def matrix(self, name, *shape, scale=1.0, inputs=None):
        """Of about `scale` / sqrt(inputs): a signed byte has a deviation of 74."""
        step = 2.0 ** round(math.log2(scale / 74 / math.sqrt(inputs or shape[-1])))
        self.tensors[name] = self.numbers(*shape) * np.float32(step)

    def gain(self, name, size):
        self.tensors[name] = 1 + np.floor(self.numbers(size) / 4) * np.float32(2.0 ** -7)

    def bias(self, name, size, scale=0.25):
        self.matrix(name, size, scale=scale, inputs=1)

    def norm(self, name, size, bias=0.25):
        self.gain(name + ".weight", size)
        self.bias(name + ".bias", size, bias)

    def linear(self, name, rows, columns, scale=1.0, bias=0.25):
        self.matrix(name + ".weight", rows, columns, scale=scale)
        if bias:
            self.bias(name + ".bias", rows, bias)


def gpt2():
    hidden, layers, vocabulary, positions = 96, 5, 50257, 256
    config = dict(architectures=["GPT2LMHeadModel"], model_type="gpt2", n_layer=layers, n_embd=hidden, n_head=12,
                  n_positions=positions, n_ctx=positions, n_inner=None, vocab_size=vocabulary,
                  activation_function="gelu_new", layer_norm_epsilon=1e-5, scale_attn_weights=True,
                  tie_word_embeddings=True, bos_token_id=50256, eos_token_id=50256, torch_dtype="float32")
    w = Weights(101)
    w.matrix("transformer.wte.weight", vocabulary, hidden)
    w.matrix("transformer.wpe.weight", positions, hidden, scale=4.0)
    for i in range(layers):
        layer = f"transformer.h.{i}."
        w.norm(layer + "ln_1", hidden)
        for name, inputs, outputs, scale in [("attn.c_attn", hidden, 3 * hidden, 4.0), ("attn.c_proj", hidden, hidden, 2.0),
                                             ("mlp.c_fc", hidden, 4 * hidden, 2.0), ("mlp.c_proj", 4 * hidden, hidden, 2.0)]:
            w.matrix(layer + name + ".weight", inputs, outputs, scale=scale, inputs=inputs)  # stored [in, out]
            w.bias(layer + name + ".bias", outputs)
            if name == "attn.c_proj":
                w.norm(layer + "ln_2", hidden)
    w.norm("transformer.ln_f", hidden)
    return config, w.tensors


def opt(seed, before, narrow):
    hidden, layers, mlp, vocabulary, positions = 64, 4, 160, 515, 128
    config = dict(architectures=["OPTForCausalLM"], model_type="opt", num_hidden_layers=layers, hidden_size=hidden,
                  ffn_dim=mlp, num_attention_heads=4, max_position_embeddings=positions, vocab_size=vocabulary,
                  word_embed_proj_dim=narrow or hidden, activation_function="relu", do_layer_norm_before=before,
                  enable_bias=True, layer_norm_elementwise_affine=True, _remove_final_layer_norm=False,
                  tie_word_embeddings=True, bos_token_id=2, eos_token_id=2, pad_token_id=1, torch_dtype="float32")
    w = Weights(seed)
    model = "model.decoder."
    # Norms after the sums pull all tokens together: sharper attention and small biases keep them apart.
    sharp, plain, wide, bias = (4.0, 2.0, 2.0, 0.25) if before else (8.0, 1.0, 0.25, 0.015625)
    w.matrix(model + "embed_tokens.weight", vocabulary, narrow or hidden)
    w.matrix(model + "embed_positions.weight", positions + 2, hidden, scale=2.0 if before else 4.0)
    if narrow:
        w.linear(model + "project_in", hidden, narrow, scale=4.0, bias=None)
        w.linear(model + "project_out", narrow, hidden, scale=2.0, bias=None)
    for i in range(layers):
        layer = f"{model}layers.{i}."
        w.norm(layer + "self_attn_layer_norm", hidden, bias)
        for part, scale in (("q_proj", sharp), ("k_proj", sharp), ("v_proj", plain), ("out_proj", 2 * plain)):
            w.linear(f"{layer}self_attn.{part}", hidden, hidden, scale=scale, bias=bias)
        w.norm(layer + "final_layer_norm", hidden, bias)
        w.linear(layer + "fc1", mlp, hidden, scale=2.0, bias=bias)
        w.linear(layer + "fc2", hidden, mlp, scale=wide, bias=bias)
    if before:
        w.norm(model + "final_layer_norm", hidden)
    return config, w.tensors


def llama(seed, name, layers, heads, kv_heads, mlp, vocabulary, bias, tied, **more):
    hidden, positions = 96, 256
    dim = hidden // heads
    config = dict(architectures=[name], hidden_size=hidden, intermediate_size=mlp, num_hidden_layers=layers,
                  num_attention_heads=heads, num_key_value_heads=kv_heads, vocab_size=vocabulary, hidden_act="silu",
                  max_position_embeddings=positions, rms_norm_eps=1e-6, rope_theta=10000.0, tie_word_embeddings=tied,
                  bos_token_id=1, eos_token_id=2, torch_dtype="float32", **more)
    w = Weights(seed)
    w.matrix("model.embed_tokens.weight", vocabulary, hidden, scale=1.0 if tied else math.sqrt(hidden))
    for i in range(layers):
        layer = f"model.layers.{i}."
        w.gain(layer + "input_layernorm.weight", hidden)
        for part, rows, scale in (("q_proj", heads * dim, 4.0), ("k_proj", kv_heads * dim, 4.0), ("v_proj", kv_heads * dim, 2.0)):
            w.linear(f"{layer}self_attn.{part}", rows, hidden, scale=scale, bias=bias)
        w.linear(layer + "self_attn.o_proj", hidden, heads * dim, scale=2.0, bias=None)
        w.gain(layer + "post_attention_layernorm.weight", hidden)
        w.linear(layer + "mlp.gate_proj", mlp, hidden, scale=2.0, bias=None)
        w.linear(layer + "mlp.up_proj", mlp, hidden, scale=2.0, bias=None)
        w.linear(layer + "mlp.down_proj", hidden, mlp, scale=2.0, bias=None)
    w.gain("model.norm.weight", hidden)
    if not tied:
        w.linear("lm_head", vocabulary, hidden, scale=2.0, bias=None)
    return config, w.tensors


LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32)
FAMILIES = {
    "gpt2": gpt2,
    "opt": lambda: opt(102, True, None),
    "opt-350m": lambda: opt(103, False, 32),
    # Three KV heads, six heads, a vocabulary and an MLP that nothing divides.
    "qwen2": lambda: llama(104, "Qwen2ForCausalLM", 5, 6, 3, 176, 509, 1.0, False, model_type="qwen2",
                           use_sliding_window=False, sliding_window=64, max_window_layers=3),
    "llama3": lambda: llama(105, "LlamaForCausalLM", 3, 4, 2, 160, 512, None, True, model_type="llama",
                            rope_scaling=LLAMA3),
    "llama-linear": lambda: llama(106, "LlamaForCausalLM", 3, 4, 2, 160, 512, None, True, model_type="llama",
                                  rope_scaling={"type": "linear", "factor": 4.0}),
}


def shift_positions(tensors):
    """As if positions began at another row."""
    name = "model.decoder.embed_positions.weight"
    tensors[name] = np.roll(tensors[name], 1, axis=0)


def drop_biases(part):
    def change(tensors):
        for name in tensors:
            if name.endswith(".bias") and part in name:
                tensors[name] = np.zeros_like(tensors[name])
    return change


# What a wrong engine would compute: family, changes to config.json, changes to tensors.
BROKEN = {
    "attention scale": ("gpt2", {"scale_attn_weights": False}, None),
    "gpt2 activation": ("gpt2", {"activation_function": "relu"}, None),
    "output bias": ("gpt2", {}, drop_biases("c_proj")),
    "position offset": ("opt", {}, shift_positions),
    "opt activation": ("opt", {"activation_function": "gelu"}, None),
    "norm order": ("opt-350m", {"do_layer_norm_before": True, "_remove_final_layer_norm": True}, None),
    "query, key and value biases": ("qwen2", {}, drop_biases("self_attn")),
    "llama3 scaling": ("llama3", {"rope_scaling": None}, None),
    "linear scaling": ("llama-linear", {"rope_scaling": None}, None),
}


def stored(values, kind):
    """The bytes of F32 or BF16, which here holds every value as it is."""
    bits = np.ascontiguousarray(values, "<f4").view("<u4")
    if kind == "F32":
        return bits.tobytes()
    assert not (bits & 0xFFFF).any()
    return (bits >> 16).astype("<u2").tobytes()


def write_safetensors(path, tensors, kind):
    header, at, data = {}, 0, []
    for name, values in tensors.items():
        data.append(stored(values, kind))
        header[name] = {"dtype": kind, "shape": list(values.shape), "data_offsets": [at, at + len(data[-1])]}
        at += len(data[-1])
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        out.writelines(data)


def write_checkpoint(folder, config, tensors, shards=1):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    if shards == 1:
        return write_safetensors(folder / "model.safetensors", tensors, "F32")
    names, where = list(tensors), {}
    for i in range(shards):
        own = {n: tensors[n] for n in names[i::shards]}  # a layer's tensors lie in several files
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        write_safetensors(folder / file, own, "BF16")
        where.update(dict.fromkeys(own, file))
    index = {"metadata": {"total_size": sum(t.size * 2 for t in tensors.values())}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index) + "\n")


def write_words(folder, vocabulary):
    """A tokenizer whose ids all have a word: the 256 bytes in GPT-2's alphabet, then numbered ones."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = plain + [256 + i for i in range(256 - len(plain))]
    words = [chr(letter) for letter in letters] + [f"w{i}" for i in range(256, vocabulary)]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")


def interleaved(matrix, heads):
    """Rows of queries or keys, so that pairs which turn together lie side by side: GGUF's order for llama."""
    return matrix.reshape(heads, 2, -1, matrix.shape[-1]).swapaxes(1, 2).reshape(matrix.shape)


GGUF_PARTS = {
    "wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm", "ln_1": "attn_norm", "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output", "ln_2": "ffn_norm", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
    "embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output", "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}


def gguf_tensors(config, tensors):
    out = {}
    for name, values in tensors.items():
        path, kind = name.removeprefix("transformer.").removeprefix("model.").rsplit(".", 1)
        prefix = ""
        if path.startswith(("h.", "layers.")):
            _, layer, path = path.split(".", 2)
            prefix = f"blk.{layer}."
        part = GGUF_PARTS[path]
        if ".c_" in path and kind == "weight" or path == "attn.c_attn" and kind == "weight":
            values = values.T
        if config["model_type"] == "llama" and part in ("attn_q", "attn_k"):
            values = interleaved(values, config["num_attention_heads" if part == "attn_q" else "num_key_value_heads"])
        out[f"{prefix}{part}.{kind}"] = values
    scaling = config.get("rope_scaling") or {}
    if scaling.get("rope_type") == "llama3":
        out["rope_freqs.weight"] = llama3_factors(config, scaling)
    return out


def llama3_factors(config, scaling):
    """What each frequency is divided by, as converters of the published models write it."""
    dim = config["hidden_size"] // config["num_attention_heads"]
    factors = []
    for i in range(0, dim, 2):
        wave = 2 * math.pi * config["rope_theta"] ** (i / dim)
        low = scaling["original_max_position_embeddings"] / scaling["low_freq_factor"]
        high = scaling["original_max_position_embeddings"] / scaling["high_freq_factor"]
        smooth = (scaling["original_max_position_embeddings"] / wave - scaling["low_freq_factor"]) / (
            scaling["high_freq_factor"] - scaling["low_freq_factor"])
        factors.append(1 if wave < high else scaling["factor"] if wave > low else
                       1 / ((1 - smooth) / scaling["factor"] + smooth))
    return np.array(factors, np.float32)


def gguf_metadata(config):
    kind = config["model_type"]
    pick = lambda a, b: config.get(a, config.get(b))
    keys = {"general.architecture": kind, "general.name": kind,
            f"{kind}.block_count": pick("n_layer", "num_hidden_layers"),
            f"{kind}.context_length": pick("n_positions", "max_position_embeddings"),
            f"{kind}.embedding_length": pick("n_embd", "hidden_size"),
            f"{kind}.feed_forward_length": config.get("intermediate_size") or 4 * config["n_embd"],
            f"{kind}.attention.head_count": pick("n_head", "num_attention_heads"),
            "tokenizer.ggml.eos_token_id": config["eos_token_id"]}
    if kind == "gpt2":
        keys["gpt2.attention.layer_norm_epsilon"] = config["layer_norm_epsilon"]
    else:
        keys[f"{kind}.attention.head_count_kv"] = config["num_key_value_heads"]
        keys[f"{kind}.attention.layer_norm_rms_epsilon"] = config["rms_norm_eps"]
        keys[f"{kind}.rope.freq_base"] = config["rope_theta"]
    scaling = config.get("rope_scaling") or {}
    if scaling.get("type") == "linear":
        keys |= {f"{kind}.rope.scaling.type": "linear", f"{kind}.rope.scaling.factor": scaling["factor"]}
    return keys


def write_gguf(path, metadata, tensors):
    def text(value):
        return struct.pack("<Q", len(value.encode())) + value.encode()

    def pair(value):
        if isinstance(value, str):
            return struct.pack("<I", 8) + text(value)
        return struct.pack("<If", 6, value) if isinstance(value, float) else struct.pack("<II", 4, value)

    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    for key, value in metadata.items():
        head += text(key) + pair(value)
    at = 0
    for name, values in tensors.items():
        head += text(name) + struct.pack(f"<I{values.ndim}QIQ", values.ndim, *reversed(values.shape), 0, at)
        at += values.nbytes + -values.nbytes % 32
    with open(path, "wb") as out:
        out.write(head + b"\0" * (-len(head) % 32))
        for values in tensors.values():
            data = np.ascontiguousarray(values, "<f4").tobytes()
            out.write(data + b"\0" * (-len(data) % 32))


def write_broken(folder, whole, family, what, changes, damage):
    config, tensors = whole
    target = folder / "broken" / what
    if damage is None:
        target.mkdir(parents=True)
        (target / "config.json").write_text(json.dumps({**config, **changes}, indent=2) + "\n")
        os.link(folder / family / "single" / "model.safetensors", target / "model.safetensors")
        return
    tensors = dict(tensors)
    damage(tensors)
    write_checkpoint(target, {**config, **changes}, tensors)


def write_all(folder):
    shutil.rmtree(folder, ignore_errors=True)
    for family, make in FAMILIES.items():
        config, tensors = make()
        write_checkpoint(folder / family / "single", config, tensors)
        write_words(folder / family / "single", config["vocab_size"])
        write_checkpoint(folder / family / "sharded", config, tensors, 3)
        if config["model_type"] != "opt":
            write_gguf(folder / family / f"{family}.gguf", gguf_metadata(config), gguf_tensors(config, tensors))
        for what, (of, changes, damage) in BROKEN.items():
            if of == family:
                write_broken(folder, (config, tensors), family, what, changes, damage)


if __name__ == "__main__":
    write_all(pathlib.Path(sys.argv[1]))

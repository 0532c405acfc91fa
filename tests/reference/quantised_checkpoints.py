#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Small random Llama checkpoints, quantised in every way that Hugging Face checkpoints are: for tests, which compare what
the engine draws from them with tests/golden/quantised.json (quantised_reference.py).

    quantised_checkpoints.py FOLDER      writes FOLDER/<kind>

Needs numpy alone. Numbers are drawn as bytes from a fixed seed and never rounded, so every version of numpy makes the same files.
"""
import json
import math
import pathlib
import shutil
import struct
import sys

import numpy as np

from family_checkpoints import write_words

HIDDEN, LAYERS, HEADS, KV_HEADS, MLP, VOCABULARY, POSITIONS = 128, 3, 4, 2, 384, 512, 256
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # the column that each nibble of a word holds, from the lowest


class Random:
    def __init__(self, seed):
        self.random = np.random.RandomState(seed)

    def bytes(self, *shape):
        return np.frombuffer(self.random.bytes(math.prod(shape)), np.uint8).reshape(shape).astype(np.int64)

    def floats(self, *shape, step):
        return ((self.bytes(*shape) - 128) * step).astype(np.float32)

    def scales(self, *shape, size, bits):
        """From size to 2 size, of 1 + `bits` bits."""
        step = self.bytes(*shape) * 256 + self.bytes(*shape)
        return ((1 + (step & (1 << bits) - 1) / (1 << bits)) * size).astype(np.float32)


def power(value):
    return 2.0 ** round(math.log2(value))


def raw(kind, values):
    """dtype, shape and bytes of a tensor; values that the type holds as they are."""
    values = np.asarray(values)
    if kind == "BF16":
        bits = np.ascontiguousarray(values, "<f4").view("<u4")
        assert not (bits & 0xFFFF).any()
        return kind, values.shape, (bits >> 16).astype("<u2").tobytes()
    form = {"F32": "<f4", "F16": "<f2", "I32": "<u4", "I64": "<i8", "F8_E4M3": "u1"}[kind]
    if kind == "F16":
        assert (values.astype(np.float16) == values).all()
    return kind, values.shape, np.ascontiguousarray(values).astype(form).tobytes()


def words(numbers, axis):
    """Eight numbers of four bits a word along an axis, the first lowest; filled up with zeros."""
    numbers = np.moveaxis(numbers, axis, -1)
    numbers = np.pad(numbers, [(0, 0)] * (numbers.ndim - 1) + [(0, -numbers.shape[-1] % 8)])
    numbers = numbers.reshape(*numbers.shape[:-1], -1, 8)
    packed = np.zeros(numbers.shape[:-1], np.int64)
    for i in range(8):
        packed |= numbers[..., i] << 4 * i
    return np.moveaxis(packed, -1, axis)


def awq_words(numbers):
    """[rows, columns] to [rows, columns / 8] in AWQ's order."""
    return words(numbers.reshape(len(numbers), -1, 8)[..., list(AWQ_ORDER)].reshape(numbers.shape), 1)


class Kind:
    """How one kind stores a matrix: tensors by the part of the name behind the module's."""

    def __init__(self, config, matrix, head=False, shards=1):
        self.config, self.matrix, self.head, self.shards = config, matrix, head, shards


def f8_codes(random, rows, columns):
    codes = random.bytes(rows, columns)
    return np.where((codes & 127) >= 120, codes & 0x87 | 8, codes)  # to 240, no NaN; deviation about 60


def f8_size(columns, scale):
    return power(scale / 60 / math.sqrt(columns))


def f8_tensor(random, rows, columns, scale):
    return {"weight": raw("F8_E4M3", f8_codes(random, rows, columns)),
            "weight_scale": raw("F32", random.scales(size=f8_size(columns, scale), bits=16)),
            "input_scale": raw("F32", np.float32(0.5))}


def f8_one(random, rows, columns, scale):
    parts = f8_tensor(random, rows, columns, scale)
    kind, _, data = parts["weight_scale"]
    return {"weight": parts["weight"], "weight_scale": (kind, (1,), data)}


def f8_channel(random, rows, columns, scale):
    return {"weight": raw("F8_E4M3", f8_codes(random, rows, columns)),
            "weight_scale": raw("BF16", random.scales(rows, 1, size=f8_size(columns, scale), bits=7))}


def f8_block(name):
    def matrix(random, rows, columns, scale):
        blocks = -(-rows // 128), -(-columns // 128)
        return {"weight": raw("F8_E4M3", f8_codes(random, rows, columns)),
                name: raw("F32", random.scales(*blocks, size=f8_size(columns, scale), bits=16))}
    return matrix


def int4_numbers(random, rows, columns, scale, group, symmetric, bits):
    """Around their zeros: a matrix that is not would pull all tokens together."""
    groups = rows, columns // group
    zeros = np.full(groups, 8) if symmetric else 5 + random.bytes(*groups) % 6
    offsets = random.bytes(rows, columns)
    numbers = offsets & 15 if symmetric else np.repeat(zeros, group, 1) + offsets % 11 - 5
    scales = random.scales(*groups, size=power(scale / 5 / math.sqrt(columns)), bits=bits)
    return numbers, zeros, scales


def gptq_parts(numbers, zeros, scales, less):
    return {"qweight": raw("I32", words(numbers.T, 0)), "qzeros": raw("I32", words((zeros.T - less) & 15, 1)),
            "scales": raw("F16", scales.T)}


def awq_parts(numbers, zeros, scales):
    return {"qweight": raw("I32", awq_words(numbers.T)), "qzeros": raw("I32", awq_words(zeros.T)), "scales": raw("F16", scales.T)}


def packed_parts(numbers, zeros, scales, kind):
    """Without zeros where they are None."""
    parts = {"weight_packed": raw("I32", words(numbers, 1)), "weight_scale": raw(kind, scales),
             "weight_shape": raw("I64", list(numbers.shape))}
    return parts if zeros is None else {**parts, "weight_zero_point": raw("I32", words(zeros, 0))}


def gptq(group, symmetric, less, bits=5, order=True):
    def matrix(random, rows, columns, scale):
        size = group or columns
        numbers, zeros, scales = int4_numbers(random, rows, columns, scale, size, symmetric, bits)
        parts = gptq_parts(numbers, zeros, scales, less)
        if order:
            parts["g_idx"] = raw("I32", np.arange(columns) // size)
        return parts
    return matrix


def awq(group, bits):
    def matrix(random, rows, columns, scale):
        return awq_parts(*int4_numbers(random, rows, columns, scale, group, False, bits))
    return matrix


def packed(group, symmetric, kind, bits):
    def matrix(random, rows, columns, scale):
        numbers, zeros, scales = int4_numbers(random, rows, columns, scale, group or columns, symmetric, bits)
        return packed_parts(numbers, None if symmetric else zeros, scales, kind)
    return matrix


def compressed(form, weights):
    group = {"targets": ["Linear"], "weights": {"dynamic": False, "symmetric": True, "observer": "minmax", **weights},
             "input_activations": None, "output_activations": None}
    if weights["type"] == "float":
        group["input_activations"] = {"num_bits": 8, "type": "float", "dynamic": True, "strategy": "token"}
    return dict(quant_method="compressed-tensors", format=form, config_groups={"group_0": group}, ignore=["lm_head"],
                kv_cache_scheme=None, quantization_status="compressed", global_compression_ratio=None)


def floats(strategy, **more):
    return compressed("float-quantized", dict(num_bits=8, type="float", strategy=strategy, **more))


def packs(group, symmetric):
    return compressed("pack-quantized", dict(num_bits=4, type="int", strategy="group" if group else "channel",
                                             group_size=group, symmetric=symmetric, actorder=None))


def gptq_config(group, symmetric, form=None):
    config = dict(quant_method="gptq", bits=4, group_size=group or -1, desc_act=False, sym=symmetric, damp_percent=0.1)
    return {**config, "checkpoint_format": form} if form else config


KINDS = {
    "fp8-tensor": Kind(dict(quant_method="fp8", activation_scheme="static", ignored_layers=["lm_head"]), f8_tensor),
    "fp8-block": Kind(dict(quant_method="fp8", activation_scheme="dynamic", fmt="e4m3", weight_block_size=[128, 128]),
                      f8_block("weight_scale_inv")),
    "float-tensor": Kind(floats("tensor"), f8_one),
    "float-channel": Kind(floats("channel"), f8_channel, shards=2),
    "float-block": Kind(floats("block", block_structure=[128, 128]), f8_block("weight_scale")),
    "gptq": Kind(gptq_config(128, True), gptq(128, True, 1)),
    "gptq-zeros": Kind(gptq_config(32, False, "gptq"), gptq(32, False, 1), head=True, shards=2),
    "gptq-v2": Kind(gptq_config(64, False, "gptq_v2"), gptq(64, False, 0, order=False)),
    "gptq-rows": Kind(gptq_config(None, True), gptq(None, True, 1)),
    "awq": Kind(dict(quant_method="awq", bits=4, group_size=64, zero_point=True, version="gemm",
                     modules_to_not_convert=None), awq(64, 5)),
    "awq-rounded": Kind(dict(quant_method="awq", bits=4, group_size=128, zero_point=True, version="GEMM"), awq(128, 10)),
    "packed": Kind(packs(128, True), packed(128, True, "BF16", 7)),
    "packed-zeros": Kind(packs(32, False), packed(32, False, "F16", 5)),
    "packed-rows": Kind(packs(None, True), packed(None, True, "F32", 5)),
}


def llama(kind, seed):
    random, dim = Random(seed), HIDDEN // HEADS
    config = dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_size=HIDDEN, intermediate_size=MLP,
                  num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=KV_HEADS,
                  vocab_size=VOCABULARY, hidden_act="silu", max_position_embeddings=POSITIONS, rms_norm_eps=1e-6,
                  rope_theta=10000.0, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2,
                  torch_dtype="float16", quantization_config=kind.config)
    tensors = {"model.embed_tokens.weight": raw("F16", random.floats(VOCABULARY, HIDDEN, step=2.0 ** -4))}

    def gain(name):
        tensors[name] = raw("F16", 1 + random.floats(HIDDEN, step=2.0 ** -9))

    def linear(name, rows, columns, scale=2.0):
        for part, tensor in kind.matrix(random, rows, columns, scale).items():
            tensors[f"{name}.{part}"] = tensor

    for i in range(LAYERS):
        layer = f"model.layers.{i}."
        gain(layer + "input_layernorm.weight")
        for part, rows, scale in (("q", HIDDEN, 4.0), ("k", KV_HEADS * dim, 4.0), ("v", KV_HEADS * dim, 2.0), ("o", HIDDEN, 2.0)):
            linear(f"{layer}self_attn.{part}_proj", rows, HIDDEN, scale)
        gain(layer + "post_attention_layernorm.weight")
        for part, rows, columns in (("gate", MLP, HIDDEN), ("up", MLP, HIDDEN), ("down", HIDDEN, MLP)):
            linear(f"{layer}mlp.{part}_proj", rows, columns)
    gain("model.norm.weight")
    if kind.head:
        linear("lm_head", VOCABULARY, HIDDEN)
    else:
        tensors["lm_head.weight"] = raw("F16", random.floats(VOCABULARY, HIDDEN, step=2.0 ** -9))
    return config, tensors


def write_file(path, tensors):
    header, at = {}, 0
    for name, (kind, shape, data) in tensors.items():
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values()))


def write_checkpoint(folder, config, tensors, shards):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    if shards == 1:
        return write_file(folder / "model.safetensors", tensors)
    names, where = list(tensors), {}
    for i in range(shards):
        own = {n: tensors[n] for n in names[i::shards]}  # a matrix's parts lie in several files
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        write_file(folder / file, own)
        where.update(dict.fromkeys(own, file))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}) + "\n")


def write_all(folder):
    shutil.rmtree(folder, ignore_errors=True)
    for seed, (name, kind) in enumerate(KINDS.items(), 300):
        write_checkpoint(folder / name, *llama(kind, seed), kind.shards)
        write_words(folder / name, VOCABULARY)


if __name__ == "__main__":
    write_all(pathlib.Path(sys.argv[1]))

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Asks transformers (float32) for greedy continuations of the checkpoints of quantised_checkpoints.py, whose matrices it
expands by other libraries' own code, and stores them.

    pip install torch transformers safetensors numpy compressed-tensors
    pip download --no-deps --no-binary :all: autoawq        and unpack it: awq/utils/packing_utils.py is wanted
    tests/reference/quantised_checkpoints.py build/quantised
    tests/reference/quantised_reference.py build/quantised PACKING_UTILS.py tests/golden/quantised.json

8-bit floats are torch's float8_e4m3fn; compressed-tensors unpacks its own words, AutoAWQ its own, with the zeros; GPTQ's are
taken apart here as AutoGPTQ's QuantLinear documents: scales[g] * (w - zeros[g]), zeros + 1 (modulo 16) in the first format.
Prompts of random tokens are tried until six have, at each of their steps, a best logit that leads by LEAST_MARGIN. Also
stores a few elements of every kind's matrices. Never run by scripts/test.
"""
import importlib.util
import json
import pathlib
import statistics
import sys

import numpy as np
import safetensors.torch
import torch
import transformers
from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32

from family_reference import greedy

PROMPTS, TOKENS, LEAST_MARGIN = 6, 32, 1e-3
ROUNDED_MARGIN = 2e-2  # of scales whose product with a zero is no 16-bit float
SAMPLES = 24


def library(path):
    spec = importlib.util.spec_from_file_location("packing_utils", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def nibbles(words, axis):
    """Of int32, the lowest first, along an axis."""
    parts = [(words >> 4 * i) & 15 for i in range(8)]
    return torch.stack(parts, axis + 1).reshape([n * (8 if i == axis else 1) for i, n in enumerate(words.shape)])


def expand_gptq(parts, config):
    numbers, zeros = nibbles(parts["qweight"], 0), nibbles(parts["qzeros"], 1)
    if config.get("checkpoint_format", "gptq") == "gptq":
        zeros = (zeros + 1) & 15
    rows = len(numbers)
    group = config["group_size"] if config["group_size"] > 0 else rows
    of = parts.get("g_idx", torch.arange(rows) // group).long()
    return (parts["scales"].float()[of] * (numbers - zeros[of])).T


def expand_awq(parts, config, awq):
    return awq.dequantize_gemm(parts["qweight"], parts["qzeros"], parts["scales"].float(), 4, config["group_size"]).T


def expand_packed(parts):
    shape = parts["weight_shape"].tolist()
    numbers = unpack_from_int32(parts["weight_packed"], 4, torch.Size(shape)).float()
    scales = parts["weight_scale"].float()
    group = shape[1] // scales.shape[1]
    zeros = torch.zeros(scales.shape)
    if "weight_zero_point" in parts:
        zeros = unpack_from_int32(parts["weight_zero_point"], 4, torch.Size(scales.shape), packed_dim=0).float()
    return (numbers - zeros.repeat_interleave(group, 1)) * scales.repeat_interleave(group, 1)


def expand_f8(parts, block):
    weight = parts["weight"].float()
    scales = parts.get("weight_scale_inv", parts.get("weight_scale")).float()
    if not block:
        return weight * scales
    rows, columns = weight.shape
    return weight * scales.repeat_interleave(128, 0)[:rows].repeat_interleave(128, 1)[:, :columns]


def expand(parts, config, kind, awq):
    if "qweight" in parts:
        return expand_awq(parts, config, awq) if config["quant_method"] == "awq" else expand_gptq(parts, config)
    return expand_packed(parts) if "weight_packed" in parts else expand_f8(parts, "block" in kind)


def expanded(folder, kind, awq):
    config = json.loads((folder / kind / "config.json").read_text())
    how = config.pop("quantization_config")
    stored = {}
    for file in sorted((folder / kind).glob("*.safetensors")):
        stored |= safetensors.torch.load_file(file)
    modules = {}
    for name, tensor in stored.items():
        module, part = name.rsplit(".", 1)
        modules.setdefault(module, {})[part] = tensor
    tensors = {}
    for module, parts in modules.items():
        plain = len(parts) == 1 and parts.get("weight", torch.zeros(1)).dtype == torch.float16
        tensors[module + ".weight"] = parts["weight"].float() if plain else expand(parts, how, kind, awq).float()
    return config, {name: t.contiguous() for name, t in tensors.items()}


def load(config, tensors):
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**config, "torch_dtype": "float32"},
                                                                   attn_implementation="eager")).float()
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    assert not unexpected and all("inv_freq" in m for m in missing), (missing, unexpected)
    return model.eval()


def answers_of(kind, model):
    least = ROUNDED_MARGIN if "rounded" in kind else LEAST_MARGIN
    random, answers = np.random.RandomState(7), []
    for attempt in range(400):
        prompt = random.randint(3, model.config.vocab_size, size=random.randint(4, 32)).tolist()
        tokens, margin = greedy(model, prompt, TOKENS)
        if margin >= least:
            answers.append({"prompt": prompt, "tokens": tokens, "least_margin": round(margin, 5)})
        if len(answers) == PROMPTS:
            break
    distinct = [len(set(a["tokens"])) for a in answers]
    print(f"{kind}: {attempt + 1} prompts tried, distinct tokens {distinct}", flush=True)
    assert len(answers) == PROMPTS and statistics.median(distinct) >= 12
    return answers


def samples_of(tensors):
    """[tensor, row, column, value] of elements here and there in quantised matrices."""
    random, out = np.random.RandomState(11), []
    names = sorted(n for n in tensors if "proj" in n)
    for _ in range(SAMPLES):
        name = names[random.randint(len(names))]
        row, column = (int(random.randint(n)) for n in tensors[name].shape)
        out.append([name, row, column, float(tensors[name][row, column])])
    return out


def main():
    torch.set_num_threads(1)
    folder, awq, target = pathlib.Path(sys.argv[1]), library(sys.argv[2]), pathlib.Path(sys.argv[3])
    answers, samples = {}, {}
    for kind in sorted(p.name for p in folder.iterdir()):
        config, tensors = expanded(folder, kind, awq)
        answers[kind], samples[kind] = answers_of(kind, load(config, tensors)), samples_of(tensors)
    block = lambda all: ",\n".join(
        f'"{kind}": [\n' + ",\n".join(json.dumps(a, separators=(",", ":")) for a in own) + "]" for kind, own in all.items())
    target.write_text(f'{{"source": "transformers {transformers.__version__}, torch {torch.__version__}, float32, greedy", '
                      f'"families": {{\n{block(answers)}\n}},\n"elements": {{\n{block(samples)}\n}}}}\n')


if __name__ == "__main__":
    main()

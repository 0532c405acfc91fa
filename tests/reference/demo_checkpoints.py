#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The demo model in the ways that weights come quantised, for tests/gpu/quality_table.py.

    demo_checkpoints.py MODEL.gguf FOLDER [KIND...]      writes FOLDER/<kind>, or FOLDER/<kind>.gguf; those that are there stay

Matrices of layers, as MODEL.gguf has them in float32, are rounded to the nearest number that the kind has, each group by its own scale:
what calibration would gain is not there. Everything else is bfloat16 in checkpoints and stays as it is in GGUF files. Checkpoints bring
no tokenizer. Needs numpy and gguf, which knows Q4_0 to Q8_0; no matrix but ffn_down has the 256 columns of a block of Q4_K and its like."""
import concurrent.futures
import pathlib
import shutil
import struct
import sys

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize, quantize

from quantised_checkpoints import awq_parts, floats, gptq_config, gptq_parts, packed_parts, packs, raw, write_checkpoint
from smollm2_weights import checkpoint_config, checkpoint_tensors

BEGINS = pathlib.Path(__file__).resolve().parent.parent / "golden/f8_e4m3.txt"  # torch's, see f8_reference.py
LARGEST_F8, F8_BLOCK = 448.0, 128


def bfloat16(values):
    """Rounded to the nearest, ties to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).view(np.float32)


def f8_codes(values):
    begins = np.array([int(line.split()[1], 16) for line in BEGINS.read_text().splitlines()], np.uint32).view(np.float32)
    codes = np.searchsorted(begins, np.abs(values), side="right") - 1
    return codes | np.signbit(values) * 128


def f8_channel(w):
    scales = np.abs(w).max(1, keepdims=True) / np.float32(LARGEST_F8)
    return {"weight": raw("F8_E4M3", f8_codes(w / scales)), "weight_scale": raw("F32", scales)}


def f8_block(w):
    rows, columns = (-(-n // F8_BLOCK) for n in w.shape)
    filled = np.pad(np.abs(w), [(0, rows * F8_BLOCK - w.shape[0]), (0, columns * F8_BLOCK - w.shape[1])])
    scales = filled.reshape(rows, F8_BLOCK, columns, F8_BLOCK).max((1, 3)) / np.float32(LARGEST_F8)
    each = scales.repeat(F8_BLOCK, 0)[:w.shape[0]].repeat(F8_BLOCK, 1)[:, :w.shape[1]]
    return {"weight": raw("F8_E4M3", f8_codes(w / each)), "weight_scale_inv": raw("F32", scales)}


def int4(w, group, symmetric):
    """Numbers of four bits, and the zero and the scale (a float16) of each group: w is about (number - zero) scale."""
    grouped = w.reshape(len(w), -1, group)
    low, high = grouped.min(2).clip(max=0), grouped.max(2).clip(min=0)
    steps = np.maximum(high / 7, low / -8) if symmetric else (high - low) / 15
    scales = np.maximum(steps, 2.0 ** -20).astype(np.float16).astype(np.float32)
    zeros = np.full(scales.shape, 8) if symmetric else np.rint(-low / scales).astype(np.int64).clip(0, 15)
    numbers = np.rint(grouped / scales[..., None]).astype(np.int64) + zeros[..., None]
    return numbers.clip(0, 15).reshape(w.shape), zeros, scales


def packed(w):
    return packed_parts(*int4(w, 32, False), "F16")


# quantization_config, and how a matrix is stored
CHECKPOINTS = {
    "fp8-channel": (floats("channel"), f8_channel),
    "fp8-block": (dict(quant_method="fp8", activation_scheme="dynamic", fmt="e4m3", weight_block_size=[F8_BLOCK, F8_BLOCK]), f8_block),
    "gptq": (gptq_config(64, True), lambda w: gptq_parts(*int4(w, 64, True), 1)),
    "awq": (dict(quant_method="awq", bits=4, group_size=64, zero_point=True, version="gemm"), lambda w: awq_parts(*int4(w, 64, False))),
    "compressed": (packs(32, False), packed),
}
FILES = ("Q4_0", "Q5_0", "Q5_1", "Q8_0")  # Q4_1 is what the demo model comes in


def write_kind(reader, kind, folder):
    quantisation, parts_of = CHECKPOINTS[kind]
    config = dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_act="silu", torch_dtype="bfloat16", bos_token_id=1,
                  eos_token_id=2, **checkpoint_config(reader), quantization_config=quantisation)
    tensors = {}
    for name, values in checkpoint_tensors(reader).items():
        if "_proj." not in name:
            tensors[name] = raw("BF16", bfloat16(values))
            continue
        for part, tensor in parts_of(values).items():
            tensors[f"{name.removesuffix('weight')}{part}"] = tensor
    write_checkpoint(folder, config, tensors, 1)


def write_file(reader, kind, path):
    """The same metadata, then matrices of layers in another type."""
    wanted = GGMLQuantizationType[kind]
    head = reader.data[:reader.tensors[0].field.offset].tobytes()
    data, at = [], 0
    for t in reader.tensors:
        matrix = t.name.startswith("blk.") and len(t.shape) == 2
        kept, form = (quantize(dequantize(t.data, t.tensor_type), wanted), wanted) if matrix else (t.data, t.tensor_type)
        data.append(np.ascontiguousarray(kept).tobytes())
        shape = [int(n) for n in t.shape]
        head += struct.pack("<Q", len(t.name)) + t.name.encode() + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, form, at)
        at += len(data[-1]) + -len(data[-1]) % 32
    with open(path, "wb") as out:
        out.write(head + b"\0" * (-len(head) % 32))
        for some in data:
            out.write(some + b"\0" * (-len(some) % 32))


def path_of(folder, kind):
    return pathlib.Path(folder) / (f"{kind}.gguf" if kind in FILES else kind)


def write_one(model, folder, kind):
    if path_of(folder, kind).exists():
        return
    part = folder / f"{kind}.part"
    shutil.rmtree(part) if part.is_dir() else part.unlink(missing_ok=True)
    (write_file if kind in FILES else write_kind)(GGUFReader(model), kind, part)
    part.rename(path_of(folder, kind))


def write_all(model, folder, kinds):
    folder.mkdir(parents=True, exist_ok=True)
    with concurrent.futures.ProcessPoolExecutor() as pool:
        list(pool.map(write_one, *zip(*((model, folder, kind) for kind in kinds))))


if __name__ == "__main__":
    write_all(sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3:] or [*CHECKPOINTS, *FILES])

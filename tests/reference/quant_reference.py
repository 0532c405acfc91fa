# SPDX-License-Identifier: Apache-2.0
# Writes tests/golden/quant_blocks.txt: random blocks of every weight type and what the `gguf`
# package of PyPI expands them to, as the bits of 32-bit floats. Run: python quant_reference.py
import pathlib

import gguf
import numpy as np

TYPES = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]
BLOCKS = 8
SPECIAL_SCALES = [0x0000, 0x8000, 0x0001, 0x83FF, 0x7BFF, 0xFBFF]  # zeros, subnormals, largest


def random_blocks(name, rng):
    kind = gguf.GGMLQuantizationType[name]
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    count = BLOCKS if elements > 1 else BLOCKS * 8
    data = rng.integers(0, 256, (count, size), dtype=np.uint8)
    if elements == 1:  # keep NaN out: its payload may change on the way
        while True:
            bad = ~np.isfinite(gguf.dequantize(data.reshape(-1), kind))
            if not bad.any():
                return data
            data[bad] = rng.integers(0, 256, (int(bad.sum()), size), dtype=np.uint8)
    halves = {"Q6_K": [208], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q4_1": [0, 2], "Q5_1": [0, 2]}
    small = {"Q6_K": slice(192, 208), "Q4_K": slice(4, 16), "Q5_K": slice(4, 16)}
    if name in small:  # scales of all ones, of zeros, and the most negative one
        for block, byte in ((3, 0x80), (5, 0x7F), (6, 0xFF), (7, 0x00)):
            data[block, small[name]] = byte
    for block in range(count):
        for at in halves.get(name, [0]):
            scale = SPECIAL_SCALES[block] if block < len(SPECIAL_SCALES) else rng.integers(0x1000, 0x3C00)
            data[block, at : at + 2] = np.frombuffer(np.uint16(scale).tobytes(), np.uint8)
    return data


def main():
    rng = np.random.default_rng(20260101)
    lines = ["# type, hexadecimal bytes of a row of blocks, bits of the expanded floats"]
    for name in TYPES:
        data = random_blocks(name, rng).reshape(-1)
        expanded = gguf.dequantize(data, gguf.GGMLQuantizationType[name]).astype(np.float32)
        bits = " ".join(f"{b:08x}" for b in expanded.reshape(-1).view(np.uint32))
        lines.append(f"{name.lower()}\n{data.tobytes().hex()}\n{bits}")
    path = pathlib.Path(__file__).parent.parent / "golden" / "quant_blocks.txt"
    path.write_text("\n".join(lines) + "\n")


main()

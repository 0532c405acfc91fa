# SPDX-License-Identifier: Apache-2.0
"""Writes tests/golden/safetensors/small.hex with PyPI's safetensors package (tried with 0.8.0).

A small file with tensors of the three types that are read, and metadata, as hex text. The reader
must read it (tests/runtime/weights/safetensors_golden_test.cpp) and
tests/support/safetensors_writer.hpp must write the same bytes. Run: python
tests/reference/safetensors_golden.py
"""
import pathlib

import numpy as np
import safetensors


def tensors():
    counting = lambda count: np.arange(count, dtype=np.uint8)
    return {
        "model.embed_tokens.weight": ("bfloat16", [4, 3], counting(24)),
        "model.norm.weight": ("float32", [3], np.array([0.5, -1.25, 3.0], np.float32)),
        "half \u00e9": ("float16", [1, 1, 5], counting(10)),
    }


def main():
    kept = tensors()  # the package is given addresses
    specs = {
        name: safetensors.TensorSpec(
            dtype=kind, shape=shape, data_ptr=values.ctypes.data, data_len=values.nbytes
        )
        for name, (kind, shape, values) in kept.items()
    }
    data = bytes(safetensors.serialize(specs, {"format": "pt"}))
    target = pathlib.Path(__file__).parent.parent / "golden" / "safetensors" / "small.hex"
    target.parent.mkdir(exist_ok=True)
    lines = [data[at : at + 32].hex() for at in range(0, len(data), 32)]
    target.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

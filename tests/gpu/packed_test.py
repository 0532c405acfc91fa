#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Packed weights beside the same ones expanded: SmolLM2 served from a GPU in float32 and in bfloat16, measured as quality.py says.

    tests/gpu/packed_test.py --bin build/cuda/bin --model SmolLM2-135M-Instruct.Q4_1.gguf

Prompts are computed by two ways: in steps of many tokens, for which weights are unpacked into bfloat16, and ("few rows") in steps of
48 at most, which read codes. The bounds are bfloat16's of fp8_test.py: activations are rounded alike, and codes are no less exact than
what they are expanded to."""
import sys

from quality import compare

HALF = ["--dtype", "bfloat16"]
RUNS = {"float32": ["--dtype", "float32"], "expanded": [*HALF, "--dequantize"], "packed": HALF,
        "few rows": [*HALF, "--max-num-batched-tokens", "48", "--max-num-seqs", "16"],
        "invariant": [*HALF, "--batch-invariant"]}
BOUNDS = {name: (0.95, 0.05, 0.02) for name in RUNS if name != "float32"}

if __name__ == "__main__":
    sys.exit(compare(__doc__, RUNS, BOUNDS))

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a cache of 8-bit floats costs a small model: SmolLM2 served from a GPU with --kv-cache-dtype fp8 beside the cache of activations'
type, measured as quality.py says.

    tests/gpu/kv_fp8_test.py --bin build/cuda/bin --model SmolLM2-135M-Instruct.Q4_1.gguf

Keys and values are rounded by up to 6 % of themselves, weights and activations not at all. transformers in float32, its keys and values
rounded so by torch, has 94.5 % of the likeliest tokens on the same sequences, log-probabilities that differ by 0.105, and 1.2 % more
perplexity; the bounds leave half as much again. Pages that are written and read in different orders are off by units. "few rows":
prompts in steps of 48 tokens, so that most of a prompt is read from pages of earlier steps."""
import sys

from quality import compare

HALF, NARROW = ["--dtype", "bfloat16"], ["--kv-cache-dtype", "fp8"]
RUNS = {"float32": ["--dtype", "float32"], "bfloat16": HALF, "f32 fp8": ["--dtype", "float32", *NARROW], "fp8": [*HALF, *NARROW],
        "f16 fp8": ["--dtype", "float16", *NARROW], "invariant": [*HALF, *NARROW, "--batch-invariant"],
        "few rows": [*HALF, *NARROW, "--max-num-batched-tokens", "48", "--max-num-seqs", "16"]}
BOUNDS = {name: (0.90, 0.15, 0.02) for name in RUNS if name not in ("float32", "bfloat16")} | {"bfloat16": (0.95, 0.05, 0.02)}

if __name__ == "__main__":
    sys.exit(compare(__doc__, RUNS, BOUNDS))

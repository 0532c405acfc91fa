#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What 8-bit floats cost a small model: SmolLM2 served from a GPU in float32, in bfloat16 and with --quantization fp8, measured as
quality.py says.

    tests/gpu/fp8_test.py --bin build/cuda/bin --model SmolLM2-135M-Instruct.Q4_1.gguf

Rounding to three bits of fraction is off by 2.6 % of a number in the square mean at worst, of both operands 4 % of a product; logits of
some units move by tenths then. The bounds of fp8 are a few times that: a layer whose scales or columns are wrong is off by units."""
import sys

from quality import compare

RUNS = {"float32": ["--dtype", "float32"], "bfloat16": ["--dtype", "bfloat16", "--dequantize"],
        "fp8": ["--dtype", "bfloat16", "--quantization", "fp8"]}
BOUNDS = {"bfloat16": (0.95, 0.05, 0.02), "fp8": (0.80, 0.40, 0.15)}

if __name__ == "__main__":
    sys.exit(compare(__doc__, RUNS, BOUNDS))

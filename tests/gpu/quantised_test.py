#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Quantised checkpoints on a GPU: the greedy tokens of tests/golden/quantised.json, which transformers drew in float32.

    tests/reference/quantised_checkpoints.py build/quantised
    tests/gpu/quantised_test.py --bin build/cuda/bin --checkpoints build/quantised

In float32 and expanded ("exact") every token must be the reference's. In bfloat16, as checkpoints are served, how many of an answer's
32 tokens come before the first other one is printed; these random models have no favourites, so most answers turn somewhere, and
the bound only tells rounding from numbers that are wrong, which agree in none."""
import argparse
import json
import pathlib
import sys

from one_node import post, server

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
LEAST = 3.0
RUNS = {"exact": ["--dtype", "float32", "--dequantize"], "bfloat16": ["--dtype", "bfloat16"],
        "tokens": ["--dtype", "bfloat16", "--max-num-batched-tokens", "8", "--max-num-seqs", "4"]}


def agreed(url, prompts):
    """Of each answer, tokens before the first that is not the reference's."""
    out = []
    for p in prompts:
        body = dict(prompt=p["prompt"], max_tokens=len(p["tokens"]), temperature=0, ignore_eos=True, return_token_ids=True)
        got = post(url, "/v1/completions", body)["choices"][0]["token_ids"]
        out.append(next((i for i, (a, b) in enumerate(zip(got, p["tokens"])) if a != b), len(got)))
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True)
    parser.add_argument("--checkpoints", required=True)
    parser.add_argument("flags", nargs="*", help="more flags of dinfer-node, behind --")
    arguments = parser.parse_args()
    golden = json.loads((ROOT / "tests/golden/quantised.json").read_text())["families"]
    failures = []
    for kind, prompts in golden.items():
        arguments.model = str(pathlib.Path(arguments.checkpoints) / kind)
        for run, flags in RUNS.items():
            with server(arguments, [*flags, *arguments.flags]) as url:
                got = agreed(url, prompts)
            mean = sum(got) / len(got)
            print(f"{kind:14} {run:9} {mean:5.1f} of {len(prompts[0]['tokens'])}", got, flush=True)
            whole = all(a == len(p["tokens"]) for a, p in zip(got, prompts))
            if not whole if run == "exact" else mean < LEAST:
                failures.append(f"{kind}, {run}: {mean:.1f} tokens")
    print("\n".join(failures) or "all right")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

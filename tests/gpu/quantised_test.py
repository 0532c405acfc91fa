#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Quantised checkpoints on a GPU: the greedy tokens of tests/golden/quantised.json, which transformers drew in float32.

    tests/reference/quantised_checkpoints.py build/quantised
    tests/gpu/quantised_test.py --bin build/cuda/bin --checkpoints build/quantised

In float32 and expanded ("exact") every token must be the reference's. In bfloat16, as checkpoints are served, these random models turn
to other tokens soon, for they have no favourites, and that says little. So the log-probabilities of the reference's tokens in reverse,
which no model has chosen, are compared with the exact run's: the root mean square of their differences as a share of their standard
deviation, which is sqrt(2) for numbers that have nothing to do with each other. With activations rounded by torch to bfloat16 that is
0.02 to 0.18, with 8-bit floats 0.55 to 0.61."""
import argparse
import json
import math
import pathlib
import statistics
import sys

from one_node import post, server
from quality import logprobs_of

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
MOST = {"bfloat16": 0.35, "8-bit floats": 0.9}
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


def scored(url, prompts):
    """The log-probability of each of the reference's tokens in reverse."""
    out = []
    for p in prompts:
        found = logprobs_of(url, p["prompt"] + p["tokens"][::-1])["token_logprobs"]
        out += found[len(p["prompt"]):len(p["prompt"]) + len(p["tokens"])]
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
        f8 = kind in ("float-channel", "float-tensor", "fp8-tensor")  # blocks become bfloat16
        most = MOST["8-bit floats" if f8 else "bfloat16"]
        for run, flags in RUNS.items():
            with server(arguments, [*flags, *arguments.flags]) as url:
                got, values = agreed(url, prompts), scored(url, prompts)
            if run == "exact":
                right = values
            off = math.sqrt(statistics.fmean((a - b) ** 2 for a, b in zip(values, right))) / statistics.pstdev(right)
            print(f"{kind:14} {run:9} {off:6.3f} {statistics.fmean(got):5.1f} of {len(prompts[0]['tokens'])}", got, flush=True)
            if run == "exact" and not all(a == len(p["tokens"]) for a, p in zip(got, prompts)):
                failures.append(f"{kind}, exact: {got} tokens")
            if off > most:
                failures.append(f"{kind}, {run}: log-probabilities differ by {off:.3f} of their spread, {most} is allowed")
    print("\n".join(failures) or "all right")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

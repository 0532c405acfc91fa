# SPDX-License-Identifier: Apache-2.0
"""How far answers of a node on a GPU are from float32's, for the tests here that change how weights are kept.

Prints, for each way: how many of the reference's 64 greedy tokens (transformers in float32) come before the first other one; and over
the same token sequences (the reference's answers, and LICENSE in pieces of 512 tokens) how often the likeliest next token is
float32's, by how much a token's log-probability differs from float32's on average, and the perplexity."""
import argparse
import json
import math
import pathlib
import urllib.request

from one_node import post, server

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TOKENS, PIECE, PIECES = 64, 512, 4


def logprobs_of(url, tokens, **more):
    """Of a prompt of `tokens`, the first of which has none, and of a token behind it."""
    body = dict(prompt=tokens, max_tokens=1, temperature=0, logprobs=1, echo=True, **more)
    return post(url, "/v1/completions", body)["choices"][0]["logprobs"]


def scored(url, model, tokens):
    """For every token but the first: its log-probability, and the text of the likeliest one in its place."""
    found = logprobs_of(url, tokens, model=model)
    end = len(tokens)
    best = [max(top, key=top.get) for top in found["top_logprobs"][1:end]]
    return found["token_logprobs"][1:end], best


def greedy(url, model, prompt):
    body = dict(model=model, prompt=prompt, max_tokens=TOKENS, temperature=0, ignore_eos=True, return_token_ids=True)
    return post(url, "/v1/completions", body)["choices"][0]["token_ids"]


def ranks_of(url):
    """Bytes of weights, and of keys and values of one token, of all ranks together."""
    with urllib.request.urlopen(url + "/cluster", timeout=10) as answer:
        cluster = json.load(answer)
    tokens = cluster["cache"]["blocks"] * cluster["cache"]["block_size"]
    return sum(r["weight_bytes"] for r in cluster["ranks"]), sum(r["cache_bytes"] for r in cluster["ranks"]) / tokens


def measure(arguments, flags, golden, **how):
    with server(arguments, flags, **how) as url:
        model = json.load(urllib.request.urlopen(url + "/v1/models", timeout=10))["data"][0]["id"]
        text = post(url, "/tokenize", {"model": model, "prompt": (ROOT / "LICENSE").read_text()})["tokens"]
        sequences = [g["prompt_tokens"] + g["tokens"] for g in golden]
        sequences += [text[i * PIECE:(i + 1) * PIECE] for i in range(PIECES)]
        drawn = [greedy(url, model, g["prompt_tokens"]) for g in golden]
        values, best = [], []
        for sequence in sequences:
            some, likeliest = scored(url, model, sequence)
            values += some
            best += likeliest
        weight_bytes, token_bytes = ranks_of(url)
    agreed = [next((i for i, (a, b) in enumerate(zip(d, g["tokens"])) if a != b), TOKENS) for d, g in zip(drawn, golden)]
    return {"agreed": sum(agreed) / len(agreed), "whole": sum(a == TOKENS for a in agreed), "values": values, "best": best,
            "perplexity": math.exp(-sum(values) / len(values)), "weight_bytes": weight_bytes, "token_bytes": token_bytes}


def beside(got, right):
    """How often the likeliest token is the same, and the mean difference of a token's log-probability."""
    same = sum(a == b for a, b in zip(got["best"], right["best"], strict=True)) / len(right["best"])
    return same, sum(abs(a - b) for a, b in zip(got["values"], right["values"], strict=True)) / len(right["values"])


def compare(description, runs, bounds):
    """A test's main: `runs` are flags by name, the first one float32's; `bounds` by name are the least share of equal likeliest tokens,
    the most mean difference of log-probabilities, and the most change of perplexity as a share. The exit status."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True)
    parser.add_argument("--model", required=True)
    arguments = parser.parse_args()
    golden = json.loads((ROOT / "tests/golden/smollm2_greedy.json").read_text())["prompts"]
    right, failures = None, []
    print(f"{'':10} {'greedy tokens':>14} {'whole':>6} {'same likeliest':>15} {'mean |d logprob|':>17} {'perplexity':>11}", flush=True)
    for name, flags in runs.items():
        got = measure(arguments, flags, golden)
        right = right or got
        same, mean = beside(got, right)
        print(f"{name:10} {got['agreed']:8.1f} of {TOKENS} {got['whole']:3} of {len(golden)} {100 * same:14.1f}% {mean:17.4f} "
              f"{got['perplexity']:11.3f}", flush=True)
        if name not in bounds:
            continue
        least, most, change = bounds[name]
        moved = abs(got["perplexity"] / right["perplexity"] - 1)
        if same < least or mean > most or moved > change:
            failures.append(f"{name}: {same:.3f} of the likeliest tokens are the same, {least} should be; log-probabilities differ by "
                            f"{mean:.3f}, {most} is allowed; perplexity by {moved:.3f}, {change} is allowed")
    print("\n".join(failures) or "all right")
    return 1 if failures else 0

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What every way of keeping weights and cache on a GPU costs the demo model, measured as quality.py says, in one table and a result file of
bench/results. Needs numpy and gguf, which make the checkpoints (tests/reference/demo_checkpoints.py).

    tests/gpu/quality_table.py --bin build/cuda/bin --model SmolLM2-135M-Instruct.Q4_1.gguf [--devices cuda:0,cuda:1] [NAME...]

A server for each way, one at a time on each of --devices: about 2 minutes on one H100, half of it on two; after --limit seconds no way
is begun. NAMEs pick ways. A way whose flags dinfer-node does not know is left out, which is said; one that fails is told with the file
that has what its server said. The demo model is Q4_1: its own weights are exact, other types round them once more."""
import argparse
import concurrent.futures
import importlib
import json
import pathlib
import queue
import shlex
import subprocess
import sys
import time
import typing

from quality import TOKENS, beside, measure

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "tests/reference"), str(ROOT / "bench")]
import rows  # noqa: E402

HALF = ["--dtype", "bfloat16"]
FP8, FP8_CACHE = ["--quantization", "fp8"], ["--kv-cache-dtype", "fp8"]


class Way(typing.NamedTuple):
    says: str
    flags: list
    kind: str | None = None  # of demo_checkpoints.py; the demo model itself when None


WAYS = {
    "float32": Way("float32", ["--dtype", "float32"]),
    "bf16": Way("bfloat16", [*HALF, "--dequantize"]),
    "f16": Way("float16", ["--dtype", "float16", "--dequantize"]),
    "q4_1": Way("Q4_1, packed", HALF),
    "q4_0": Way("Q4_0, packed", HALF, "Q4_0"),
    "q5_0": Way("Q5_0, packed", HALF, "Q5_0"),
    "q5_1": Way("Q5_1, packed", HALF, "Q5_1"),
    "q8_0": Way("Q8_0, packed", HALF, "Q8_0"),
    "gptq": Way("GPTQ, 4 bits, groups of 64, packed", HALF, "gptq"),
    "awq": Way("AWQ, 4 bits, groups of 64, packed", HALF, "awq"),
    "compressed": Way("compressed-tensors, 4 bits, groups of 32, packed", HALF, "compressed"),
    "fp8": Way("8-bit floats, `--quantization fp8`", [*HALF, *FP8]),
    "fp8_checkpoint": Way("8-bit floats of a checkpoint, a scale a row", HALF, "fp8-channel"),
    "fp8_blocks": Way("8-bit floats of a checkpoint in blocks of 128, as bfloat16", HALF, "fp8-block"),
    "bf16_fp8_cache": Way("bfloat16, keys and values as 8-bit floats", [*HALF, "--dequantize", *FP8_CACHE]),
    "fp8_fp8_cache": Way("8-bit floats, keys and values too", [*HALF, *FP8, *FP8_CACHE]),
}
# Figures of a way: end of the row's name, unit.
FIGURES = {"greedy": "tokens", "likeliest": "%", "d_logprob": "", "perplexity": "", "weights": "MB", "cache": "KB a token"}


def figures_of(got, right):
    same, mean = beside(got, right)
    return {"greedy": got["agreed"], "likeliest": 100 * same, "d_logprob": mean, "perplexity": got["perplexity"],
            "weights": got["weight_bytes"] / 1e6, "cache": got["token_bytes"] / 1e3}


class Runs:
    """Measures ways, each on the next device that is free."""

    def __init__(self, arguments, golden):
        self.arguments, self.golden, self.began = arguments, golden, time.monotonic()
        self.devices = queue.SimpleQueue()
        for device in arguments.devices.split(","):
            self.devices.put(device)

    def one(self, name):
        """What was measured, or why not."""
        arguments, way, device = self.arguments, WAYS[name], self.devices.get()
        began, log = time.monotonic(), arguments.logs / f"{name}.log"
        try:
            if began > self.began + arguments.limit:
                return "not begun within the limit of time"
            model = arguments.model if way.kind is None else str(self.path_of(way.kind))
            asked = argparse.Namespace(bin=arguments.bin, model=model)
            words = [] if way.kind is None else ["--tokenizer", arguments.model]
            with log.open("w") as out:
                return measure(asked, [*way.flags, *words, *arguments.flags], self.golden, device=device, log=out)
        except (SystemExit, OSError, KeyError, ValueError, subprocess.TimeoutExpired) as e:
            return f"{type(e).__name__}: {e}; see {log}"
        finally:
            print(f"{name}: {time.monotonic() - began:.0f} s on {device}", file=sys.stderr, flush=True)
            self.devices.put(device)

    def path_of(self, kind):
        return importlib.import_module("demo_checkpoints").path_of(self.arguments.checkpoints, kind)

    def all(self, names):
        kinds = sorted({WAYS[name].kind for name in names} - {None})
        if kinds:
            importlib.import_module("demo_checkpoints").write_all(self.arguments.model, self.arguments.checkpoints, kinds)
            print(f"checkpoints: {time.monotonic() - self.began:.0f} s", file=sys.stderr, flush=True)
        with concurrent.futures.ThreadPoolExecutor(self.devices.qsize()) as pool:
            return dict(zip(names, pool.map(self.one, names)))


def unknown_flags(arguments, names):
    """By name, the flags that this build's --help does not have."""
    known = subprocess.run([f"{arguments.bin}/dinfer-node", "--help"], capture_output=True, text=True, timeout=60, check=True).stdout.split()
    missing = {name: [flag for flag in WAYS[name].flags if flag.startswith("--") and flag not in known] for name in names}
    return {name: flags for name, flags in missing.items() if flags}


def table(found, right):
    print(f"{'':16} {'greedy of ' + str(TOKENS):>12} {'same likeliest':>14} {'|d logprob|':>11} {'perplexity':>10} {'weights MB':>10} {'KB a token':>10}")
    for name, got in found.items():
        if isinstance(got, str):
            print(f"{name:16} {got}")
            continue
        f = figures_of(got, right)
        print(f"{name:16} {f['greedy']:12.1f} {f['likeliest']:13.1f}% {f['d_logprob']:11.4f} {f['perplexity']:10.3f} {f['weights']:10.1f} "
              f"{f['cache']:10.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    rows.add_arguments(parser, "smollm2-135m")
    parser.add_argument("--bin", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--devices", default="cuda:0", help="as cuda:0,cuda:1")
    parser.add_argument("--checkpoints", type=pathlib.Path, default=ROOT / "build/demo", help="where they are made, unless they are there")
    parser.add_argument("--logs", type=pathlib.Path, default=ROOT / "build/quality")
    parser.add_argument("--limit", type=float, default=300, help="seconds")
    parser.add_argument("--flags", type=shlex.split, default=[], help="more flags of dinfer-node")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(WAYS))
    arguments = parser.parse_args()
    arguments.what = arguments.what or "quality"
    arguments.logs.mkdir(parents=True, exist_ok=True)
    golden = json.loads((ROOT / "tests/golden/smollm2_greedy.json").read_text())["prompts"]
    names = ["float32", *(n for n in WAYS if n != "float32" and (not arguments.names or n in arguments.names))]
    unknown = unknown_flags(arguments, names)
    found = Runs(arguments, golden).all([n for n in names if n not in unknown])
    found |= {n: f"{', '.join(flags)} not known to this build" for n, flags in unknown.items()}
    right = found["float32"]
    if isinstance(right, str):
        sys.exit(f"float32: {right}")
    table(found, right)
    kept = [{"workload": f"quality_{name}_{figure}", "value": value, "unit": FIGURES[figure]} for name, got in found.items()
            if not isinstance(got, str) for figure, value in figures_of(got, right).items()]
    rows.write(kept, arguments, shlex.join(["tests/gpu/quality_table.py", *sys.argv[1:]]))
    return any(isinstance(got, str) and n not in unknown for n, got in found.items())


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Where the time of a decoding step goes, on one GPU at the shapes of Llama-3.1-8B: bench_engine's rows step_ms_bN unwatched, then each
again under libdinfer_profile.so, whose kernels are put together by what they do. Standard library only.

    bench/breakdown.py [--bin build/cuda/bin] [--tuning build/tuning] [--sequences 1,64,256] [--device-name NAME] [-- --fp8]

What follows -- goes to bench_engine. About 90 seconds on an H100 with a tuning file, and --limit seconds a process at most (four of
them). Writes a result file of bench/results with the rows breakdown_bN_GROUP in milliseconds a step, and breakdown_bN_step, the
unwatched step beside its bound; of a step that could not be watched the latter alone. Profiles stay in --profiles. Only recorded steps
count, which are those that decode. "waits" is the unwatched step less what kept the GPU busy: gaps, and copies outside of recordings.
Kernels that GROUPS does not know are "other", and are printed."""
import argparse
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import rows

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODEL = ROOT / "bench/models/llama-3.1-8b"
# What they do, and the kernels of kernels/cuda that do it.
GROUPS = {
    "products": "multiply_few multiply_f32 multiply_half multiply_fp8_kernel multiply_packed_kernel swapped_kernel unpack_kernel quantise_kernel",
    "attention": "decode_attention prefill prefill_sm90_kernel",
    "norms": "add_norm_kernel",
    "rope_store": "rope_store_kernel",
    "activation": "gate_kernel gate_f8_kernel activate_kernel",
    "sampling": "simple_kernel row_kernel best_kernel copy_kernel update_kernel fill_kernel",
    "sums": "one_shot_kernel two_shot_kernel sum_add_norm_kernel farewell_kernel",
    "copies": "embed_kernel embed_packed_kernel put_entries_kernel memset",
    "loading": "convert_kernel convert_f8_kernel keep_f8_kernel pack_kernel read_words",
}
OF_KERNEL = {kernel: group for group, kernels in GROUPS.items() for kernel in kernels.split()}
# Of libraries: cuBLAS's products, NCCL's sums, the driver's copies.
OF_NAME = [("sums", r"nccl"), ("products", r"nvjet|gemm|gemv|xmma|cutlass|cublas|splitk"), ("copies", r"^copy\b|^memset\b")]
ONCE_A_LAYER = "rope_store_kernel"
LINE = re.compile(r"^\s*([\d.]+)\s+([\d.]+)\s+(\d+)\s+([\d.]+)\s+([\d.]+)%\s+(\S.*)$")


def base(name):
    """A kernel's own name: no template arguments, no namespaces."""
    return re.split(r"[<(]", name)[0].split("::")[-1].strip()


def group_of(name):
    of_library = (group for group, pattern in OF_NAME if re.search(pattern, name, re.I))
    return OF_KERNEL.get(base(name)) or next(of_library, "other")


def read_profile(text):
    """The lines of a profile's table: name, milliseconds of its own, how often it ran."""
    if "activities (those of graphs)" not in text:
        raise ValueError(f"not a profile of recorded steps alone; does libdinfer_profile.so belong to this script? It begins: {text[:200]!r}")
    found = [LINE.match(line) for line in text.splitlines()]
    return [(m.group(6), float(m.group(2)), int(m.group(3))) for m in found if m]


def grouped(profile, layers):
    """Milliseconds a step by group, how many steps there were, and the names of "other"."""
    launches = sum(count for name, _, count in profile if base(name) == ONCE_A_LAYER)
    if launches < layers:
        raise ValueError(f"{launches} launches of {ONCE_A_LAYER} are no step of {layers} layers")
    steps, sums, unknown = launches / layers, {}, []
    for name, ms, _ in profile:
        group = group_of(name)
        sums[group] = sums.get(group, 0) + ms / steps
        unknown += [(name, ms / steps)] if group == "other" else []
    return sums, steps, unknown


def row_of(sequences, part, value, bound=None):
    return {"workload": f"breakdown_b{sequences}_{part}", "value": value, "unit": "ms", "bound": bound}


def rows_of(sequences, step_ms, bound, sums):
    """Rows that make up the step: the groups, and what they leave of it."""
    waits = step_ms - sum(sums.values())
    parts = {**{group: sums[group] for group in [*GROUPS, "other"] if group in sums}, "waits": max(0, waits)}
    return [row_of(sequences, "step", step_ms, bound), *(row_of(sequences, part, value) for part, value in parts.items())], waits


def engine(args, names, **variables):
    command = [f"{args.bin}/bench_engine", "--random", "--model", str(MODEL), "--tuning", args.tuning, *args.flags, *names]
    print(shlex.join(command), flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, **variables}, timeout=args.limit)
    if done.returncode != 0:
        raise ValueError(f"bench_engine ended with {done.returncode}")
    return {row["workload"]: row["value"] for row in rows.rows_in(done.stdout)}


def watched(args, sequences, step_ms):
    file = args.profiles / f"profile-{args.config}-b{sequences}.txt"
    file.unlink(missing_ok=True)
    seen = engine(args, [f"step_ms_b{sequences}"], CUDA_INJECTION64_PATH=str(args.profiler.resolve()),
                  DINFER_PROFILE=str(file), DINFER_PROFILE_RECORDED="1", DINFER_PROFILE_LAST_MS=str(4 * 128 * step_ms))
    if not file.exists():
        raise ValueError(f"{file} was not written: is libcupti in LD_LIBRARY_PATH, and is {args.profiler} there?")
    return read_profile(file.read_text()), seen[f"step_ms_b{sequences}"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    rows.add_arguments(parser, None)
    parser.add_argument("--bin", default=str(ROOT / "build/cuda/bin"))
    parser.add_argument("--profiler", type=pathlib.Path, help="libdinfer_profile.so; that of --bin when absent")
    parser.add_argument("--tuning", default=str(ROOT / "build/tuning"))
    parser.add_argument("--sequences", default="1,64,256")
    parser.add_argument("--profiles", type=pathlib.Path, default=ROOT / "build/profiles")
    parser.add_argument("--limit", type=float, default=150, help="seconds that one process may take")
    parser.add_argument("flags", nargs="*", help="of bench_engine, behind --")
    args = parser.parse_args()
    fp8 = "--fp8" in args.flags
    args.config = args.config or ("8b-fp8" if fp8 else "8b-bf16")
    args.what = args.what or f"{args.config}-breakdown"
    args.profiles, args.profiler = args.profiles.resolve(), args.profiler or pathlib.Path(args.bin) / "libdinfer_profile.so"
    args.profiles.mkdir(parents=True, exist_ok=True)
    layers = json.loads((MODEL / "config.json").read_text())["num_hidden_layers"]
    bounds = rows.TARGETS["1gpu-fp8" if fp8 else "1gpu-bf16"]
    numbers, found = [int(n) for n in args.sequences.split(",")], []
    plain = engine(args, [f"step_ms_b{n}" for n in numbers])
    failed = False
    for n in numbers:
        step_ms, bound = plain[f"step_ms_b{n}"], bounds.get(f"step_ms_b{n}", {}).get("bound")
        try:
            profile, stretched = watched(args, n, step_ms)
            sums, steps, unknown = grouped(profile, layers)
        except (ValueError, subprocess.TimeoutExpired) as e:
            print(f"step of {n}: {e}", file=sys.stderr, flush=True)
            found.append(row_of(n, "step", step_ms, bound))
            failed = True
            continue
        some, waits = rows_of(n, step_ms, bound, sums)
        found += some
        print(f"step of {n}: {step_ms:.2f} ms, watched {stretched:.2f}; {steps:.1f} steps in the window; {waits:.3f} ms of a step are no kernel's")
        for name, ms in unknown:
            print(f"  other: {ms:.4f} ms a step: {name}")
    rows.keep(found, args, shlex.join(["bench/breakdown.py", *sys.argv[1:]]))
    return failed


if __name__ == "__main__":
    sys.exit(main())

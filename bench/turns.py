#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Rows of bench_cluster on several configurations in turns, so that a host whose speed changes changes it for all of them.

    bench/turns.py --device-name NAME --round step_ms_b1:50 --round ttft_ms_512:100 NAME=FILE.conf NAME=FILE.conf ...

A bench_cluster runs for each NAME (NAME=PROGRAM:FILE.conf for another program); those that are not asked wait. For each row: the medians, and of all
but the first NAME the ratio to the first: the geometric mean over the rounds, with its standard error. Each NAME's are kept as bench/results/DATE-DEVICE-NAME.json.
"""
import argparse
import math
import pathlib
import shlex
import statistics
import subprocess
import sys

import rows as kept


class Contender:
    def __init__(self, text, program):
        self.name, _, where = text.partition("=")
        if ":" in where:
            program, _, where = where.partition(":")
        self.process = subprocess.Popen([program, "--config", where, "--repetitions", "1", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, bufsize=1)
        self.answer()  # start_s

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.name}: its bench_cluster ended with {self.process.wait()}")
        return kept.rows_in(line)[0]

    def measure(self, row):
        self.process.stdin.write(row + "\n")
        return self.answer()

    def end(self):
        self.process.stdin.close()
        self.process.wait(timeout=60)


def ratio(values, firsts):
    """Geometric mean of the rounds' ratios, and its standard error."""
    logs = [math.log(a / b) for a, b in zip(values, firsts)]
    mean = math.exp(statistics.mean(logs))
    return mean, mean * statistics.stdev(logs) / math.sqrt(len(logs))


def take_turns(contenders, row, rounds):
    """Values of each contender; the first round, in which all warm up, is thrown away."""
    values = {c.name: [] for c in contenders}
    unit = ""
    for turn in range(rounds + 1):
        for c in contenders if turn % 2 == 0 else reversed(contenders):
            measured = c.measure(row)
            values[c.name].append(measured["value"])
            unit = measured["unit"]
    return {name: v[1:] for name, v in values.items()}, unit


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=pathlib.Path, default=kept.ROOT / "bench/results")
    parser.add_argument("--device-name", required=True)
    parser.add_argument("--commit", help="what was measured, where this is no checkout")
    parser.add_argument("--program", default=str(kept.ROOT / "build/release/bin/bench_cluster"))
    parser.add_argument("--round", action="append", required=True, metavar="ROW:ROUNDS")
    parser.add_argument("contenders", nargs="+", metavar="NAME=FILE")
    args = parser.parse_args()
    contenders = [Contender(text, args.program) for text in args.contenders]
    first = contenders[0].name
    results = {c.name: [] for c in contenders}
    for text in args.round:
        row, _, rounds = text.partition(":")
        values, unit = take_turns(contenders, row, max(2, int(rounds or 20)))
        for name, v in values.items():
            mean, error = ratio(v, values[first])
            results[name].append(dict(workload=row, value=statistics.median(v), unit=unit, rounds=len(v), ratio=round(mean, 4),
                                      ratio_error=round(error, 4), ratio_to=first))
            print(f"{row:14} {name:12} median {statistics.median(v):9.3f} {unit}, {len(v)} rounds, ratio to {first} {mean:.3f} +- {error:.3f}", flush=True)
    for c in contenders:
        c.end()
    for name, rows in results.items():
        args.config = args.what = name
        kept.write(rows, args, shlex.join(["bench/turns.py", *sys.argv[1:]]))


if __name__ == "__main__":
    main()

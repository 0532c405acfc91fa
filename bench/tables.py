#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fills the tables of docs/PERFORMANCE.md that stand between <!-- table: NAME --> and <!-- end --> with the newest rows of bench/results.
One whose rows are not there is left as it is, which is said.

    bench/tables.py [--device H100] [--file docs/PERFORMANCE.md]
"""
import argparse
import pathlib
import re
import sys

from plots.results import newest
from plots.step_time import CONFIGS, PARTS, SEQUENCES

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tests/gpu"))
from quality_table import WAYS  # noqa: E402


def line(cells):
    return "| " + " | ".join(cells) + " |\n"


def quality(figures):
    value = lambda name, figure: figures.get(("smollm2-135m", f"quality_{name}_{figure}"))
    out = []
    for name, way in WAYS.items():
        if value(name, "perplexity") is None:
            continue
        forms = {"greedy": "{:.1f}", "likeliest": "{:.1f} %", "d_logprob": "{:.3f}", "perplexity": "{:.2f}", "weights": "{:.0f} MB", "cache": "{:.1f} KB"}
        out.append(line([way.says, *(form.format(value(name, figure)) for figure, form in forms.items())]))
    head = ["", "greedy tokens of 64", "same likeliest token", "log-probability differs by", "perplexity", "weights", "cache, a token"]
    return out and [line(head), line(["---"] * len(head)), *out]


def breakdown(figures):
    value = lambda config, n, part: figures.get((config, f"breakdown_b{n}_{part}"), 0)
    columns = [(config, n) for config in CONFIGS for n in SEQUENCES if value(config, n, "products") > 0]
    if not columns:
        return []
    parts = [(part, name) for part, name, _ in PARTS if any(value(c, n, part) >= 0.0005 for c, n in columns)]
    out = [line(["milliseconds", *(f"{CONFIGS[c]}, {n}" for c, n in columns)]), line(["---"] * (len(columns) + 1))]
    out += [line([name, *(f"{value(c, n, part):.3f}" for c, n in columns)]) for part, name in parts]
    return [*out, line(["the step, unwatched", *(f"{value(c, n, 'step'):.2f}" for c, n in columns)])]


TABLES = {"quality": quality, "breakdown": breakdown}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="H100", help="part of the device's name in the results")
    parser.add_argument("--results", type=pathlib.Path, default=ROOT / "bench/results")
    parser.add_argument("--file", type=pathlib.Path, default=ROOT / "docs/PERFORMANCE.md")
    args = parser.parse_args()
    text, figures = args.file.read_text(), newest(args.results, args.device)
    for name, make in TABLES.items():
        lines, place = make(figures), re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end -->\n)", re.S)
        if lines and place.search(text):
            text = place.sub(lambda m: m.group(1) + "\n" + "".join(lines) + "\n" + m.group(2), text)
            print(f"filled: {name}")
        else:
            print(f"not filled: {name}: " + ("no place for it" if lines else "no rows"))
    args.file.write_text(text)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws the plots of docs/ from bench/results: scaling.svg, roofline.svg, step_time.svg. A plot whose rows are not there is left as it is,
which is said.

    bench/plot.py [--device H100] [--out docs] [NAME...]
"""
import argparse
import pathlib

from plots import roofline, scaling, step_time
from plots.results import Missing

ROOT = pathlib.Path(__file__).resolve().parent.parent
PLOTS = {"scaling": scaling.draw, "roofline": roofline.draw, "step_time": step_time.draw}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*PLOTS, []], help=", ".join(PLOTS) + "; all when absent", metavar="NAME")
    parser.add_argument("--device", default="H100", help="part of the device's name in the results")
    parser.add_argument("--results", type=pathlib.Path, default=ROOT / "bench/results")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "docs")
    args = parser.parse_args()
    for name in args.names or PLOTS:
        try:
            drawn = PLOTS[name](args.results, args.device)
        except Missing as e:
            print(f"not drawn: {name}: {e}")
            continue
        file = args.out / f"{name}.svg"
        file.write_text(drawn)
        print(f"written: {file}")


if __name__ == "__main__":
    main()

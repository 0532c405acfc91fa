#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The rows of bench/targets.json: measures them, keeps them, shows them.

    bench/rows.py run [--bin build/cuda/bin] [--device-name NAME] [ROW...]   runs bench_engine, writes bench/results/
    bench/rows.py --config 1gpu-fp8 run ...                                  the same with 8-bit floats
    bench/rows.py keep FILE [--device-name NAME] --command TEXT              rows that another run printed, one JSON object a line
    bench/rows.py show                                                      the newest value of each row beside bound, peer and goal
"""
import argparse
import datetime
import json
import pathlib
import re
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGETS = json.loads((ROOT / "bench/targets.json").read_text())
OFFLINE = [row for row in TARGETS["1gpu-bf16"] if not row.startswith(("serve_", "start_"))]


def commit():
    return subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()


def full_row(row, config):
    """A measured row with its bound (the target's, else its own) and peer, and the bytes and operations that an operation's row has, or what
    turns.py adds. A ratio above 1 is a time longer, or a rate higher."""
    target = TARGETS.get(config, {}).get(row["workload"], {})
    bound = target.get("bound") if target.get("bound") is not None else row.get("bound")
    ratio = lambda to: round(row["value"] / to, 3) if to else None
    return {"workload": row["workload"], "config": config, "value": round(row["value"], 4), "unit": row["unit"],
            "bound": bound, "peer": target.get("peer"), "peer_name": TARGETS["peer_name"] if target.get("peer") else None,
            "ratio_to_bound": ratio(bound), "ratio_to_peer": ratio(target.get("peer")),
            **{key: row[key] for key in ("bytes", "flops", "rounds", "ratio", "ratio_error", "ratio_to") if key in row}}


def write(rows, args, command):
    """The file of them: what they are, of args.config, on args.device_name."""
    now = datetime.datetime.now(datetime.timezone.utc)
    slug = re.sub(r"[^a-z0-9]+", "-", args.device_name.lower()).strip("-")
    file = args.results / f"{now:%Y-%m-%d}-{slug}-{args.what or args.config}.json"
    result = {"date": f"{now:%Y-%m-%dT%H:%M:%SZ}", "commit": args.commit or commit(), "device": args.device_name, "command": command,
              "rows": [full_row(r, args.config) for r in rows]}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written: {file}", flush=True)
    return result["rows"]


def keep(rows, args, command):
    table(write(rows, args, command))


def add_arguments(parser, config):
    """What write() reads."""
    parser.add_argument("--results", type=pathlib.Path, default=ROOT / "bench/results")
    parser.add_argument("--config", default=config)
    parser.add_argument("--device-name", default="nvidia-h100")
    parser.add_argument("--what", help="the last part of the result file's name; the config when absent")
    parser.add_argument("--commit", help="what was measured, where this is no checkout")


def table(rows):
    print(f"{'row':30} {'value':>10} {'bound':>8} {'x bound':>8} {'peer':>8} {'x peer':>7} {'goal':>8}")
    for r in rows:
        goal = TARGETS.get(r["config"], {}).get(r["workload"], {}).get("goal")
        text = lambda v, width: f"{v:>{width}}" if v is not None else " " * (width - 1) + "-"
        print(f"{r['workload']:30} {r['value']:10.2f} {text(r.get('bound'), 8)} {text(r.get('ratio_to_bound'), 8)} {text(r.get('peer'), 8)} "
              f"{text(r.get('ratio_to_peer'), 7)} {text(goal, 8)}  {r['unit']}")


def rows_in(text):
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def run(args):
    command = [f"{args.bin}/bench_engine", "--random", "--model", str(ROOT / "bench/models/llama-3.1-8b"), "--tuning", args.tuning,
               *(["--fp8"] if args.config.endswith("-fp8") else []), *(args.rows or OFFLINE)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    keep(rows_in(done.stdout), args, shlex.join(["bench/rows.py", *sys.argv[1:]]))
    return done.returncode


def show(args):
    newest = {}
    for file in sorted(args.results.glob("*.json")):
        result = json.loads(file.read_text())
        for r in result["rows"]:
            key = (r["config"], r["workload"])
            if r["config"] in TARGETS and (key not in newest or newest[key][0] <= result["date"]):
                newest[key] = (result["date"], r)
    table([r for _, r in newest.values()])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, "1gpu-bf16")
    verbs = parser.add_subparsers(dest="verb", required=True)
    measured = verbs.add_parser("run")
    measured.add_argument("--bin", default=str(ROOT / "build/cuda/bin"))
    measured.add_argument("--tuning", default=str(ROOT / "build/tuning"))
    measured.add_argument("rows", nargs="*")
    kept = verbs.add_parser("keep")
    kept.add_argument("file", type=pathlib.Path)
    kept.add_argument("--command", required=True)
    verbs.add_parser("show")
    args = parser.parse_args()
    if args.verb == "run":
        return run(args)
    if args.verb == "keep":
        return keep(rows_in(args.file.read_text()), args, args.command)
    return show(args)


if __name__ == "__main__":
    sys.exit(main())

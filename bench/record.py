#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs bench_actor_path and bench_scheduler and keeps their figures as bench/results/<UTC date>-<device>-actors.json.

    bench/record.py [--bin build/release/bin]
"""
import argparse
import datetime
import json
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
GAP = re.compile(r"(one process|3 processes)\s+(back to back|5 ms steps)\s+(result awaited|one step ahead)\s+"
                 r"gap median\s+([\d.]+) us\s+p99\s+([\d.]+) us\s+target\s+(\d+) us")
STEP = re.compile(r"^\s*(\d+)\s+(\d+)\s+[\d.]+\s+[\d.]+\s+([\d.]+)\s", re.M)


def row(workload, config, value, bound):
    return {"workload": workload, "config": config, "value": value, "unit": "us", "bound": bound, "peer": None,
            "peer_name": None, "ratio_to_bound": round(value / bound, 3), "ratio_to_peer": None}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", default=str(ROOT / "build/release/bin"))
    args = parser.parse_args()
    run = lambda *command: subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    rows = []
    for where, pace, mode, median, p99, target in GAP.findall(run(f"{args.bin}/bench_actor_path")):
        name = f"step_gap_{pace} {mode}".replace(" ", "_")
        rows.append(row(name + "_p50_us", where, float(median), int(target)))
        rows.append(row(name + "_p99_us", where, float(p99), int(target)))
    for sequences, stages, total in STEP.findall(run(f"{args.bin}/bench_scheduler")):
        rows.append(row(f"plan_and_apply_us_{sequences}_sequences", f"{stages} stages", float(total), 100))
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text()).group(1)
    device = re.sub(r"[^a-z0-9]+", "-", cpu.lower()).strip("-")
    now = datetime.datetime.now(datetime.timezone.utc)
    result = {"date": now.strftime("%Y-%m-%dT%H:%M:%SZ"), "commit": run("git", "rev-parse", "--short", "HEAD").strip(),
              "device": cpu, "command": "bench/record.py", "rows": rows}
    path = ROOT / f"bench/results/{now:%Y-%m-%d}-{device}-actors.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    for r in rows:
        print(f"{r['workload']:45} {r['config']:12} {r['value']:8.1f} us, bound {r['bound']} us, {r['ratio_to_bound']:.2f} of it")
    print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()

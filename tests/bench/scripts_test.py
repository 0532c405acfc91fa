#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""bench/breakdown.py, plot.py and tables.py on made-up programs and results. Standard library only.

    tests/bench/scripts_test.py
"""
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "bench"))

import breakdown  # noqa: E402

# 100 steps of 32 layers; kernel, milliseconds of its own, launches.
PROFILE = [("nvjet_tst_64x8_64x16_4x1_v_bz_TNT", 300.0, 9600), ("multiply_few<__nv_bfloat16, 8>", 50.0, 3200),
           ("decode_attention<decode_mma<__nv_bfloat16, 128>, 4>", 60.0, 3200), ("add_norm_kernel<__nv_bfloat16, 2>", 30.0, 6500),
           ("rope_store_kernel<__nv_bfloat16, __nv_bfloat16>", 20.0, 3200), ("at::native::strange<float>", 10.0, 100),
           ("copy device to device", 5.0, 100)]
WANTED = {"step": 5.0, "products": 3.5, "attention": 0.6, "norms": 0.3, "rope_store": 0.2, "copies": 0.05, "other": 0.1, "waits": 0.25}
ENGINE = """#!{python}
import os, pathlib, sys
for name in sys.argv:
    if name.startswith("step_ms_b"):
        print('{{"workload": "' + name + '", "value": 5.0, "unit": "ms"}}')
if "DINFER_PROFILE" in os.environ:
    assert os.environ["DINFER_PROFILE_RECORDED"] == "1" and "--eager" in sys.argv
    watched = " (those of graphs)" if "step_ms_b64" not in sys.argv else ""
    pathlib.Path(os.environ["DINFER_PROFILE"]).write_text("9 of 99 activities" + watched + ", the first 1.000 ms after the very first\\n" + {table!r})
"""


def run(script, *arguments, code=0):
    done = subprocess.run([sys.executable, ROOT / script, *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert done.returncode == code, (script, done.returncode, done.stdout, done.stderr)
    return done.stdout, done.stderr


def rows_in(folder):
    return {row["workload"]: row for file in folder.glob("*.json") for row in json.loads(file.read_text())["rows"]}


def every_kernel_has_a_group():
    for file in sorted((ROOT / "kernels/cuda").iterdir()):
        for text in file.read_text().split("__global__")[1:]:
            name = re.search(r"(\w+)\s*\(", re.sub(r"__launch_bounds__\((?:[^()]|\([^()]*\))*\)", "", text)).group(1)
            assert breakdown.group_of(f"{name}<int, (some)2>") != "other", f"{file.name}: {name} is in none of GROUPS of bench/breakdown.py"


def steps_are_broken_down(folder):
    engine, results = folder / "bench_engine", folder / "results"
    table = "".join(f"{2 * ms:11.3f} {ms:11.3f} {count:9} {4.0:10.2f} {1.0:6.1f}%  {name}\n" for name, ms, count in PROFILE)
    engine.write_text(ENGINE.format(python=sys.executable, table=f"\n   total ms      own ms     count    mean us of busy  name\n{table}"))
    engine.chmod(0o755)
    given = ["--bin", folder, "--profiles", folder / "profiles", "--results", results, "--device-name", "A H100", "--commit", "abc", "--", "--eager"]
    said, _ = run("bench/breakdown.py", "--sequences", "1,256", *given)
    assert "100.0 steps" in said and "0.1000 ms a step: at::native::strange<float>" in said, said
    rows = rows_in(results)
    for n in (1, 256):
        assert {k.removeprefix(f"breakdown_b{n}_"): r["value"] for k, r in rows.items() if f"_b{n}_" in k} == WANTED, rows
    assert rows["breakdown_b1_step"]["bound"] == 4.84 and rows["breakdown_b1_step"]["config"] == "8b-bf16", rows
    # A profile that holds prompts too is refused; what was measured before is kept.
    _, said = run("bench/breakdown.py", "--sequences", "1,64", "--what", "again", *given, code=1)
    assert "step of 64: not a profile of recorded steps alone" in said, said
    rows = rows_in(results)
    assert rows["breakdown_b64_step"]["value"] == 5.0 and "breakdown_b64_products" not in rows, rows


def write_results(folder, name, config, rows):
    result = {"date": "2026-01-01T00:00:00Z", "device": "A H100", "rows": [{"config": config, **row} for row in rows]}
    (folder / f"{name}.json").write_text(json.dumps(result))


def plots_are_drawn_from_what_is_there(folder):
    results = folder / "results"
    said, _ = run("bench/plot.py", "--results", results, "--out", folder)
    assert re.findall(r"^not drawn: (\w+)", said, re.M) == ["scaling", "roofline", "step_time"] and not list(folder.glob("*.svg")), said
    write_results(results, "steps", "8b-bf16", [{"workload": f"breakdown_b64_{part}", "value": v} for part, v in WANTED.items()])
    # Memory of 3 TB/s, tensor cores of 800 TFLOP/s; operations that take twice as long as they must.
    point = lambda name, size, flops: {"workload": f"op_{name}_us", "bytes": size, "flops": flops,
                                       "value": 2 * max(size / 3e6, flops / 8e8), "bound": max(size / 3e6, flops / 8e8)}
    write_results(results, "ops", "8b-bf16", [point("linear_o_t1", 3.3e7, 3.3e7), point("linear_o_t8192", 1.7e8, 2.7e11),
                                              point("decode_b8_c512", 1.7e7, 6.7e7), point("embed_t1", 1e6, 0)])
    said, _ = run("bench/plot.py", "--results", results, "--out", folder)
    assert re.findall(r"^not drawn: (\w+)", said, re.M) == ["scaling"], said
    roofline = (folder / "roofline.svg").read_text()
    assert "memory, 3.00 TB/s" in roofline and "tensor cores, 800 TFLOP/s" in roofline, roofline
    assert "linear_o t8192: 675.0 us, 400 TFLOP/s" in roofline and "embed" not in roofline, roofline
    steps = (folder / "step_time.svg").read_text()
    assert steps.count("products with weights: 3.500 ms") == 3, steps
    for drawn in (roofline, steps):
        xml.etree.ElementTree.fromstring(drawn)


def tables_are_filled(folder):
    results, file = folder / "results", folder / "PERFORMANCE.md"
    file.write_text("before\n<!-- table: breakdown -->\nold\n<!-- end -->\n<!-- table: quality -->\n<!-- end -->\nafter\n")
    said, _ = run("bench/tables.py", "--results", results, "--file", file)
    assert "filled: breakdown" in said and "not filled: quality: no rows" in said, said
    figures = dict(greedy=40, likeliest=98.2, d_logprob=0.033, perplexity=9.957, weights=100, cache=23.04)
    write_results(results, "quality", "smollm2-135m", [{"workload": f"quality_bf16_{k}", "value": v} for k, v in figures.items()])
    run("bench/tables.py", "--results", results, "--file", file)
    text = file.read_text()
    assert text.startswith("before\n<!-- table: breakdown -->\n\n| milliseconds |") and text.endswith("after\n") and "old" not in text, text
    assert "| attention | 0.600 | 0.600 | 0.600 |" in text and "| bfloat16 | 40.0 | 98.2 % | 0.033 | 9.96 | 100 MB | 23.0 KB |" in text, text


def main():
    every_kernel_has_a_group()
    with tempfile.TemporaryDirectory(prefix="dinfer-bench-") as name:
        folder = pathlib.Path(name)
        steps_are_broken_down(folder)
        plots_are_drawn_from_what_is_there(folder)
        tables_are_filled(folder)
    print("all right")


if __name__ == "__main__":
    main()

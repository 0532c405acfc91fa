# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of other families over several nodes, one device each on addresses of their own: the greedy tokens that
transformers draws in float32, asked for over HTTP by token ids.

    families_test.py CHECKPOINTS [--gpus 4]      the folder that tests/reference/family_checkpoints.py fills; with --gpus on
                                                 so many GPUs, the ways of more with fewer ranks a stage
"""
import argparse
import json
import pathlib
import sys
import time

from cluster import ROOT, Cluster
from shapes_test import answers, devices

FAMILIES = json.loads((ROOT / "tests/golden/families.json").read_text())["families"]
# family: tensor parallel, pipeline parallel, layers per stage
SHAPES = {"gpt2": (4, 2, [3, 2]), "opt": (4, 1, None), "qwen2": (2, 2, [4, 1])}


def run(folder, family, gpus):
    tp, pp, layers = SHAPES[family]
    tp = min(tp, gpus // pp) if gpus else tp
    parallel = {"tensor_parallel_size": tp, "pipeline_parallel_size": pp}
    if layers:
        parallel["pp_layers"] = layers
    prompts = [{"prompt_tokens": a["prompt"], "tokens": a["tokens"]} for a in FAMILIES[family]]
    model = {"path": str(folder / family / "single"), "served_name": "smollm2", "dtype": "float32"}  # whom answers() asks
    began = time.monotonic()
    nodes = [[f"cuda:{i}"] for i in range(tp * pp)] if gpus else devices([1] * (tp * pp))
    with Cluster(nodes, model=model, parallel=parallel, cache={"blocks": 100},
                 scheduler={"max_num_seqs": 8, "max_num_batched_tokens": 64}) as cluster:
        cluster.wait_ready()
        got = answers(cluster, prompts)
    wrong = [i for i, (tokens, p) in enumerate(zip(got, prompts)) if tokens != p["tokens"]]
    assert not wrong, f"{family}: other tokens than the reference for prompts {wrong}"
    print(f"{family}: {tp} x {pp} nodes, {len(prompts)} prompts equal, {time.monotonic() - began:.1f} s", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoints", type=pathlib.Path)
    parser.add_argument("--gpus", type=int)
    args = parser.parse_args()
    for family in SHAPES:
        run(args.checkpoints, family, args.gpus)
    return 0


if __name__ == "__main__":
    sys.exit(main())

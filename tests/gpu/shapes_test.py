#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""SmolLM2 in float32 on one GPU and on two, in every way that two can share it: transformers' greedy tokens each time. Its 9
heads and 3 key-value heads do not divide by two. Needs two GPUs, so scripts/test does not run it.

    DINFER_BIN=build/cuda/bin DINFER_TEST_MODEL=SmolLM2-135M-Instruct.Q4_1.gguf tests/gpu/shapes_test.py
"""
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))

from cluster import GOLDEN, MODEL, Cluster  # noqa: E402
from shapes_test import answers  # noqa: E402

# name: tensor parallel, pipeline parallel, layers per stage
SHAPES = {
    "one GPU": (1, 1, None),
    "TP=2, uneven": (2, 1, None),
    "PP=2": (1, 2, None),
    "PP=2, uneven": (1, 2, [19, 11]),
}
# how the GPUs are held: devices of each node, isolation
HOLDERS = {
    "one process": ([["cuda:0", "cuda:1"]], "node"),
    "a process each": ([["cuda:0", "cuda:1"]], "process"),
    "a node each": ([["cuda:0"], ["cuda:1"]], "node"),
}


def run(shape, holder):
    tp, pp, layers = SHAPES[shape]
    nodes, isolation = HOLDERS[holder]
    parallel = {"tensor_parallel_size": tp, "pipeline_parallel_size": pp, "isolation": isolation}
    if layers:
        parallel["pp_layers"] = layers
    if tp * pp == 1:
        nodes = [["cuda:0"]]
    began = time.monotonic()
    with Cluster(nodes, model={"path": MODEL, "served_name": "smollm2", "dtype": "float32"}, parallel=parallel,
                 cache={"blocks": 512}, scheduler={"max_num_seqs": 16}) as cluster:
        cluster.wait_ready()
        began, ready = time.monotonic(), time.monotonic() - began
        wrong = [i for i, (got, g) in enumerate(zip(answers(cluster, GOLDEN), GOLDEN)) if got != g["tokens"]]
    assert not wrong, f"{shape}, {holder}: other tokens than the reference for prompts {wrong}"
    print(f"{shape:14} {holder:15} {len(GOLDEN)} prompts equal, ready {ready:.1f} s, answered in {time.monotonic() - began:.1f} s", flush=True)


def main():
    for shape in SHAPES:
        for holder in HOLDERS if shape != "one GPU" else ["one process"]:
            run(shape, holder)
    return 0


if __name__ == "__main__":
    sys.exit(main())

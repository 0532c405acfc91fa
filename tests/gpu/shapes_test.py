#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""SmolLM2 in float32 on one GPU, and on two or four in the ways that they can share it: transformers' greedy tokens each time.
Its 9 heads and 3 key-value heads divide by neither. Needs so many GPUs, so scripts/test does not run it.

    DINFER_BIN=build/cuda/bin DINFER_TEST_MODEL=SmolLM2-135M-Instruct.Q4_1.gguf tests/gpu/shapes_test.py [--gpus 2]
"""
import argparse
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))

from cluster import GOLDEN, MODEL, Cluster, as_hosts  # noqa: E402
from shapes_test import answers  # noqa: E402

# name: tensor parallel, pipeline parallel, layers per stage
SHAPES = {
    "one GPU": (1, 1, None),
    "TP=2": (2, 1, None),
    "PP=2": (1, 2, None),
    "PP=2, uneven": (1, 2, [19, 11]),
    "TP=4": (4, 1, None),
    "TP=2 x PP=2": (2, 2, [17, 13]),
    "PP=4, uneven": (1, 4, [9, 7, 8, 6]),
}


def holders(gpus):
    """How so many GPUs are held: devices of each node, isolation, variables of each node. Two hosts are two nodes that sockets join."""
    names = [f"cuda:{i}" for i in range(gpus)]
    if gpus == 1:
        return {"one process": ([names], "node", {})}
    half = gpus // 2
    return {"one process": ([names], "node", {}), "a process each": ([names], "process", {}),
            "a node each": ([[n] for n in names], "node", {}), "two hosts": ([names[:half], names[half:]], "node", as_hosts(2))}


def run(shape, holder, nodes, isolation, env):
    tp, pp, layers = SHAPES[shape]
    parallel = {"tensor_parallel_size": tp, "pipeline_parallel_size": pp, "isolation": isolation}
    if layers:
        parallel["pp_layers"] = layers
    began = time.monotonic()
    with Cluster(nodes, env=env, model={"path": MODEL, "served_name": "smollm2", "dtype": "float32"}, parallel=parallel,
                 cache={"blocks": 512}, scheduler={"max_num_seqs": 16}) as cluster:
        cluster.wait_ready()
        began, ready = time.monotonic(), time.monotonic() - began
        wrong = [i for i, (got, g) in enumerate(zip(answers(cluster, GOLDEN), GOLDEN)) if got != g["tokens"]]
    assert not wrong, f"{shape}, {holder}: other tokens than the reference for prompts {wrong}"
    print(f"{shape:14} {holder:15} {len(GOLDEN)} prompts equal, ready {ready:.1f} s, answered in {time.monotonic() - began:.1f} s", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--gpus", type=int, default=2)
    wanted = parser.parse_args().gpus
    for shape, (tp, pp, _) in SHAPES.items():
        if tp * pp in (1, wanted):
            for holder, held in holders(tp * pp).items():
                run(shape, holder, *held)
    return 0


if __name__ == "__main__":
    sys.exit(main())

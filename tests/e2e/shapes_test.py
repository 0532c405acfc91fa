# SPDX-License-Identifier: Apache-2.0
"""The same greedy tokens from every shape of a cluster, equal to transformers' in float32.

    shapes_test.py [--prompts 10] [--budgets 16,64,512] [--only SHAPE] [--dequantize]
"""
import argparse
import concurrent.futures
import re
import sys
import time

from cluster import GOLDEN, MODEL, Cluster

# name: (tensor parallel, pipeline parallel, layers per stage, devices per process when spread)
SHAPES = {
    "tp1": (1, 1, None, [1]),
    "tp2": (2, 1, None, [1, 1]),
    "tp3": (3, 1, None, [1, 1, 1]),
    "pp2": (1, 2, None, [1, 1]),
    "pp4 uneven": (1, 4, [9, 7, 8, 6], [1, 1, 1, 1]),
    "tp3 x pp2": (3, 2, [16, 14], [3, 3]),
}


# Ranks as threads of one process; as processes of one address, joined by shared memory; of several, joined by TCP.
KINDS = ["threads", "one address", "addresses"]
EMBEDDING_BYTES = {False: 49152 * 576 // 32 * 34, True: 49152 * 576 * 4}  # Q8_0, float32


def devices(counts):
    return [[f"cpu:{i}" for i in range(n)] for n in counts]


def answers(cluster, prompts):
    def one(golden):
        body = dict(model="smollm2", prompt=golden["prompt_tokens"], max_tokens=len(golden["tokens"]), temperature=0,
                    ignore_eos=True, return_token_ids=True)
        return cluster.post("/v1/completions", body)["choices"][0]["token_ids"]

    with concurrent.futures.ThreadPoolExecutor(len(prompts)) as pool:
        return list(pool.map(one, prompts))


def weight_bytes(cluster):
    """Bytes of weights per rank, as the nodes report them."""
    text = "\n".join(log.read_text(errors="replace") for log in cluster.logs)
    found = re.findall(r"rank (\d+) .*?\((\d+) bytes, (\d+) of them replicated\)", text)
    return {int(rank): (int(weights), int(replicated)) for rank, weights, replicated in found}


def run(name, kind, budget, prompts, whole, dequantize):
    tp, pp, layers, counts = SHAPES[name]
    nodes = devices([sum(counts)] if kind == "threads" else counts)
    parallel = {"tensor_parallel_size": tp, "pipeline_parallel_size": pp}
    if layers:
        parallel["pp_layers"] = layers
    began = time.monotonic()
    model = {"path": MODEL, "served_name": "smollm2", "dtype": "float32", "dequantize": dequantize}
    scheduler = {"max_num_seqs": 16, "max_num_batched_tokens": budget}
    with Cluster(nodes, kind == "one address", model=model, parallel=parallel, scheduler=scheduler) as c:
        c.wait_ready()
        ready = time.monotonic() - began
        got = answers(c, prompts)
        held = weight_bytes(c)
    wrong = [i for i, (g, p) in enumerate(zip(got, prompts)) if g != p["tokens"]]
    assert not wrong, f"{name}: other tokens than the reference for prompts {wrong}: " + "; ".join(
        f"{i} from token {next(k for k, (a, b) in enumerate(zip(got[i], prompts[i]['tokens'])) if a != b)}" for i in wrong)
    assert len(held) == tp * pp, f"{name}: weights of {len(held)} ranks reported, not {tp * pp}"
    total = sum(w for w, _ in held.values())
    if whole:
        # On top of one process: the tensors that every rank of a stage holds, and the tied embedding, which the
        # first stage looks up and the last stage multiplies with.
        copies = sum(r for _, r in held.values()) + (EMBEDDING_BYTES[dequantize] if pp > 1 else 0)
        assert total <= 1.05 * whole + copies, f"{name}: {total} bytes of weights, one process holds {whole}"
    print(f"{name:11} {kind:11} budget {budget:3}: {len(prompts)} prompts equal, ready {ready:.1f} s, "
          f"all {time.monotonic() - began:.1f} s, weights {' + '.join(f'{w / 1e6:.1f}' for w, _ in held.values())} MB", flush=True)
    return total


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, default=10)
    parser.add_argument("--budgets", default="16,64,512")
    parser.add_argument("--only", metavar="SHAPE")
    parser.add_argument("--dequantize", action="store_true", help="weights expanded to float32")
    args = parser.parse_args()
    prompts = GOLDEN[:args.prompts]
    whole = None
    for name, (_, _, _, counts) in SHAPES.items():
        if args.only and name != args.only:
            continue
        for kind in KINDS if len(counts) > 1 else KINDS[:1]:
            for budget in map(int, args.budgets.split(",")):
                total = run(name, kind, budget, prompts, whole, args.dequantize)
                if name == "tp1":
                    whole = total
    return 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""Sampling through the gateway: the same seed gives the same text whatever shares the batch, alone and under tensor
parallelism; logprobs equal the reference's; stop strings work across token borders."""
import concurrent.futures
import sys

from cluster import GOLDEN, Cluster

PROMPT = "Once upon a time, in a small village by the sea,"
SETTINGS = [dict(temperature=1.0), dict(temperature=0.7, top_p=0.9), dict(temperature=1.2, top_k=40, min_p=0.02),
            dict(temperature=1.0, repetition_penalty=1.2, presence_penalty=0.5, frequency_penalty=0.3)]


def sample(cluster, settings, seed, **extra):
    body = dict(model="smollm2", prompt=PROMPT, max_tokens=24, seed=seed, ignore_eos=True, **settings, **extra)
    return [c["text"] for c in cluster.post("/v1/completions", body)["choices"]]


def seeded(cluster):
    """Alone first, then all at once beside strangers."""
    jobs = [(s, seed) for s in SETTINGS for seed in (1, 2)]
    alone = [sample(cluster, *job) for job in jobs]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        noise = [pool.submit(sample, cluster, SETTINGS[i % 4], 1000 + i) for i in range(8)]
        beside = list(pool.map(lambda job: sample(cluster, *job), jobs))
        [n.result() for n in noise]
    assert beside == alone
    assert len({t for texts in alone for t in texts}) == len(jobs), "different seeds and settings give different texts"
    several = sample(cluster, SETTINGS[0], 1, n=3)
    assert len(set(several)) == 3
    return alone + [several]


def logprobs(cluster):
    worst = 0.0
    for golden in GOLDEN[:5]:
        answer = cluster.post("/v1/completions", dict(
            model="smollm2", prompt=golden["prompt_tokens"], max_tokens=16, temperature=0, logprobs=5, ignore_eos=True))
        got = answer["choices"][0]["logprobs"]["token_logprobs"]
        worst = max(worst, *(abs(a - b) for a, b in zip(got, golden["logprobs"])))
    assert worst < 1e-3, worst
    print(f"logprobs differ from the reference by at most {worst:.5f}")


def echoed(cluster):
    """The reference's own answers, scored as prompts: the mean log-probability is the reference's."""
    total = reference = count = 0
    for golden in GOLDEN[:5]:
        answer = cluster.post("/v1/completions", dict(
            model="smollm2", prompt=golden["prompt_tokens"] + golden["tokens"], max_tokens=1, temperature=0, logprobs=0, echo=True))
        got = answer["choices"][0]["logprobs"]["token_logprobs"]
        assert got[0] is None
        start = len(golden["prompt_tokens"])
        total += sum(got[start:start + 64])
        reference += sum(golden["logprobs"])
        count += 64
    difference = abs(total - reference) / count
    assert difference < 0.05, difference
    print(f"mean log-probability of the reference's tokens differs by {difference:.6f}")


def stop_strings(cluster):
    def ask(**extra):
        return cluster.post("/v1/completions", dict(model="smollm2", prompt=PROMPT, max_tokens=48, temperature=0, **extra))["choices"][0]

    whole = ask()["text"]
    assert len(whole) > 60
    # From the middle of one word to the middle of the next: no token begins or ends there.
    words = whole.split(" ")
    for i in range(2, 8):
        stop = words[i][-2:] + " " + words[i + 1][:2]
        cut = whole.index(stop)
        choice = ask(stop=[stop, "\x00never"])
        assert choice["finish_reason"] == "stop" and choice["text"] == whole[:cut], (stop, choice)
        assert choice["stop_reason"] == stop
        kept = ask(stop=stop, include_stop_str_in_output=True)
        assert kept["text"] == whole[:cut] + stop
    print("stop strings across token borders cut the text exactly")


def main():
    texts = []
    for devices, size in [([["cpu:0"]], 1), ([["cpu:0"], ["cpu:0", "cpu:1"]], 3)]:
        with Cluster(devices, parallel={"tensor_parallel_size": size}, scheduler={"max_num_seqs": 32}) as c:
            c.wait_ready()
            texts.append(seeded(c))
            if size == 1:
                logprobs(c)
                echoed(c)
                stop_strings(c)
    assert texts[0] == texts[1], "one rank and three ranks draw different texts"
    print(f"{len(texts[0])} seeded texts: equal alone, in a batch, and under tensor parallelism of three")
    return 0


if __name__ == "__main__":
    sys.exit(main())

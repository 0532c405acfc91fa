# SPDX-License-Identifier: Apache-2.0
"""Many streaming clients at once, through the openai package: complete, correct, and isolated from each other."""
import asyncio
import socket
import sys
import time

import openai

from cluster import MODEL, Cluster

CLIENTS, TOKENS = 64, 32
WORDS = "river stone cloud garden window paper silver market engine signal forest morning letter bridge winter".split()


def prompt(i):
    return f"Write about the {WORDS[i % 15]} and the {WORDS[(i * 7 + 3) % 15]} number {i}: once there was"


def client(cluster):
    return openai.AsyncOpenAI(base_url=cluster.url + "/v1", api_key="none", max_retries=0, timeout=300)


async def stream(api, i, **extra):
    """The text of one streamed completion; fails when the stream is not complete."""
    text, finish, usage = "", None, None
    async for chunk in await api.completions.create(
            model="smollm2", prompt=prompt(i), max_tokens=TOKENS, temperature=0, stream=True,
            stream_options={"include_usage": True}, extra_body={"ignore_eos": True}, **extra):
        for choice in chunk.choices:
            text += choice.text
            finish = choice.finish_reason or finish
        usage = chunk.usage or usage
    assert finish == "length" and usage.completion_tokens == TOKENS, (i, finish, usage)
    return text


async def all_streams(cluster):
    api = client(cluster)
    return await asyncio.gather(*[stream(api, i) for i in range(CLIENTS)])


async def single_streams(cluster):
    api = client(cluster)
    return [await stream(api, i) for i in range(CLIENTS)]


def until(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.01)


def leave_early(cluster):
    """A client that goes away: its request ends and its blocks are free within one step."""
    body = b'{"model":"smollm2","prompt":"Count:","max_tokens":4000,"temperature":0,"ignore_eos":true,"stream":true}'
    before = cluster.metric("vllm:request_success_total")
    steps = lambda: cluster.metric("dinfer:engine_steps_total")
    used = lambda: cluster.metric("dinfer:kv_cache_blocks_used")
    until(lambda: used() == 0, 10, "an idle engine holds no blocks")
    with socket.create_connection(("127.0.0.1", cluster.port)) as s:
        s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        until(lambda: used() > 0, 10, "the request runs")
        assert s.recv(100)
        steps_before = steps()
    until(lambda: used() == 0, 5, "blocks of a client that left are free")
    # Two plans may be in flight when the client leaves, and one may run while the counter is read.
    ran = steps() - steps_before
    assert ran <= 4, ran
    assert cluster.metric("vllm:request_success_total") == before + 1
    print(f"a client left: its blocks are free, {ran:.0f} steps ended after it was gone, in flight ones included", flush=True)


async def slow_reader(cluster):
    """One client that does not read; others must not feel it, and what is kept for it is bounded."""
    body = (b'{"model":"smollm2","prompt":"Count:","max_tokens":4000,"temperature":0,"ignore_eos":true,"stream":true,'
            b'"logprobs":5}')
    api = client(cluster)
    began = time.monotonic()
    alone = await stream(api, 0)
    alone_seconds = time.monotonic() - began
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.connect(("127.0.0.1", cluster.port))
    s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    await asyncio.sleep(0.5)
    for _ in range(3):
        began = time.monotonic()
        assert await stream(api, 0) == alone
        beside_seconds = time.monotonic() - began
        assert beside_seconds < 3 * alone_seconds + 1, (alone_seconds, beside_seconds)
    deadline = time.monotonic() + 100
    while cluster.metric("vllm:num_requests_running") > 0:
        assert time.monotonic() < deadline, "the slow reader's stream was never cut"
        await asyncio.sleep(0.2)
    s.close()
    assert cluster.metric("dinfer:slow_readers_total") == 1
    print(f"a slow reader was cut; beside it {beside_seconds:.2f} s, alone {alone_seconds:.2f} s", flush=True)


def shared_prefix(cluster):
    """1000 common tokens are computed once: later requests find them in the cache."""
    prefix = [1000 + i % 3000 for i in range(1000)]
    hits, asked = (cluster.metric(f"vllm:prefix_cache_{k}_total") for k in ("hits", "queries"))
    cached = []
    for i in range(8):
        answer = cluster.post("/v1/completions", dict(model="smollm2", prompt=prefix + [50 + i, 60 + i], max_tokens=4, temperature=0))
        cached.append(answer["usage"]["prompt_tokens_details"]["cached_tokens"])
    assert cached[0] == 0 and all(c >= 992 for c in cached[1:]), cached
    hits, asked = cluster.metric("vllm:prefix_cache_hits_total") - hits, cluster.metric("vllm:prefix_cache_queries_total") - asked
    assert hits == sum(cached) and asked >= 8 * 1000, (hits, asked)
    print(f"a shared prefix: {hits:.0f} of {asked:.0f} prompt tokens came from the cache", flush=True)


def main():
    with Cluster([["cpu:0"]], scheduler={"max_num_seqs": 64}, model={"max_model_len": 8192, "path": MODEL, "served_name": "smollm2"}) as c:
        c.wait_ready()
        alone = asyncio.run(single_streams(c))
        began = time.monotonic()
        assert asyncio.run(all_streams(c)) == alone
        print(f"{CLIENTS} streams at once: complete, and equal to their single runs, {time.monotonic() - began:.1f} s", flush=True)
        shared_prefix(c)
        leave_early(c)
        asyncio.run(slow_reader(c))
    # 64 sequences of about 55 tokens want 4 blocks each; 100 blocks cannot hold them.
    with Cluster([["cpu:0"]], scheduler={"max_num_seqs": 64}, cache={"blocks": 100, "prefix_caching": False},
                 model={"max_model_len": 1024, "path": MODEL, "served_name": "smollm2"}) as c:
        c.wait_ready()
        assert asyncio.run(all_streams(c)) == alone
        preemptions = c.metric("vllm:num_preemptions_total")
        assert preemptions > 0
        print(f"a cache too small for all: {preemptions:.0f} preemptions, texts equal", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

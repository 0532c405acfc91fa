#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The served rates: dinfer-node over HTTP with streaming clients, at 1, 4 and 16 streams; standard library only.

    bench/serve.py                     starts build/release/bin/dinfer-node on conf/demo.conf's model
    bench/serve.py --url http://HOST:PORT   measures a server that runs already

    bench/serve.py --url http://127.0.0.1:8000 --streams 1,32,256 --prompt-tokens 247 --out-tokens 256 --config 1gpu-bf16

The streams of a repetition start at once, each with a prompt of its own, and draw their tokens greedily; a stream's clock
starts when it connects. `dinfer bench` measures the same; this client shares no code with it and
so checks it. Prints medians over the repetitions and writes bench/results/<UTC date>-<device>-serve.json."""
import argparse
import asyncio
import contextlib
import datetime
import json
import os
import pathlib
import random
import re
import shlex
import socket
import statistics
import subprocess
import sys
import time
import urllib.parse
import urllib.request

from rows import full_row

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORDS = ("river stone cloud garden window paper silver market engine signal forest morning letter bridge winter music table "
         "doctor harbor planet copper thunder mirror village candle orchard blanket compass lantern meadow").split()
FIGURES = [("tok_s", "tok/s"), ("ttft_p50_ms", "ms"), ("ttft_p99_ms", "ms"), ("itl_p50_ms", "ms"), ("itl_p99_ms", "ms")]


def percentile(values, p):
    values = sorted(values)
    return values[round(p / 100 * (len(values) - 1))] if values else float("nan")


def get(url, path, body=None):
    request = urllib.request.Request(url + path, json.dumps(body).encode() if body else None)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def prompts(words, count, length, seed):
    """Token ids, so that every prompt has the same length."""
    draw = random.Random(seed)
    return [draw.choices(words, k=length) for _ in range(count)]


async def stream(host, port, prompt, out_tokens):
    """One streamed completion: when it started, when each piece came, how many tokens it had."""
    body = json.dumps(dict(prompt=prompt, max_tokens=out_tokens, temperature=0, ignore_eos=True, stream=True,
                           stream_options={"include_usage": True}, return_token_ids=True)).encode()
    start = time.perf_counter()
    reader, writer = await asyncio.open_connection(host, port, limit=1 << 20)
    writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: " + host.encode() + b"\r\nContent-Type: application/json\r\n"
                 b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    times, tokens, done = [], None, False
    while not done and (line := await reader.readline()):
        if not line.startswith(b"data:"):
            continue
        now, data = time.perf_counter(), line[5:].strip()
        done = data == b"[DONE]"
        event = {} if done else json.loads(data)
        if "error" in event:
            raise RuntimeError(event["error"]["message"])
        tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
        times += [now] if any(c.get("token_ids") or c.get("text") for c in event.get("choices", [])) else []
    writer.close()
    if not done or tokens != out_tokens:
        raise RuntimeError(f"a stream ended after {tokens} tokens of {out_tokens}")
    return start, times, time.perf_counter()


async def measure(url, words, streams, repetitions, arguments, seed):
    where = urllib.parse.urlsplit(url)
    rates, first, gaps = [], [], []
    for r in range(repetitions):
        asked = prompts(words, streams, arguments.prompt_tokens, f"{seed}-{streams}-{r}")
        done = await asyncio.gather(*[stream(where.hostname, where.port or 80, p, arguments.out_tokens) for p in asked])
        rates.append(streams * arguments.out_tokens / (max(d[2] for d in done) - min(d[0] for d in done)))
        for start, times, _ in done:
            first.append(1e3 * (times[0] - start))
            gaps += [1e3 * (b - a) for a, b in zip(times, times[1:])]
    return dict(tok_s=statistics.median(rates), ttft_p50_ms=percentile(first, 50), ttft_p99_ms=percentile(first, 99),
                itl_p50_ms=percentile(gaps, 50), itl_p99_ms=percentile(gaps, 99), low=min(rates), high=max(rates))


@contextlib.contextmanager
def started(command_of, path, body=None):
    """A server on a port of its own, from when it answers at `path`: its address, its process, the seconds that took."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    url, began = f"http://127.0.0.1:{port}", time.monotonic()
    process = subprocess.Popen(command_of(port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            with contextlib.suppress(OSError):
                get(url, path, body)
                break
            if process.poll() is not None or time.monotonic() > began + 120:
                raise SystemExit(f"the server does not answer; run it by hand to see why: {shlex.join(map(str, command_of(port)))}")
            time.sleep(0.005)
        yield url, process, time.monotonic() - began
    finally:
        process.terminate()
        process.wait(60)


@contextlib.contextmanager
def server(arguments):
    if arguments.url:
        yield arguments.url.rstrip("/")
        return
    command = [ROOT / "build/release/bin/dinfer-node", "--model", arguments.model, "--devices", "cpu:0", "--port"]
    with started(lambda port: [*command, str(port)], "/ready") as (url, _, _):
        yield url


def device_name():
    """The processor and how many of its cores this process may use, fit for a file name."""
    found = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    name = re.sub(r"[^a-z0-9]+", "-", (found.group(1) if found else "cpu").lower()).strip("-")
    return f"{name}-{len(os.sched_getaffinity(0))}c"


def write(rows, arguments, device):
    now = datetime.datetime.now(datetime.timezone.utc)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    file = arguments.results / f"{now:%Y-%m-%d}-{device}-serve.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"date": f"{now:%Y-%m-%dT%H:%M:%SZ}", "commit": commit, "device": device,
                                "command": shlex.join(["bench/serve.py", *sys.argv[1:]]), "rows": rows}, indent=1) + "\n")
    print(f"written: {file}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="a server that runs; otherwise one is started")
    parser.add_argument("--model", default=str(ROOT / "models/SmolLM2-135M-Instruct.Q4_1.gguf"))
    parser.add_argument("--streams", default="1,4,16")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--prompt-tokens", type=int, default=98)
    parser.add_argument("--out-tokens", type=int, default=128)
    parser.add_argument("--config", default="q4_1-2t", help="the configuration's name in the result file")
    parser.add_argument("--device", help="the device's name in the result file; this host's processor when absent")
    parser.add_argument("--bandwidth", type=float, help="GB/s that the device reads; the bound is then one reading of the model a step")
    parser.add_argument("--results", type=pathlib.Path, default=ROOT / "bench/results")
    arguments = parser.parse_args()
    rows = []
    with server(arguments) as url:
        words = get(url, "/tokenize", {"prompt": " " + " ".join(WORDS)})["tokens"]
        asyncio.run(measure(url, words, 1, 1, arguments, "warm"))
        print(f"{'streams':>7} {'tok/s':>9} {'(range)':>17} {'ttft p50':>9} {'p99 ms':>8} {'itl p50':>8} {'p99 ms':>8} {'of bound':>8}")
        for streams in map(int, arguments.streams.split(",")):
            m = asyncio.run(measure(url, words, streams, arguments.repetitions, arguments, "run"))
            most = arguments.bandwidth and round(streams * arguments.bandwidth * 1e9 / os.path.getsize(arguments.model), 1)
            share = f"{m['tok_s'] / most:8.2f}" if most else "       -"
            print(f"{streams:7d} {m['tok_s']:9.1f} {m['low']:8.1f}-{m['high']:<8.1f} {m['ttft_p50_ms']:9.1f} {m['ttft_p99_ms']:8.1f} "
                  f"{m['itl_p50_ms']:8.2f} {m['itl_p99_ms']:8.2f} {share}", flush=True)
            for name, unit in FIGURES:
                bound = most if name == "tok_s" else None
                row = dict(workload=f"serve_c{streams}_{name}", value=m[name], unit=unit, bound=bound)
                rows.append(full_row(row, arguments.config))
    write(rows, arguments, arguments.device or device_name())


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""dinfer beside llama.cpp on CPU cores of this host: the same GGUF file, the same threads, one after the other; standard
library only.

    bench/beside_llama.py --llama DIR --bin build/release/bin --cores 0,1 --config q4_1-2t --model M.gguf [--busy]

DIR holds llama-bench, llama-batched-bench, llama-server and llama-perplexity, built natively. Both run on --cores, one thread a core,
clients as well. Medians of --repetitions, dinfer and llama.cpp in turn:

- cpu_decode_b1_tok_s, cpu_decode_b16_tok_s: 128 tokens of one sequence, and of 16 (llama-bench, llama-batched-bench; step_ms_b1, _b16)
- cpu_prefill_512_tok_s: a prompt of 512 tokens
- cpu_start_s: from the start of the server's process, its file in the page cache, to the first token of a request
- serve_c1, _c4, _c16: streams that start at once, prompts of 98 tokens, 128 tokens each, over HTTP (bench/serve.py)
- cpu_rss_mb: what the server's process holds after those
- cpu_ppl: perplexity of --text in windows of 512 tokens, the second half of each (as llama-perplexity)

--busy: another process takes a core's time on each of --cores all the while; perplexity is left out. Bounds: of one sequence the file read
once a token at the bandwidth that bench_ops measures. Writes a result file of bench/results."""
import argparse
import asyncio
import contextlib
import datetime
import json
import math
import os
import pathlib
import random
import re
import shlex
import statistics
import subprocess
import sys
import time

from rows import commit
from serve import FIGURES, get, measure, started

ROOT = pathlib.Path(__file__).resolve().parent.parent
WINDOW = 512


def output(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        sys.exit(f"{shlex.join(map(str, command))} ended with {done.returncode}: {done.stderr[-1000:]}")
    return done.stdout + done.stderr


def json_lines(text):
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


class Dinfer:
    name = "dinfer"

    def __init__(self, arguments):
        self.bin, self.model, self.threads = arguments.bin, arguments.model, arguments.threads

    def offline(self):
        said = output([self.bin / "dinfer", "bench", "--offline", "step_ms_b1", "step_ms_b16", "ttft_ms_512", "--model", self.model,
                       "--cpu-threads", str(self.threads), "--json"])
        rows = {r["workload"]: r["value"] for r in json.loads(said[said.index("{"):said.rindex("}") + 1])["rows"]}
        return dict(cpu_decode_b1_tok_s=1e3 / rows["step_ms_b1"], cpu_decode_b16_tok_s=16e3 / rows["step_ms_b16"],
                    cpu_prefill_512_tok_s=512e3 / rows["ttft_ms_512"])

    def server(self, port):
        return [self.bin / "dinfer-node", "--model", self.model, "--devices", "cpu:0", "--port", str(port), "--no-enable-prefix-caching",
                "--cpu-threads", str(self.threads)]

    def perplexity(self, text):
        with serving(self) as (url, _, _):
            ids = get(url, "/tokenize", {"prompt": text.read_text()})["tokens"]
            total, count = 0.0, 0
            for i in range(0, len(ids) - WINDOW + 1, WINDOW):
                body = dict(prompt=ids[i:i + WINDOW], max_tokens=0, echo=True, logprobs=1)
                # llama-perplexity counts what positions 256 to 510 say of the token after each.
                scored = get(url, "/v1/completions", body)["choices"][0]["logprobs"]["token_logprobs"][WINDOW // 2 + 1:]
                total, count = total - sum(scored), count + len(scored)
        return math.exp(total / count)


class Llama:
    name = "llama.cpp"

    def __init__(self, arguments):
        self.bin, self.model, self.threads = arguments.llama, arguments.model, str(arguments.threads)

    def offline(self):
        said = output([self.bin / "llama-bench", "-m", self.model, "-t", self.threads, "-p", "512", "-n", "128", "-r", "1", "-o", "jsonl"])
        rates = {"prefill" if r["n_gen"] == 0 else "decode": r["avg_ts"] for r in json_lines(said)}
        said = output([self.bin / "llama-batched-bench", "-m", self.model, "-t", self.threads, "-c", "4096", "-npp", "96", "-ntg", "128",
                       "-npl", "16", "--output-format", "jsonl"])
        many = [r for r in json_lines(said) if "speed_tg" in r][-1]["speed_tg"]
        return dict(cpu_decode_b1_tok_s=rates["decode"], cpu_decode_b16_tok_s=many, cpu_prefill_512_tok_s=rates["prefill"])

    def server(self, port):
        return [self.bin / "llama-server", "-m", self.model, "-t", self.threads, "-tb", self.threads, "--port", str(port), "-np", "16", "-c",
                "8192", "--no-cache-prompt"]

    def perplexity(self, text):
        said = output([self.bin / "llama-perplexity", "-m", self.model, "-t", self.threads, "-f", text, "-c", str(WINDOW)])
        return float(re.search(r"Final estimate: PPL = ([\d.]+)", said).group(1))


def serving(engine):
    """A server that has given its first token: its address, its process, and the seconds from its start."""
    return started(engine.server, "/v1/completions", dict(prompt=[1000, 1001, 1002], max_tokens=1, temperature=0))


def served(engine, words, arguments):
    with serving(engine) as (url, server, seconds):
        figures = dict(cpu_start_s=seconds)
        for streams in (1, 4, 16):
            got = asyncio.run(measure(url, words, streams, 1, arguments, f"{time.time()}"))
            figures |= {f"serve_c{streams}_{name}": got[name] for name, _ in FIGURES}
        status = pathlib.Path(f"/proc/{server.pid}/status").read_text()
        return figures | dict(cpu_rss_mb=int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) / 1e3)


@contextlib.contextmanager
def company(busy):
    """A process that takes the time of each core, or none."""
    others = []
    if busy:
        for core in os.sched_getaffinity(0):
            others.append(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            os.sched_setaffinity(others[-1].pid, [core])
    try:
        yield
    finally:
        for other in others:
            other.kill()


def unit_of(workload):
    return next((unit for end, unit in [("tok_s", "tok/s"), ("_ms", "ms"), ("_mb", "MB"), ("_s", "s")] if workload.endswith(end)), "")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama", type=pathlib.Path, required=True)
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build/release/bin")
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "models/SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--cores", default="0,1")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--config", default="q4_1-2t")
    parser.add_argument("--text", type=pathlib.Path, default=ROOT / "LICENSE")
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--device-name", required=True)
    parser.add_argument("--commit", default=commit())
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.set_defaults(prompt_tokens=98, out_tokens=128)
    arguments = parser.parse_args()
    cores = [int(core) for core in arguments.cores.split(",")]
    os.sched_setaffinity(0, cores)
    arguments.threads = len(cores)
    words = random.Random(7).sample(range(1000, 40000), 64)
    bandwidth = float(re.search(r"([\d.]+) GB/s", output([arguments.bin / "bench_ops", str(arguments.threads), "bounds"])).group(1))
    engines, found = [Dinfer(arguments), Llama(arguments)], {"dinfer": {}, "llama.cpp": {}}
    with company(arguments.busy):
        for _ in range(arguments.repetitions):
            for engine in engines:
                for workload, value in (engine.offline() | served(engine, words, arguments)).items():
                    found[engine.name].setdefault(workload, []).append(value)
    if not arguments.busy:
        for engine in engines:
            found[engine.name]["cpu_ppl"] = [engine.perplexity(arguments.text)]
    rows = []
    print(f"{'':24} {'dinfer':>9} {'llama.cpp':>9} {'ratio':>6} {'bound':>8} {'of bound':>8}")
    for workload, values in found["dinfer"].items():
        value, peer = statistics.median(values), statistics.median(found["llama.cpp"][workload])
        bound = bandwidth * 1e9 / os.path.getsize(arguments.model) if workload == "cpu_decode_b1_tok_s" else None
        rows.append(dict(workload=workload, config=arguments.config, value=round(value, 4), unit=unit_of(workload),
                         bound=bound and round(bound, 1), peer=round(peer, 4), peer_name="llama.cpp",
                         ratio_to_bound=bound and round(value / bound, 3), ratio_to_peer=round(value / peer, 3)))
        share = f"{bound:8.1f} {value / bound:8.2f}" if bound else ""
        print(f"{workload:24} {value:9.2f} {peer:9.2f} {value / peer:6.2f} {share}")
    now = datetime.datetime.now(datetime.timezone.utc)
    arguments.out.write_text(json.dumps(dict(date=f"{now:%Y-%m-%dT%H:%M:%SZ}", commit=arguments.commit, device=arguments.device_name,
                                             command=shlex.join(["bench/beside_llama.py", *sys.argv[1:]]), rows=rows), indent=1) + "\n")


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Workers that are killed or frozen under 32 streams: each stream goes on with the tokens it would have had, or ends with
an error that names the node, soon; the cause is told, the cluster serves again, and the survivors are as before."""
import argparse
import collections
import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import statistics
import sys
import tempfile
import threading
import time

from cluster import Cluster

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 4096,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}
STREAMS, VICTIM = 32, 2
TOLD_SECONDS, NOTICED_SECONDS, SLACK = 2.0, 3.0, 0.3  # SLACK: the test's own threads on a busy machine


class Stream(threading.Thread):
    """One streamed completion: its tokens, when they came, and how it ended."""

    def __init__(self, cluster, i, tokens):
        super().__init__(daemon=True)
        self.body = json.dumps(dict(
            prompt=[100 + i, 200 + 3 * i, 7, 8 + i % 5], max_tokens=tokens, temperature=i % 2, seed=i, stream=True,
            ignore_eos=True, return_token_ids=True, presence_penalty=0.5 if i % 4 == 3 else 0))
        self.port = cluster.port
        self.tokens, self.times = [], []
        self.finish = self.error = self.ended = None
        self.ends = 0
        self.start()

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request("POST", "/v1/completions", self.body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            if answer.status != 200:
                self.error = answer.read().decode()
                self.ends += 1
                return
            for line in answer:
                if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
                    continue
                event = json.loads(line[6:])
                if "error" in event:
                    self.error = event["error"]["message"]
                    self.ends += 1
                    continue
                for choice in event["choices"]:
                    self.tokens += choice.get("token_ids") or []
                    self.times.append(time.monotonic())
                    if choice.get("finish_reason"):
                        self.finish = choice["finish_reason"]
                        self.ends += 1
        except OSError as e:
            self.error = f"connection: {e}"
        finally:
            connection.close()
            self.ended = time.monotonic()


def until(condition, seconds, what, cluster, step=0.005):
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < seconds, f"{what}: not within {seconds} s\n{cluster.log()}"
        time.sleep(step)
    return time.monotonic() - begin


def ready(cluster):
    return cluster.get("/ready")[0] == 200


def restart_victim(cluster):
    cluster.processes[VICTIM] = cluster.start(VICTIM)


def faults(cluster):
    lines = [line for line in cluster.get("/metrics")[1].splitlines() if line.startswith("dinfer_faults_total{")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if f'node="n{VICTIM}"' in line)


def resources(cluster, i):
    """Resident KiB, open files and threads of a process that is idle."""
    folder = pathlib.Path(f"/proc/{cluster.processes[i].pid}")
    status = (folder / "status").read_text()
    number = lambda key: int(re.search(rf"{key}:\s+(\d+)", status)[1])
    return number("VmRSS"), len(os.listdir(folder / "fd")), number("Threads")


def open_files(cluster, i):
    """How many of which kind, without their numbers."""
    folder = f"/proc/{cluster.processes[i].pid}/fd"
    kinds = collections.Counter()
    for name in os.listdir(folder):
        with contextlib.suppress(OSError):
            kinds[re.sub(r"\d+|(?<=nccl-)\w+", "#", os.readlink(f"{folder}/{name}"))] += 1
    return kinds


def check_stream(i, stream, expected, cluster):
    assert stream.ends == 1, f"stream {i} has {stream.ends} ends: {stream.error}\n{cluster.log()}"
    if stream.error is None:
        assert stream.finish == "length" and stream.tokens == expected, f"stream {i} went on with other tokens"
        return True
    assert f"node n{VICTIM}" in stream.error, f"stream {i}: {stream.error}"
    assert stream.tokens == expected[:len(stream.tokens)], f"stream {i} had other tokens before its error"
    return False


def fault(cluster, kind, expected):
    """One fault under load; returns seconds: noticed, last stream told, ready again; and how many streams went on."""
    process, before = cluster.processes[VICTIM], faults(cluster)
    streams = [Stream(cluster, i, len(expected[i])) for i in range(STREAMS)]
    until(lambda: all(len(s.tokens) > 20 for s in streams), 60, "streams run", cluster)
    begin = time.monotonic()
    process.send_signal(signal.SIGSTOP if kind == "freeze" else signal.SIGKILL)
    if kind == "kill, back at once":
        process.wait(5)
        restart_victim(cluster)
    noticed = until(lambda: not ready(cluster), NOTICED_SECONDS + SLACK, f"{kind} is noticed", cluster)
    noticed += 0 if kind != "kill, back at once" else time.monotonic() - begin - noticed
    if kind != "kill, back at once":
        status, body = cluster.get("/ready")
        assert status == 503 and f"node n{VICTIM} (rank 1) is lost" in body, body
        for s in streams:
            s.join(10)
        assert all(s.ended for s in streams), f"streams hang after: {kind}\n{cluster.log()}"
        told = max(s.ended for s in streams) - begin
        if kind == "freeze":
            process.send_signal(signal.SIGCONT)
            assert process.wait(5) == 5, "a node that was given up ends when it wakes"
        process.wait(5)
        restart_victim(cluster)
    until(lambda: ready(cluster), 30, f"ready again after: {kind}", cluster)
    again = time.monotonic() - begin
    for s in streams:
        s.join(120)
    assert all(s.ended for s in streams), f"streams hang after: {kind}\n{cluster.log()}"
    if kind == "kill, back at once":
        heard = [next((t for t in s.times if t > begin + noticed), s.ended) for s in streams]
        told = max(heard) - begin
    # A frozen node is silent for its timeout before anything can be told.
    limit = TOLD_SECONDS + SLACK + (noticed if kind == "freeze" else 0)
    assert told < limit, f"{kind}: the last stream was told after {told:.2f} s\n{cluster.log()}"
    went_on = sum(check_stream(i, s, expected[i], cluster) for i, s in enumerate(streams))
    assert faults(cluster) == before + 1, f"{kind}: faults_total\n{cluster.get('/metrics')[1]}"
    probe = Stream(cluster, 1, 24)
    probe.join(30)
    assert probe.tokens == expected[1][:24], f"after {kind}: {probe.error}"
    return noticed, told, again, went_on


def near(now, then):
    """Files and threads exactly; memory within what an allocator keeps."""
    return now[1:] == then[1:] and now[0] < then[0] * 1.10 + 4096


def run(model, devices, parallel, repetitions, tokens, tls):
    kinds = ["kill, back at once", "kill", "freeze"]
    rows = {kind: [] for kind in kinds}
    with Cluster([[], *([device] for device in devices)], tls=tls, model=model, parallel=parallel,
                 scheduler={"max_num_seqs": STREAMS}, cache={"blocks": 8192}, cpu={"threads": 1},
                 log={"level": "warn"}) as cluster:
        cluster.wait_ready()
        plain = [Stream(cluster, i, tokens) for i in range(STREAMS)]
        for s in plain:
            s.join(120)
        expected = [s.tokens for s in plain]
        assert all(len(t) == tokens for t in expected), [(len(s.tokens), s.error) for s in plain]
        fault(cluster, "kill", expected)  # to warm up
        idle = lambda: [resources(cluster, i) for i in (0, 1)]
        time.sleep(0.5)
        start, files = idle(), open_files(cluster, 1)
        for r in range(repetitions):
            kind = kinds[r % len(kinds)]
            rows[kind].append(fault(cluster, kind, expected))
        until(lambda: all(near(a, b) for a, b in zip(idle(), start)), 10,
              f"survivors are as before: {start} then {idle()}; more files: {open_files(cluster, 1) - files}", cluster, 0.2)
        end, cluster_log = idle(), cluster.logs[0].read_text(errors="replace")
    print(f"{parallel}: {STREAMS} streams of {tokens} tokens, {repetitions} faults")
    print(f"  {'':20} {'noticed':>17} {'last stream told':>17} {'ready again':>17}  streams that went on")
    for kind, results in rows.items():
        if results:
            cells = [f"{statistics.median(c):7.2f} {max(c):7.2f} s" for c in list(zip(*results))[:3]]
            print(f"  {kind:20} " + " ".join(f"{c:>17}" for c in cells) +
                  f"  {sum(r[3] for r in results)} of {STREAMS * len(results)}")
    print("  the last", re.findall(r"start: .*", cluster_log)[-1])
    for name, a, b in zip(("first node", "other worker"), start, end):
        print(f"  {name}: RSS {a[0]} -> {b[0]} KiB, files {a[1]} -> {b[1]}, threads {a[2]} -> {b[2]}", flush=True)
    return expected


def children_of(pid):
    out = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1]) == pid:
                out[(folder / "cmdline").read_bytes().split(b"\0")[-2].decode()] = int(folder.name)
        except (OSError, IndexError):
            pass  # it has just ended
    return out


def isolated(model, devices, parallel, expected):
    """A process for each device: the same tokens; a child that dies is started again and streams go on; none is orphaned."""
    with Cluster([devices], model=model, parallel={**parallel, "isolation": "process"}, scheduler={"max_num_seqs": STREAMS},
                 health={"timeout_ms": 10_000, "resume_timeout_ms": 10_000},  # nothing here is silent
                 cache={"blocks": 8192}, cpu={"threads": 1}, log={"level": "warn"}) as cluster:
        cluster.wait_ready()
        parent = cluster.processes[0].pid
        children = children_of(parent)
        assert sorted(children) == [f"n0/{i}" for i in range(len(devices))], children
        for victim in ("n0/1", "n0/0"):
            streams = [Stream(cluster, i, len(expected[i])) for i in range(STREAMS)]
            until(lambda: all(len(s.tokens) > 20 for s in streams), 60, "streams run", cluster)
            os.kill(children_of(parent)[victim], signal.SIGKILL)
            begin = time.monotonic()
            until(lambda: not ready(cluster), 1, "the end of a child is noticed", cluster)
            reason = json.loads(cluster.get("/ready")[1])["reason"]
            until(lambda: ready(cluster), 10, "a child is back", cluster)
            again = time.monotonic() - begin
            for s in streams:
                s.join(120)
            assert all(s.tokens == e and s.error is None for s, e in zip(streams, expected)), \
                f"{[s.error for s in streams]}\n{cluster.log()}"
            # A driver may let go of a process after its connections have closed, and then they are what is told.
            causes = ["killed by SIGKILL"] + ["peer_lost"] * devices[0].startswith("cuda:")
            assert not reason or re.search(rf"node {victim} \(rank {victim[-1]}\) is lost: .*(killed by SIGKILL|connection lost)", reason), reason
            assert any(f'node="{victim}",cause="{c}"' in cluster.get("/metrics")[1] for c in causes), cluster.get("/metrics")[1]
            print(f"isolation by process: {victim} was killed, serves again after {again:.2f} s; {STREAMS} of {STREAMS} went on")
        children = children_of(parent)
        cluster.processes[0].kill()
        until(lambda: not any(pathlib.Path(f"/proc/{pid}").exists() for pid in children.values()), 5,
              "children end with their parent", cluster)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=1000)
    parser.add_argument("--devices", nargs="+", default=["cpu:0", "cpu:1"], help="a node each; the second one's is killed")
    parser.add_argument("--pipeline-parallel-size", type=int, default=1, help="the devices of a stage share its layers")
    parser.add_argument("--tls", action="store_true", help="nodes speak TLS, ranks over TCP as well")
    args = parser.parse_args()
    stages = args.pipeline_parallel_size
    parallel = {"tensor_parallel_size": len(args.devices) // stages, "pipeline_parallel_size": stages}
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "config.json").write_text(json.dumps(CONFIG))
        model = {"path": folder, "format": "random", "dtype": "float32"}  # in which a row's bits know no batch
        expected = run(model, args.devices, parallel, args.repetitions, args.tokens, args.tls)
        isolated(model, args.devices, parallel, expected)
    return 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""The subcommands of dinfer against real nodes: what they print, for people and for programs, and how they end."""
import contextlib
import json
import os
import pathlib
import pty
import re
import shutil
import socket
import subprocess
import sys
import tempfile

from cluster import BINARIES, MODEL, ROOT, Cluster, config_text, free_port


COMMANDS = ("chat", "status", "bench", "plan", "doctor", "check", "certs", "completion")


def dinfer(*arguments, code=0, env=None):
    """Standard output and error of a subcommand, which must end with `code`."""
    done = subprocess.run([BINARIES / "dinfer", *map(str, arguments)], capture_output=True, text=True, timeout=30,
                          stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})})
    assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout, done.stderr


def usage():
    text, _ = dinfer("--help")
    for command in COMMANDS:
        assert re.search(rf"^  {command} +\w.*", text, re.M), f"{command} is not in\n{text}"
        assert "--help" in dinfer(command, "--help")[0]
    dinfer(code=2)
    dinfer("state", code=2)
    dinfer("status", "--nonsense", code=2)
    assert "expected http://HOST:PORT" in dinfer("status", "--url", "ftp://x", code=2)[1]


def status_of_nobody():
    _, said = dinfer("status", "--url", f"http://127.0.0.1:{free_port()}", code=5)
    assert "is dinfer-node running" in said, said


def status(cluster):
    cluster.post("/v1/completions", {"model": "smollm2", "prompt": "The capital of France is", "max_tokens": 8,
                                     "temperature": 0})
    told = json.loads(dinfer("status", "--url", cluster.url, "--json")[0])
    assert told["state"] == "ready" and told["faults"] == 0, told
    assert [(n["name"], n["alive"], n["devices"]) for n in told["nodes"]] == [("n0", True, ["cpu:0"]), ("n1", True, ["cpu:0"])]
    assert all("0.1.0" in n["build"] for n in told["nodes"]), told
    assert [(r["stage"], r["node"], r["first_layer"]) for r in told["ranks"]] == [(0, "n0", 0), (1, "n1", told["ranks"][0]["end_layer"])]
    assert told["ranks"][1]["end_layer"] == 30
    assert all(r["weight_bytes"] > 1 << 20 and r["cache_blocks"] == told["cache"]["blocks"] for r in told["ranks"]), told
    assert told["requests"] == {"running": 0, "waiting": 0}
    assert 0 < told["throughput"]["generated_tokens"] <= 8 and told["throughput"]["window_ms"] > 0, told
    text, _ = dinfer("status", "--url", cluster.url)
    assert re.search(r"^engine    ready: serving, epoch 1$", text, re.M), text
    assert re.search(r"^n1 +127\.0\.0\.2:\d+ +alive +cpu:0 +", text, re.M), text
    assert re.search(r"^1 +1 +0 +n1 +cpu:0 +\d+\.\.29 +[\d.]+ MiB +\d+ blocks, [\d.]+ [MG]iB$", text, re.M), text
    assert "\x1b" not in text
    with subprocess.Popen([BINARIES / "dinfer", "status", "--url", cluster.url, "--json", "--watch", "0.2"],
                          stdout=subprocess.PIPE, text=True) as watching:
        seen = [json.loads(watching.stdout.readline())["state"] for _ in range(3)]
        watching.kill()
    assert seen == ["ready"] * 3, seen


def guarded_status():
    with tempfile.TemporaryDirectory() as folder:
        keys = pathlib.Path(folder) / "keys"
        keys.write_text("secret\n")
        config = pathlib.Path(folder) / "cluster.conf"
        port = free_port()
        config.write_text(config_text([["cpu:0"]], port, {}) + f'api_keys_file = "{keys}"\n')
        url = f"http://127.0.0.1:{port}"
        node = subprocess.Popen([BINARIES / "dinfer-node", "--config", config], stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, text=True)
        try:
            for line in node.stderr:
                if "ready: 1 ranks" in line:
                    break
            assert "asks for a key" in dinfer("status", "--url", url, code=5)[1]
            assert "engine    ready" in dinfer("status", "--url", url, env={"DINFER_API_KEY": "secret"})[0]
        finally:
            node.kill()
            node.communicate(timeout=10)


def status_after_a_fault(cluster):
    """The other node is gone: the first one says so, and what happened."""
    cluster.processes[1].kill()
    cluster.processes[1].wait()
    for _ in range(100):
        text, _ = dinfer_any("status", "--url", cluster.url)
        if "dead" in text and re.search(r"^n1 .* lost: ", text, re.M):
            break
    assert re.search(r"^faults    1; the last \d+ s ago: node n1 \(rank 1\) is lost: ", text, re.M), text
    dinfer("status", "--url", cluster.url, code=1)


def dinfer_any(*arguments):
    done = subprocess.run([BINARIES / "dinfer", *arguments], capture_output=True, text=True, timeout=30)
    return done.stdout, done.stderr


def plan(folder):
    config = pathlib.Path(folder) / "cluster.conf"
    config.write_text(config_text([["cpu:0"], ["cpu:0"]], 8000, {"parallel": {"pipeline_parallel_size": 2}}))
    same, _ = dinfer("plan", "--config", config)
    node = subprocess.run([BINARIES / "dinfer-node", "--config", config, "--node", "n0", "--plan"], capture_output=True,
                          text=True, timeout=30)
    assert node.returncode == 0 and same == node.stdout, f"{same}\n{node.stdout}{node.stderr}"
    told = json.loads(dinfer("plan", "--config", config, "--json")[0])
    assert told["pipeline_parallel_size"] == 2 and [r["node"] for r in told["ranks"]] == ["n0", "n1"], told
    # GPUs that are nowhere near: eight of 80 GiB on two hosts.
    config.write_text(config_text([[f"cuda:{i}" for i in range(4)]] * 2, 8000, {
        "model": {"path": str(ROOT / "bench/models/llama-3.1-8b"), "format": "random"}, "parallel": {"tensor_parallel_size": 4}}))
    if not os.path.exists("/dev/nvidia0"):
        assert "--device-memory 80G" in dinfer("plan", "--config", config, code=2)[1]
    told = json.loads(dinfer("plan", "--config", config, "--device-memory", "80G", "--json")[0])
    ranks = told["ranks"]
    assert told["tensor_parallel_size"] == 4 and {r["node"] for r in ranks} == {"n0"}, told
    assert all(0.9 * 80 * 2**30 < r["budget_bytes"] <= 80 * 2**30 for r in ranks), ranks
    spent = [sum(r[k + "_bytes"] for k in ("weight", "activation", "logit", "sampler", "workspace", "reserve", "cache")) for r in ranks]
    assert all(s <= r["budget_bytes"] for s, r in zip(spent, ranks)), (spent, ranks)
    both, _ = dinfer("plan", "--config", config, "--device-memory", "80G", "-pp", "2")
    assert "n1" in both, both
    _, said = dinfer("plan", "--config", config, "--device-memory", "2G", code=1)
    assert re.search("rank .*n0", said), said
    assert "--device-memory" in dinfer("plan", "--config", config, "--device-memory", "much", code=2)[1]
    dinfer("plan", "--config", "/nonexistent.conf", code=2)
    assert "/nonexistent.gguf" in dinfer("plan", "--model", "/nonexistent.gguf", code=3)[1]


def findings(*arguments, code=0):
    """Of dinfer doctor: subject -> (verdict, figures, remedy), and what it said for people."""
    told = json.loads(dinfer("doctor", *arguments, "--json", code=code)[0])
    order = ["pass", "warn", "fail"]
    assert told["verdict"] == max((f["verdict"] for f in told["findings"]), key=order.index), told
    assert all(f.get("remedy") for f in told["findings"] if f["verdict"] != "pass"), told
    text, _ = dinfer("doctor", *arguments, code=code)
    assert all(f["subject"] in text for f in told["findings"]), text
    return {f["subject"]: (f["verdict"], f["figures"], f.get("remedy", "")) for f in told["findings"]}


def doctor(folder):
    plain = findings()
    assert {"clock", "open files"} <= set(plain), plain
    config, port = pathlib.Path(folder) / "cluster.conf", free_port()
    config.write_text(config_text([["cpu:0"], ["cpu:0"]], port, {}))
    found = findings("--config", config, "--node", "n0")
    assert found["model"][0] == "pass" and "30 layers" in found["model"][1], found
    assert found["gateway port"][:2] == ("pass", f"127.0.0.1:{port} is free"), found
    assert found["node port"][0] == "pass" and found["this host"][0] == "pass", found
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        found = findings("--config", config, "--node", "n0", code=1)
        assert found["gateway port"][0] == "fail" and f"sport = :{port}" in found["gateway port"][2], found
    assert "gateway port" not in findings("--config", config, "--node", "n1")
    assert findings("--config", config, "--node", "n7", code=1)["this host"][0] == "fail"
    config.write_text(config_text([["cpu:0"]], port, {"model": {"path": "/nonexistent.gguf"}}))
    assert "/nonexistent.gguf" in findings("--config", config, code=1)["model"][1]
    config.write_text("[model]\npaht = 1\n")
    assert "did you mean path" in findings("--config", config, code=1)["configuration"][1]
    if not os.path.exists("/dev/nvidia0"):
        config.write_text(config_text([["cuda:0"]], port, {}))
        assert findings("--config", config, code=1)["cuda:0"][0] == "fail"
    dinfer("doctor", "--node", "n0", code=2)


def bench(cluster, folder):
    """A load of two streams: the tokens that it tells are those that the gateway counted."""
    out = pathlib.Path(folder) / "result.json"
    before = cluster.metric("vllm:generation_tokens_total")
    printed, _ = dinfer("bench", "--url", cluster.url, "--streams", "1,2", "--repetitions", 2, "--warm-up", 1, "--prompt-tokens", 16,
                        "--output-tokens", 8, "--json", "--out", out, "--label", "1gpu-bf16", "--device-name", "here", "--commit", "abc")
    assert cluster.metric("vllm:generation_tokens_total") - before == (1 + 2) * (1 + 2) * 8
    told = json.loads(printed)
    assert printed == out.read_text() and told["device"] == "here" and told["commit"] == "abc", told
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", told["date"]) and "bench --url" in told["command"], told
    rows = {r["workload"]: r["value"] for r in told["rows"]}
    for load in ("serve_c1", "serve_c2"):
        assert rows[f"{load}_failed"] == 0 and abs(rows[f"{load}_tok_s"] / rows[f"{load}_req_s"] - 8) < 0.01, rows
        for what in ("ttft", "itl"):
            assert 0 < rows[f"{load}_{what}_p50_ms"] <= rows[f"{load}_{what}_p90_ms"] <= rows[f"{load}_{what}_p99_ms"], rows
    # Alone, a stream lasts as long as its first token and the seven gaps after it.
    assert rows["serve_c1_ttft_p50_ms"] < 1e3 / rows["serve_c1_req_s"], rows
    shown = subprocess.run([sys.executable, ROOT / "bench/rows.py", "--results", folder, "show"], capture_output=True, text=True, check=True)
    assert re.search(r"^serve_c1_tok_s +[\d.]+ ", shown.stdout, re.M), shown.stdout
    printed, _ = dinfer("bench", "--url", cluster.url, "--rate", 20, "--requests", 5, "--streams", 2, "--prompt-tokens", 4, "--output-tokens", 2)
    assert re.search(r"^ *20/s <=2 +[\d.]+ .* 0$", printed, re.M), printed
    printed, said = dinfer("bench", "--url", cluster.url, "--streams", 2, "--repetitions", 1, "--warm-up", 0, "--vocabulary", 1 << 20,
                           "--prompt-tokens", 999, code=1)
    assert "answered 400" in said and re.search(r"^ *2 +0\.0 .* 2$", printed, re.M), (printed, said)


def bench_alone():
    """Nodes of its own, which end with it; the engine without any; and what cannot be measured."""
    few = ["--streams", 1, "--repetitions", 1, "--warm-up", 0, "--prompt-tokens", 4, "--output-tokens", 2]
    name = f"mine{os.getpid()}"
    printed, _ = dinfer("bench", "--model", MODEL, "--served-model-name", name, *few, "--json")
    told = json.loads(printed)
    assert {r["config"] for r in told["rows"]} == {name} and "threads" in told["device"], told
    left = subprocess.run(["pgrep", "-f", f"served-model-name={name}"], capture_output=True, text=True)
    assert not left.stdout, left.stdout
    printed, _ = dinfer("bench", "--model", MODEL, "--offline", "ttft_ms_4", "ttft_ms_1")
    assert re.findall(r"^(\w+) +[\d.]+ (\w+)$", printed, re.M) == [("start_s", "s"), ("ttft_ms_4", "ms"), ("ttft_ms_1", "ms")], printed
    assert "/nonexistent.gguf" in dinfer("bench", "--model", "/nonexistent.gguf", *few, code=3)[1]
    assert "/nonexistent.gguf" in dinfer("bench", "--model", "/nonexistent.gguf", "--offline", "ttft_ms_4", code=3)[1]
    assert "/nonexistent/r.json" in dinfer("bench", "--model", MODEL, *few, "--out", "/nonexistent/r.json", code=3)[1]
    assert 'no row "ttft_ms_4x"' in dinfer("bench", "--model", MODEL, "--offline", "ttft_ms_4x", code=2)[1]
    assert "one of both" in dinfer("bench", "--url", "http://127.0.0.1:1", "--model", MODEL, code=2)[1]
    assert "cannot connect" in dinfer("bench", "--url", f"http://127.0.0.1:{free_port()}", code=5)[1]


def progress():
    """Bars are for terminals, and only where NO_COLOR does not ask for plain text."""
    def seen(**variables):
        terminal, end = pty.openpty()
        done = subprocess.run([BINARIES / "dinfer", "bench", "--model", MODEL, "--offline", "ttft_ms_1"], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=end, timeout=30, env={**os.environ, **variables}, check=True)
        os.close(end)
        with contextlib.suppress(OSError):  # Linux's end of a terminal
            return done.stdout, os.read(terminal, 1 << 16)
        return done.stdout, b""
    printed, drawn = seen(NO_COLOR="")
    assert b"[###" in drawn and b"ttft_ms_1" in drawn and b"\x1b" not in printed, (printed, drawn)
    assert seen(NO_COLOR="1")[1] == b""


def completion(folder):
    """bash, asked as it asks itself when the tab key is hit; the other shells where they are."""
    for program in ("dinfer", "dinfer-node"):
        for shell in ("bash", "zsh", "fish"):
            script = pathlib.Path(folder) / f"{program}.{shell}"
            script.write_text(dinfer("completion", shell, program)[0])
            if shutil.which(shell):
                subprocess.run([shell, "-n", script], check=True)

    def completed(*words):
        program = words[0]
        ask = (f'source "{folder}/{program}.bash"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
               f'$(complete -p {program} | sed "s/.*-F \\([^ ]*\\).*/\\1/"); printf "%s\n" "${{COMPREPLY[@]}}"')
        return subprocess.run(["bash", "-euc", ask, "bash", *words], capture_output=True, text=True, check=True).stdout.split()

    assert completed("dinfer", "st") == ["status"]
    assert set(COMMANDS) <= set(completed("dinfer", "")) and "manual" not in completed("dinfer", "")
    assert completed("dinfer", "status", "--w") == ["--watch"]
    assert completed("dinfer", "plan", "--tensor") == ["--tensor-parallel-size"]
    assert completed("dinfer", "plan", "--config", "") == []  # file names, which bash has by itself
    assert completed("dinfer", "completion", "z") == ["zsh"]
    assert completed("dinfer-node", "--che") == ["--check"]
    dinfer("completion", "tcsh", code=2)


def manual(folder):
    for program in ("dinfer", "dinfer-node"):
        page = pathlib.Path(folder) / f"{program}.1"
        page.write_text(dinfer("manual", program)[0])
        lines = page.read_text().splitlines()
        assert lines[0].startswith(f'.TH {program.upper()} 1 '.replace("-", r"\-")), lines[0]
        sections = [line[4:] for line in lines if line.startswith(".SH ")]
        assert sections[:4] == ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS"] and "EXIT STATUS" in sections, sections
        known = (".TH", ".SH", ".SS", ".TP", ".PP", ".B", ".I", ".nf", ".fi")
        assert all(line.split()[0] in known for line in lines if line.startswith((".", "'"))), lines
        if shutil.which("groff"):
            read = subprocess.run(["groff", "-man", "-ww", "-Tutf8", page], capture_output=True, text=True, check=True)
            assert not read.stderr, read.stderr
            plain = re.sub(r"\x1b\[[\d;]*m|.\x08", "", read.stdout)
            wanted = "dinfer status" if program == "dinfer" else "--tensor-parallel-size"
            assert wanted in plain.replace("\u2212", "-"), plain
    for command in COMMANDS:
        assert f".SS dinfer {command}" in dinfer("manual")[0]


def captured():
    """What docs/CLI.md shows are commands that there are."""
    shown = re.findall(r"^\$ dinfer (\w+)", (ROOT / "docs/CLI.md").read_text(), re.M)
    assert {"chat", "status", "plan", "bench", "doctor", "check"} <= set(shown) <= set(COMMANDS), shown


def main():
    usage()
    captured()
    status_of_nobody()
    guarded_status()
    with tempfile.TemporaryDirectory() as folder:
        plan(folder)
        doctor(folder)
        completion(folder)
        manual(folder)
    progress()
    bench_alone()
    with Cluster([["cpu:0"], ["cpu:0"]], parallel={"pipeline_parallel_size": 2}) as cluster:
        cluster.wait_ready()
        status(cluster)
        with tempfile.TemporaryDirectory() as folder:
            bench(cluster, folder)
        status_after_a_fault(cluster)
    return 0


if __name__ == "__main__":
    sys.exit(main())

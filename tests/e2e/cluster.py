# SPDX-License-Identifier: Apache-2.0
"""Real dinfer-node processes on loopback addresses, for the end-to-end tests. Standard library only."""
import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BINARIES = pathlib.Path(os.environ.get("DINFER_BIN", ROOT / "build/release/bin"))
MODEL = os.environ.get("DINFER_TEST_MODEL", str(ROOT / "models/SmolLM2-135M-Instruct.Q4_1.gguf"))
GOLDEN = json.loads((ROOT / "tests/golden/smollm2_greedy.json").read_text())["prompts"]
SLOW = int(os.environ.get("DINFER_TEST_SLOW", "1"))  # instrumented code takes that many times as long
START_SECONDS = 120 * SLOW


def free_port(address="127.0.0.1"):
    with socket.socket() as s:
        s.bind((address, 0))
        return s.getsockname()[1]


def toml(value):
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml(v) for v in value) + "]"
    return json.dumps(value)


def config_text(nodes, port, tables, one_address=False, env=()):
    """nodes: lists of devices, one per process, on 127.0.0.1, 127.0.0.2, ...; tables: {"parallel": {...}}; env: variables of
    each node, by its index."""
    out = []
    tables = {"model": {"path": MODEL, "served_name": "smollm2", "dtype": "float32"}, **tables}
    for name, keys in tables.items():
        out += [f"[{name}]"] + [f"{k} = {toml(v)}" for k, v in keys.items()]
    for i, devices in enumerate(nodes):
        address = "127.0.0.1" if one_address else f"127.0.0.{i + 1}"
        out += ["[[node]]", f'name = "n{i}"', f'address = "{address}"', f"port = {free_port(address)}",
                f"devices = {toml(devices)}"]
        if variables := dict(env).get(i):
            out += ["env = {" + ", ".join(f"{k} = {toml(v)}" for k, v in variables.items()) + "}"]
    out += ["[[gateway]]", 'node = "n0"', 'address = "127.0.0.1"', f"port = {port}"]
    return "\n".join(out) + "\n"


def as_hosts(count):
    """Variables that make NCCL take each node of one host for a host of its own, so that only sockets join them."""
    return {i: {"NCCL_HOSTID": f"host{i}", "NCCL_P2P_DISABLE": "1", "NCCL_SHM_DISABLE": "1"} for i in range(count)}


def make_certificates(folder, *names):
    """A CA of its own in `folder`, a certificate for each name, and the keys of [security] that name them."""
    subprocess.run([BINARIES / "dinfer", "certs", "--out", folder, *names], check=True, stdout=subprocess.DEVNULL)
    return {"tls_ca_file": f"{folder}/ca.crt", "tls_certificate_file": f"{folder}/{{node}}.crt",
            "tls_key_file": f"{folder}/{{node}}.key"}


class Cluster:
    def __init__(self, nodes=(("cpu:0",),), one_address=False, tls=False, env=(), **tables):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.folder = tempfile.TemporaryDirectory(prefix="dinfer-e2e-")
        if tls:
            tables["security"] = make_certificates(f"{self.folder.name}/certs", *(f"n{i}" for i in range(len(nodes))))
        self.config = pathlib.Path(self.folder.name) / "cluster.conf"
        self.config.write_text(config_text(nodes, self.port, tables, one_address, env))
        self.logs = [pathlib.Path(self.folder.name) / f"n{i}.log" for i in range(len(nodes))]
        self.processes = [self.start(i) for i in range(len(nodes))]

    def start(self, i):
        with self.logs[i].open("ab") as log:
            return subprocess.Popen([BINARIES / "dinfer-node", "--config", self.config, "--node", f"n{i}"],
                                    stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def log(self):
        return "\n".join(f"--- {p.name}\n{p.read_text(errors='replace')[-4000:]}" for p in self.logs)

    def wait_ready(self, seconds=START_SECONDS):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for p in self.processes:
                if p.poll() is not None:
                    raise AssertionError(f"dinfer-node ended with {p.returncode}\n{self.log()}")
            with contextlib.suppress(OSError):
                if self.get("/ready")[0] == 200:
                    return self
            time.sleep(0.05)
        raise AssertionError(f"not ready in {seconds} s\n{self.log()}")

    def request(self, path, body=None, headers=None, timeout=120 * SLOW):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json", **(headers or {})})
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()

    def get(self, path):
        return self.request(path, timeout=5 * SLOW)

    def post(self, path, body, **keys):
        status, text = self.request(path, body, **keys)
        assert status == 200, f"{path}: {status} {text}\n{self.log()}"
        return json.loads(text)

    def metric(self, name):
        """The sum of a metric's samples over its labels."""
        values = [float(line.rsplit(" ", 1)[1]) for line in self.get("/metrics")[1].splitlines()
                  if line.startswith(name) and line[len(name)] in "{ "]
        assert values, f"no metric {name}"
        return sum(values)

    def stop(self, seconds=40 * SLOW):
        """SIGTERM to all; every process must end with 0."""
        for p in self.processes:
            if p.poll() is None:
                p.send_signal(signal.SIGTERM)
        codes = []
        for p in self.processes:
            try:
                codes.append(p.wait(seconds))
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
                codes.append("killed")
        return codes

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        log = self.log() if kind else None
        codes = self.stop()
        if kind:
            print(f"{kind.__name__}: {str(value).splitlines()[:1]}\n{log}", flush=True)
        self.folder.cleanup()
        if not kind:
            assert all(c in (0, -9, 5) for c in codes), codes

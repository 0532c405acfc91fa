# SPDX-License-Identifier: Apache-2.0
"""dinfer-node --check: devices and links are tried before any model is loaded; nodes that do not fit together are told so.

    check_test.py [--gpus]          with --gpus: two GPUs, and what NCCL may do to them
"""
import json
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time

from cluster import BINARIES, ROOT, as_hosts, config_text, free_port


def write(folder, nodes, tables=(), env=(), name="cluster.conf"):
    path = pathlib.Path(folder) / name
    path.write_text(config_text(nodes, free_port(), dict(tables), env=env))
    return path


def start(config, i, *flags):
    return subprocess.Popen([BINARIES / "dinfer-node", "--config", config, "--node", f"n{i}", *flags],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)


def check(config, count, seconds=60):
    """Exit codes, the first node's table, and what all nodes said beside it."""
    nodes = [start(config, i, "--check") for i in range(count)]
    ends = [node.communicate(timeout=seconds) for node in nodes]
    return [node.returncode for node in nodes], ends[0][0], "\n".join(said for _, said in ends)


def line(table, subject):
    """The line of a subject, and the remedy below it."""
    found = re.search(rf"^(pass|WARN|FAIL)  {subject} .*(\n {{8,}}->.*)?", table, re.M)
    assert found, f"nothing is said of {subject}:\n{table}"
    return found[0]


def cpus(folder):
    codes, table, _ = check(write(folder, [["cpu:0", "cpu:1"], ["cpu:0", "cpu:1"]],
                                  {"parallel": {"tensor_parallel_size": 2, "pipeline_parallel_size": 2}}), 2)
    print(table, end="")
    assert codes == [0, 0], codes
    assert "2 of 2 joined" in line(table, "nodes")
    assert re.search(r"shared memory: all-reduce [\d.]+ us, [\d.]+ GB/s; send [\d.]+ us", line(table, "ranks 0, 1"))
    assert "TCP: all-reduce" in line(table, "ranks 0, 2")
    assert "WARN" not in table and "FAIL" not in table, table


def all_at_once(folder):
    """dinfer check: the nodes of this host by one command, with the same table."""
    def run(config, *flags, code=0):
        done = subprocess.run([BINARIES / "dinfer", "check", "--config", config, *flags], capture_output=True, text=True, timeout=60)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done.stdout, done.stderr

    two = {"parallel": {"tensor_parallel_size": 2}}
    config = write(folder, [["cpu:0"], ["cpu:0"]], two)
    table, said = run(config)
    assert said == "" and "2 of 2 joined" in line(table, "nodes") and "all-reduce" in line(table, "ranks 0, 1"), (table, said)
    told = json.loads(run(config, "--json")[0])
    assert told["verdict"] == "pass", told
    assert [f["subject"] for f in told["findings"]] == re.findall(r"^pass  (\S+(?: \S+)*?)  ", table, re.M), (told, table)
    node = start(config, 0, "--json")
    assert node.communicate(timeout=20) and node.returncode == 2  # it goes with --check
    # A node that cannot take part ends the check soon, and says which it is.
    with socket.socket() as taken:
        taken.bind(("127.0.0.2", 0))
        taken.listen()
        text = re.sub(r'(address = "127.0.0.2"\nport = )\d+', rf"\g<1>{taken.getsockname()[1]}", config.read_text())
        config.write_text(text)
        began = time.monotonic()
        table, said = run(config, code=1)
        assert table == "" and "node n1: " in said and time.monotonic() - began < 20, (table, said)
    far = write(folder, [["cpu:0"], ["cpu:0"]], {**two, "security": {"insecure_network": True}})
    far.write_text(far.read_text().replace("127.0.0.1", "198.51.100.1").replace("127.0.0.2", "198.51.100.2"))
    assert "no node of" in run(far, code=2)[1]


def strangers(folder):
    """Who is missing, and who wants something else, has a name."""
    two = {"parallel": {"tensor_parallel_size": 2}}
    config = write(folder, [["cpu:0"], ["cpu:0"]], {**two, "health": {"startup_timeout_ms": 1500}})
    began = time.monotonic()
    codes, table, said = check(config, 1)
    address = re.search(r'address = "127.0.0.2"\nport = (\d+)', config.read_text())
    assert codes == [5] and table == "" and time.monotonic() - began < 10, (codes, table)
    assert f"not all nodes joined within 1500 ms: expected 2 devices on n0, n1; n1 not joined (127.0.0.2:{address[1]} refused)" in said, said
    config = write(folder, [["cpu:0"], ["cpu:0"]], {**two, "health": {"startup_timeout_ms": 5000}})
    checking, serving = start(config, 0, "--check"), start(config, 1)
    said = serving.communicate(timeout=20)[1]
    assert serving.returncode == 5 and re.search(r'node n1 at 127.0.0.2:\d+ was refused by n0: configuration is .*"check = true" here', said), said
    checking.communicate(timeout=20)
    assert checking.returncode == 5


def gpus(folder):
    two = {"model": {"path": str(ROOT / "bench/models/llama-3.1-8b"), "format": "random"},
           "parallel": {"tensor_parallel_size": 2}, "health": {"collective_timeout_ms": 20_000}}
    one_process = [["cuda:0", "cuda:1"]]
    codes, table, said = check(write(folder, one_process, two), 1)
    print(table, end="")
    assert codes == [0], said
    assert re.search(r"NCCL P2P.*all-reduce [\d.]+ us, [\d.]+ GB/s; send .* % of NVL", line(table, "ranks 0, 1")), table
    assert re.search(r"driver \d+\..*CUDA \d+\.\d+, NCCL 2\.\d+.*GiB free", line(table, "rank 1")), table

    codes, table, said = check(write(folder, one_process, two, {0: {"NCCL_P2P_DISABLE": "1"}}), 1)
    print(table, end="")
    assert codes == [0], said
    assert re.match(r"WARN.*NCCL SHM(.|\n)*P2P between these GPUs is off: NCCL_P2P_DISABLE=1 is set on node n0", line(table, "ranks 0, 1")), table

    codes, table, said = check(write(folder, [["cuda:0"], ["cuda:1"]], two, as_hosts(2)), 2)
    print(table, end="")
    assert codes == [0, 0], said
    assert re.match(r"WARN.*NCCL NET/Socket(.|\n)*OVER PLAIN SOCKETS", line(table, "ranks 0, 1")), table

    config = write(folder, [["cuda:0"], ["cuda:1"]], two, {1: {"NCCL_SOCKET_IFNAME": "nosuch0"}})
    began = time.monotonic()
    codes, table, said = check(config, 2)
    print(table, end="")
    assert codes == [5, 5], (codes, said)
    assert time.monotonic() - began < 30
    assert re.search(r"FAIL  ranks 0, 1  cuda:1: NCCL joining: ", table), table

    # The same when it is to serve: rank, phase and address, at once; nobody waits for the other's deadline to hear it.
    nodes = [start(config, i) for i in range(2)]
    began, failure = time.monotonic(), None
    while not failure and time.monotonic() - began < 40:
        text = nodes[0].stderr.readline()
        failure = re.search(r"dinfer-node: rank 1 \(.*NCCL joining: .* \(connecting devices, node n1 at 127.0.0.2:\d+\)", text)
    print(f"after {time.monotonic() - began:.1f} s: {text}", end="")
    for node in nodes:
        node.kill()
        node.communicate(timeout=20)
    assert failure, "the rank whose interface is wrong was not named"


def main():
    with tempfile.TemporaryDirectory() as folder:
        if "--gpus" in sys.argv:
            gpus(folder)
        else:
            cpus(folder)
            all_at_once(folder)
            strangers(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())

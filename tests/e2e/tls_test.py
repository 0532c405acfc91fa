# SPDX-License-Identifier: Apache-2.0
"""Mutual TLS between nodes: certificates as others read them, the same tokens, strangers at every port of a cluster that
serves, nodes that may not join, and a node that is killed."""
import argparse
import concurrent.futures
import os
import pathlib
import random
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

from cluster import BINARIES, GOLDEN, Cluster, config_text, make_certificates
from faults_test import resources, until

TOKENS = 16
MORE_KIB = 4 * 1024  # what a process may grow by under attack: 64 handshakes at a port under way, and an allocator's rest
BOMB = bytes([0, 0, 0, 1]) + b"\xff" * 4 + bytes(32)  # CAF's header: an operation, a length of 4 GiB


def run(*command, **keys):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=60, **keys)


def openssl(*arguments):
    done = run("openssl", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_certificates(folder):
    certs = lambda *arguments: run(BINARIES / "dinfer", "certs", "--out", folder, *arguments)
    config = folder.with_suffix(".conf")
    config.write_text(config_text([["cpu:0"], ["cpu:0"]], 1, {}))
    assert certs("--config", config).returncode == 0
    assert certs("n2", "--days", "30").returncode == 0, "a CA that is there signs again"
    assert certs("n2").returncode == 3 and certs("ca").returncode == 2 and certs().returncode == 2
    for name in ("ca", "n0", "n1", "n2"):
        for ending in ("crt", "key"):
            assert (folder / f"{name}.{ending}").stat().st_mode & 0o777 == 0o600
    for name in ("n0", "n1", "n2"):
        for purpose in ("sslserver", "sslclient"):
            openssl("verify", "-x509_strict", "-CAfile", folder / "ca.crt", "-purpose", purpose, folder / f"{name}.crt")
        text = openssl("x509", "-in", folder / f"{name}.crt", "-noout", "-text")
        for words in ("CA:FALSE", "Digital Signature", f"DNS:{name}", "prime256v1",
                      "TLS Web Server Authentication, TLS Web Client Authentication"):
            assert words in text, (words, text)
    assert "IP Address:127.0.0.2" in openssl("x509", "-in", folder / "n1.crt", "-noout", "-text")
    assert "CA:TRUE, pathlen:0" in openssl("x509", "-in", folder / "ca.crt", "-noout", "-text")
    serials = {openssl("x509", "-in", folder / f"{n}.crt", "-noout", "-serial") for n in ("ca", "n0", "n1", "n2")}
    assert len(serials) == 4 and all(len(s) > 32 for s in serials), serials
    run("openssl", "x509", "-in", folder / "n2.crt", "-noout", "-checkend", str(29 * 86400), check=True)
    assert run("openssl", "x509", "-in", folder / "n2.crt", "-noout", "-checkend", str(31 * 86400)).returncode == 1


def make_expired(folder):
    """A certificate of the cluster's own CA that ended yesterday."""
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=old",
            "-keyout", folder / "old.key", "-out", folder / "old.csr")
    openssl("x509", "-req", "-in", folder / "old.csr", "-CA", folder / "ca.crt", "-CAkey", folder / "ca.key", "-days", "-1",
            "-out", folder / "old.crt")


def answers(cluster):
    def one(golden):
        body = dict(model="smollm2", prompt=golden["prompt_tokens"], max_tokens=TOKENS, temperature=0, ignore_eos=True,
                    return_token_ids=True)
        return cluster.post("/v1/completions", body)["choices"][0]["token_ids"] == golden["tokens"][:TOKENS]

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        assert all(pool.map(one, GOLDEN[:3])), "other tokens than without TLS"


def listening(cluster):
    """(address, port) of every TCP port of the nodes, but the gateway's."""
    out = []
    for p in cluster.processes:
        inodes = {os.readlink(f)[8:-1] for f in pathlib.Path(f"/proc/{p.pid}/fd").iterdir()
                  if os.readlink(f).startswith("socket:")}
        for line in pathlib.Path(f"/proc/{p.pid}/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                address, port = fields[1].split(":")
                out.append((socket.inet_ntoa(bytes.fromhex(address)[::-1]), int(port, 16)))
    return sorted(set(out) - {("127.0.0.1", cluster.port)})


def heard(where, send=b"", context=None, keep=None):
    """What a stranger gets to read after he has sent his bytes; None: he was shown out."""
    try:
        connection = socket.create_connection(where, 5)
        if keep is not None:
            keep.append(connection)
            return None
        with connection:
            if context is not None:
                connection = context.wrap_socket(connection)
            connection.sendall(send)
            if context is None:
                connection.shutdown(socket.SHUT_WR)
            # A TLS server says in an alert (record type 21) why it leaves.
            said = connection.recv(100)
            return None if not said or context is None and said[0] == 21 else said
    except TimeoutError:
        raise
    except OSError:
        return None


def client(folder=None, name=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if folder:
        context.load_cert_chain(folder / f"{name}.crt", folder / f"{name}.key")
    return context


def attack(cluster, folder, foreign):
    """Each stranger at each port; returns how many there were."""
    noise, ports = random.Random(5), listening(cluster)
    assert len(ports) == 6, f"two nodes and four ranks listen: {ports}"
    contexts = {"none": client(), "foreign": client(foreign, "n1"), "expired": client(folder, "old")}
    count = 0
    for where in ports:
        for _ in range(100):
            assert heard(where, BOMB) is None, where
            assert heard(where, noise.randbytes(noise.randrange(1, 400))) is None, where
        for name, context in contexts.items():
            for _ in range(10):
                assert heard(where, BOMB, context) is None, (where, name)
        count += 230
    member = client(folder, "n1")
    control = [w for w in ports if (w[0], w[1]) in cluster.addresses]
    assert len(control) == 2 and all(heard(w, b"", member) for w in control), "a member is answered"
    silent = []
    for where in ports:
        for _ in range(100):
            heard(where, keep=silent)
    return count, silent


def cpu_seconds(cluster):
    return sum(sum(map(int, pathlib.Path(f"/proc/{p.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]))
               for p in cluster.processes) / os.sysconf("SC_CLK_TCK")


def least_idle_cpu(cluster, windows=4, seconds=0.5):
    """CPU seconds of the quietest of a few windows: a busy machine disturbs one, a loop that spins fills all."""
    used = []
    for _ in range(windows):
        before = cpu_seconds(cluster)
        time.sleep(seconds)
        used.append(cpu_seconds(cluster) - before)
        if used[-1] < 0.2 * seconds:
            break
    return min(used)


def one_attack(cluster, folder, foreign):
    """Attacks once and checks that all is given back; returns what the nodes grew by (KiB), and the line to print."""
    before = [resources(cluster, i) for i in (0, 1)]
    begin = time.monotonic()
    count, silent = attack(cluster, folder, foreign)
    took = time.monotonic() - begin
    idle = least_idle_cpu(cluster)
    during = [resources(cluster, i) for i in (0, 1)]
    answers(cluster)
    for connection in silent:
        connection.close()
    until(lambda: all(now[1:] <= then[1:] for now, then in zip([resources(cluster, i) for i in (0, 1)], before)), 5,
          f"strangers' sockets are closed, and no thread is left: {before} {during}", cluster)
    after = [resources(cluster, i) for i in (0, 1)]
    for i in (0, 1):
        # 64 at the node's port and at each of its two ranks', and what is being closed.
        assert during[i][1] <= before[i][1] + 3 * 64 + 16, f"n{i} holds strangers' sockets: {before} {during}"
    assert idle < 0.1, f"{idle} s of CPU in half a second of silence"
    grew = max(max(during[i][0], after[i][0]) - before[i][0] for i in (0, 1))
    return grew, (f"{count} strangers and {len(silent)} silent ones in {took:.1f} s: all refused; RSS (KiB), files, threads: "
                  f"{before} -> {during} -> {after}; CPU while they wait {idle:.2f} s")


def under_attack(cluster, folder, foreign, rounds=4):
    """What leaks grows in each round; what an allocator keeps is there after the first ones."""
    grew = []
    while not grew or grew[-1] > MORE_KIB:
        assert len(grew) < rounds, f"the nodes grew in each attack, by {grew} KiB"
        more, line = one_attack(cluster, folder, foreign)
        grew.append(more)
        print(line, flush=True)


def intruder(cluster, security, code, words):
    """A node beside the real n1, under its name; it must end with this code and these words."""
    text = cluster.config.read_text()
    port = int(re.findall(r'address = "127.0.0.2"\nport = (\d+)', text)[0])
    text = text.replace('"127.0.0.2"', '"127.0.0.9"').replace("[model]", "[health]\nstartup_timeout_ms = 1000\n[model]")
    text = re.sub(r"\[security\](\n\w+ = .*)*\n", "", text)
    if security:
        text += "[security]\n" + "".join(f'{k} = "{v}"\n' for k, v in security.items())
    path = pathlib.Path(cluster.folder.name) / "intruder.conf"
    path.write_text(text)
    done = run(BINARIES / "dinfer-node", "--config", path, "--node", "n1")
    said = done.stdout + done.stderr
    assert done.returncode == code and all(w in said for w in words), f"{done.returncode}: {said}\n{cluster.log()}"
    assert port
    return said.strip().splitlines()[-1]


def check_intruders(cluster, folder, foreign_keys, keys):
    for name, security, code, words in (
            ("another CA", foreign_keys, 5, ["its certificate is refused: not signed by our CA"]),
            ("expired", {**keys, "tls_certificate_file": f"{folder}/old.crt", "tls_key_file": f"{folder}/old.key"}, 2,
             ["security.tls_certificate_file", "old.crt: expired on"]),
            ("another's key", {**keys, "tls_key_file": f"{folder}/n0.key"}, 2, ["security.tls_key_file", "n0.key: not the key"]),
            ("no certificate", None, 5, ["could not join", "tls_ca_file"])):
        print(f"a node with {name}: {intruder(cluster, security, code, words)}", flush=True)


def main():
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder, foreign = pathlib.Path(scratch) / "certs", pathlib.Path(scratch) / "foreign"
        check_certificates(folder)
        make_expired(folder)
        foreign_keys = make_certificates(foreign, "n1")
        keys = {"tls_ca_file": f"{folder}/ca.crt", "tls_certificate_file": f"{folder}/{{node}}.crt",
                "tls_key_file": f"{folder}/{{node}}.key"}
        devices = ["cpu:0", "cpu:1"]
        with Cluster([devices, devices], parallel={"tensor_parallel_size": 2, "pipeline_parallel_size": 2}, security=keys,
                     cpu={"transport": "tcp", "threads": 1}, cache={"blocks": 512}) as cluster:
            text = cluster.config.read_text()
            cluster.addresses = {(a, int(p)) for a, p in re.findall(r'address = "(\S+)"\nport = (\d+)', text)}
            cluster.wait_ready()
            answers(cluster)
            under_attack(cluster, folder, foreign)
            check_intruders(cluster, folder, foreign_keys, keys)
            answers(cluster)
            assert "dinfer_faults_total{" not in cluster.get("/metrics")[1], "no stranger is a fault"
            cluster.processes[1].send_signal(signal.SIGKILL)
            noticed = until(lambda: cluster.get("/ready")[0] != 200, 1, "a node that was killed is noticed", cluster, 0.001)
            print(f"a killed node was noticed after {noticed * 1000:.0f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())

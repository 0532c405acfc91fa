# SPDX-License-Identifier: Apache-2.0
"""A dinfer-node on one GPU, for the tests here that compare what it says."""
import contextlib
import json
import signal
import socket
import subprocess
import time
import urllib.request


def post(url, path, body):
    request = urllib.request.Request(url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


@contextlib.contextmanager
def server(arguments, flags=(), device="cuda:0", log=None):
    """Its URL, while it serves arguments.model from arguments.bin; what it says goes to `log`, an open file."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    node = subprocess.Popen([f"{arguments.bin}/dinfer-node", "--model", arguments.model, "--devices", device, "--port", str(port),
                             *flags], stdout=log, stderr=log)
    try:
        url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(url + "/ready", timeout=5).close()
                break
            if node.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("dinfer-node did not become ready")
            time.sleep(0.05)
        yield url
    finally:
        node.send_signal(signal.SIGTERM)
        try:
            node.wait(60)
        except subprocess.TimeoutExpired:
            node.kill()
            raise

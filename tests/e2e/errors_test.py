# SPDX-License-Identifier: Apache-2.0
"""What a person reads when a configuration or a model file is wrong: file, line, key and remedy; exit codes 2 and 3."""
import json
import pathlib
import subprocess
import sys
import tempfile

from cluster import BINARIES, MODEL, ROOT

GOOD = f"""[model]
path = "{MODEL}"
[parallel]
tensor_parallel_size = 1
[[node]]
name = "a"
address = "127.0.0.1"
port = 4242
devices = ["cpu:0"]
[[gateway]]
node = "a"
port = 8000
"""

# What is changed in GOOD; the line that must be named; words that must appear.
CASES = [
    ("tensor_parallel_size = 1", "tensor_paralel_size = 1", 4, ["tensor_paralel_size", "tensor_parallel_size"]),
    ("tensor_parallel_size = 1", 'tensor_parallel_size = "two"', 4, ["tensor_parallel_size", "integer"]),
    ("tensor_parallel_size = 1", "tensor_parallel_size = -1", 4, ["tensor_parallel_size"]),
    ("tensor_parallel_size = 1", "tensor_parallel_size = 4", 4, ["tensor_parallel_size", "device"]),
    ("tensor_parallel_size = 1", "pipeline_parallel_size = 2\npp_layers = [15]", None, ["pp_layers"]),
    ("tensor_parallel_size = 1", "pp_layers = [0, 30]", 4, ["pp_layers"]),
    ("[parallel]", "[paralel]", 3, ["paralel", "parallel"]),
    ("port = 4242", "port = 99999", 8, ["port", "65535"]),
    ("port = 4242", "port = 8000", None, ["port", "8000"]),
    ('address = "127.0.0.1"', 'address = "10.0.0.1"', 7, ["address", "insecure_network"]),
    ('devices = ["cpu:0"]', 'devices = ["gpu:0"]', 9, ["devices", "gpu:0", "cpu"]),
    ('devices = ["cpu:0"]', 'devices = ["cpu:0", "cpu:0"]', 9, ["devices", "cpu:0"]),
    ('node = "a"', 'node = "b"', 11, ["node", "b"]),
    ("[[gateway]]", '[[node]]\nname = "a"\naddress = "127.0.0.2"\n[[gateway]]', None, ["name", "a"]),
    ("[parallel]", '[cache]\nmemory = "2 GB of it"\n[parallel]', 4, ["memory", "GiB"]),
    ("[parallel]", "[scheduler]\nmax_num_seqs = 0\n[parallel]", 4, ["max_num_seqs"]),
    ("[parallel]", "[health]\nheartbeat_ms = 5000\ntimeout_ms = 100\n[parallel]", None, ["heartbeat_ms", "timeout_ms"]),
    ("[parallel]", '[log]\nlevel = "loud"\n[parallel]', 4, ["level", "info"]),
    ("[parallel]", 'dtype = "bfloat16"\n[parallel]', 3, ["model.dtype", "float32"]),
    ("[parallel]", 'format = "onnx"\n[parallel]', 3, ["model.format", "gguf"]),
    ("[parallel]", "[cuda]\ngraphs = 2\n[parallel]", 4, ["cuda.graphs", "true"]),
    ('devices = ["cpu:0"]', 'devices = ["cpu:0", "cuda:0"]', 9, ["devices", "cpu:0", "cuda:0"]),
    ('devices = ["cpu:0"]', 'devices = ["cuda:0", "cuda:0"]', 9, ["devices", "cuda:0 stands twice"]),
    ("name = \"a\"", "name = ", 6, []),
    ("name = \"a\"", 'name = "a/b"', 6, ["node[0].name", "letters"]),
    ("name = \"a\"", 'name = "' + "x" * 900_000 + '"', 6, ["node[0].name", "4096"]),
    ("name = \"a\"", "x" * 900_000 + " = 1", 6, ["unknown key"]),
    ("name = \"a\"", 'name = "' + "x" * 1_100_000 + '"', 1, ["1 MB"]),
    ("name = \"a\"", 'name = "\udcff\udcfe"', 6, ["TOML"]),  # not UTF-8
    ("name = \"a\"", "", 5, ["node[0].name", '"a"']),
    ("tensor_parallel_size = 1", "tensor_parallel_size = 1\ntensor_parallel_size = 2", 5, ["TOML"]),
    ("tensor_parallel_size = 1", "tensor_parallel_size = 1.5", 4, ["tensor_parallel_size", "integer"]),
    ("tensor_parallel_size = 1", "pipeline_parallel_size = 3", 4, ["pipeline_parallel_size", "devices"]),
    ("tensor_parallel_size = 1", "pp_layers = 15", 4, ["pp_layers", "array"]),
    ("tensor_parallel_size = 1", 'isolation = "pod"', 4, ["parallel.isolation", "node, process"]),
    ("port = 4242", "port = 0\n[[node]]\nname = \"b\"\nport = 4243", 8, ["node[0].port", "4242"]),
    ("[parallel]", "[[parallel]]", 3, ["[parallel]"]),
    ("[[node]]", "[node]", 5, ["[[node]]"]),
    ("[parallel]", "[model]\n[parallel]", 3, ["TOML"]),
    ("[parallel]", "[cache]\nblock_size = 24\n[parallel]", 4, ["cache.block_size", "power of two"]),
    ("[parallel]", "[cache]\nfraction = 1.5\n[parallel]", 4, ["cache.fraction", "0 to 1"]),
    ("[parallel]", "[health]\nresume_timeout_ms = -1\n[parallel]", 4, ["health.resume_timeout_ms", "0 to"]),
    ('address = "127.0.0.1"', 'address = "0.0.0.0"', 7, ["node[0].address", "dial"]),
    ('address = "127.0.0.1"', 'address = "a b"', 7, ["node[0].address", "IP address"]),
    ('devices = ["cpu:0"]', "", 5, ["node[0].devices", "cpu:0"]),
    ('devices = ["cpu:0"]', "devices = [7]", 9, ["node[0].devices", "string"]),
    ('devices = ["cpu:0"]', 'devices = ["cpu:0"]\nenv = { "A-B" = "1" }', 10, ["node[0].env", "letters"]),
]


def node(*arguments):
    done = subprocess.run([BINARIES / "dinfer-node", *map(str, arguments)], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def bad_configs(folder):
    file = folder / "cluster.conf"
    for i, (before, after, line, words) in enumerate(CASES):
        assert before in GOOD
        file.write_text(GOOD.replace(before, after, 1), errors="surrogateescape")
        code, text = node("--config", file, "--check")
        assert code == 2, (i, code, text)
        where = f"{file}:{line}:" if line else f"{file}:"
        assert where in text, (i, where, text)
        for word in words:
            assert word in text, (i, word, text)
        assert all(str(file) in line for line in text.strip().splitlines()) and len(text) < 1000, (i, text[:2000])
        print(text.strip().replace(str(folder) + "/", ""))
    file.write_text(GOOD)
    assert node("--config", file, "--check")[0] == 0
    assert node("--config", folder / "absent.conf")[0] == 2
    # What only the model can tell: exit code 2 too, and what would fit.
    file.write_text(GOOD.replace("tensor_parallel_size = 1", "pipeline_parallel_size = 2\npp_layers = [10, 10]")
                    .replace('["cpu:0"]', '["cpu:0", "cpu:1"]'))
    code, text = node("--config", file, "--plan")
    assert code == 2 and "pp_layers" in text and "30" in text, (code, text)
    print(f"{len(CASES) + 1} bad configurations: each refused with file, line, key and remedy")


def unusable_devices(folder):
    """A GPU that no machine has: one line with the device and a remedy, exit code 2, nothing loaded."""
    conf = folder / "gpu.conf"
    conf.write_text(GOOD.replace('"cpu:0"', '"cuda:99"').replace("8000", "0").replace("4242", "0"))
    for action in (["--plan"], ["--check"], []):
        code, text = node("--config", conf, *action)
        lines = [l for l in text.strip().splitlines() if "cuda:99" in l]
        assert code == 2 and len(lines) == 1, (action, code, text)
        assert "--devices cpu:0" in lines[0] and "weights" not in text, (action, text)
    print(f"no such GPU: {lines[0]}")


def random_models(folder):
    """What a config.json cannot mean, and a tokeniser that is too large."""
    config = json.loads((ROOT / "bench/models/llama-3.1-8b/config.json").read_text())
    cases = [
        ({"architectures": ["MixtralForCausalLM"]}, [], 2, ["architectures", "LlamaForCausalLM"]),
        ({"hidden_size": "4096"}, [], 3, ["hidden_size", "integer"]),
        ({"rope_scaling": {"rope_type": "yarn"}}, [], 2, ["rope_scaling.rope_type", "llama3"]),
        ({"vocab_size": 1000, "eos_token_id": 2}, ["--tokenizer", MODEL], 2, ["model.tokenizer", "49152", "1000"]),
        ({}, ["--tokenizer", folder / "absent.gguf"], 3, ["absent.gguf"]),
    ]
    file = folder / "config.json"
    for changes, flags, wanted, words in cases:
        file.write_text(json.dumps(config | changes))
        code, text = node("--model", file, "--load-format", "random", "--port", "0", *flags)
        assert code == wanted and all(w in text for w in words), (changes, code, text)
        print(text.strip().splitlines()[-1].replace(str(folder) + "/", ""))
    code, text = node("--model", file, "--port", "0")
    assert code == 2 and "--load-format random" in text, (code, text)


def damaged_models(folder):
    whole = pathlib.Path(MODEL).read_bytes()
    damages = {
        "truncated": whole[:len(whole) // 2],
        "no magic": b"GGML" + whole[4:],
        "hostile count": whole[:8] + b"\xff" * 8 + whole[16:],
        "empty": b"",
        "head cut": whole[:1000],
    }
    for name, data in damages.items():
        file = folder / "damaged.gguf"
        file.write_bytes(data)
        conf = folder / "damaged.conf"
        conf.write_text(GOOD.replace(MODEL, str(file)).replace("8000", "0").replace("4242", "0"))
        code, text = node("--config", conf)
        lines = [l for l in text.strip().splitlines() if "damaged.gguf" in l and "configuration" not in l]
        assert code == 3 and len(lines) == 1, (name, code, text)
        print(f"{name}: {lines[0].replace(str(folder) + '/', '')}")
    code, text = node("--model", folder / "absent.gguf", "--port", "0")
    assert code == 3 and "absent.gguf" in text, (code, text)


def main():
    with tempfile.TemporaryDirectory() as folder:
        bad_configs(pathlib.Path(folder))
        damaged_models(pathlib.Path(folder))
        unusable_devices(pathlib.Path(folder))
        random_models(pathlib.Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""A model with made-up weights, over HTTP: with token ids alone, with another file's tokeniser, and by its seed."""
import json
import pathlib
import sys
import tempfile

from cluster import Cluster, MODEL

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 49152,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}
PROMPT = [40, 41, 42, 43]


def served(folder, **keys):
    return Cluster(model={"path": folder, "format": "random", **keys}, cache={"blocks": 100}).wait_ready()


def answer(cluster, prompt=PROMPT):
    body = {"prompt": prompt, "max_tokens": 24, "temperature": 0, "ignore_eos": True, "return_token_ids": True}
    done = cluster.post("/v1/completions", body)
    assert done["usage"]["completion_tokens"] == 24, done
    return done["choices"][0]


def main():
    with tempfile.TemporaryDirectory() as parent:
        folder = pathlib.Path(parent) / "tiny-model"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(CONFIG))
        with served(str(folder)) as cluster:
            assert '"tiny-model"' in cluster.get("/v1/models")[1]
            without = answer(cluster)
            assert without["text"] == "", without
            assert len(set(without["token_ids"])) > 12, without["token_ids"]  # greedy, and yet diverse
            for path, body in (("/v1/completions", {"prompt": "Hello"}), ("/tokenize", {"prompt": "Hello"}),
                               ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello"}]})):
                status, text = cluster.request(path, body)
                assert status == 400 and "tokeniser" in text, (path, status, text)
            metrics = cluster.get("/metrics")[1]
            for phase in ("http", "nodes", "connect", "headers", "open_device", "weights", "cache", "all"):
                assert f'dinfer_start_seconds{{phase="{phase}"}}' in metrics, (phase, metrics)
        with served(str(folder), tokenizer=MODEL) as cluster:
            same = answer(cluster)
            assert same["token_ids"] == without["token_ids"], (same, without)
            assert same["text"], same
            assert answer(cluster, "The capital of France is")["text"]
        with served(str(folder), seed=1) as cluster:
            assert answer(cluster)["token_ids"] != without["token_ids"]
    print(f"made-up weights: {without['token_ids']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the seeds of the fuzz targets, small inputs that each reach far into a parser, into tests/fuzz/corpus.

    tests/fuzz/seeds.py        what is there already and has another name stays: inputs that once broke something
"""
import json
import pathlib
import re
import struct

HERE = pathlib.Path(__file__).resolve().parent
GOLDEN = HERE.parent / "golden"


def save(target, name, data):
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())


def text(value):
    return struct.pack("<Q", len(value)) + value.encode()


def gguf():
    save("gguf", "golden", bytes.fromhex("".join((GOLDEN / "gguf/small.hex").read_text().split())))
    pairs = []
    add = lambda key, kind, value: pairs.append(text(key) + struct.pack("<I", kind) + value)
    u32 = lambda value: struct.pack("<I", value)
    f32 = lambda value: struct.pack("<f", value)
    array = lambda kind, values: struct.pack("<IQ", kind, len(values)) + b"".join(values)
    add("general.architecture", 8, text("llama"))
    add("general.alignment", 4, u32(8))
    for key, value in {"block_count": 1, "embedding_length": 8, "feed_forward_length": 8, "attention.head_count": 2,
                       "attention.head_count_kv": 1, "context_length": 64, "vocab_size": 6}.items():
        add("llama." + key, 4, u32(value))
    add("llama.attention.layer_norm_rms_epsilon", 6, f32(1e-5))
    add("llama.rope.freq_base", 6, f32(1e4))
    add("tokenizer.ggml.model", 8, text("gpt2"))
    add("tokenizer.ggml.pre", 8, text("llama-bpe"))
    add("tokenizer.ggml.tokens", 9, array(8, [text(t) for t in ["a", "b", "ab", "<s>", "</s>", "\u0120"]]))
    add("tokenizer.ggml.token_type", 9, array(5, [u32(k) for k in [1, 1, 1, 3, 3, 1]]))
    add("tokenizer.ggml.merges", 9, array(8, [text("a b")]))
    add("tokenizer.ggml.bos_token_id", 4, u32(3))
    add("tokenizer.ggml.eos_token_id", 4, u32(4))
    add("tokenizer.ggml.add_bos_token", 7, b"\1")
    tensor = text("token_embd.weight") + struct.pack("<IQQIQ", 2, 4, 2, 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(pairs)) + b"".join(pairs) + tensor
    save("gguf", "words", head + b"\0" * (-len(head) % 8) + bytes(32))
    save("gguf", "version2", b"GGUF" + struct.pack("<IQQ", 2, 0, 1) + text("k") + struct.pack("<I", 10) + bytes(8))


def shards():
    file = bytes.fromhex("".join((GOLDEN / "safetensors/small.hex").read_text().split()))
    save("safetensors", "golden", file)
    header = json.dumps({"__metadata__": {"format": "pt"}, "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                         "b": {"dtype": "BF16", "shape": [0, 3], "data_offsets": [8, 8]}}).encode()
    header += b" " * (-len(header) % 8)
    save("safetensors", "plain", struct.pack("<Q", len(header)) + header + bytes(8))
    save("safetensors", "long_header", struct.pack("<Q", 100_000_000) + b"{}")
    save("safetensors_index", "plain", json.dumps({"metadata": {"total_size": 8}, "weight_map": {"a": "a.safetensors"}}))
    save("safetensors_index", "outside", json.dumps({"weight_map": {"a": "../a.safetensors"}}))
    save("safetensors_index", "twice", '{"weight_map":{"a":"a.safetensors","a":"a.safetensors"}}')
    save("safetensors_index", "absent", '{"weight_map":{"a":"a.safetensors","b":"b.safetensors"}}')


def quantised():
    """One small matrix in each way; the last parts of names are what readers look for."""
    def file(name, *tensors):
        header, data = {}, b""
        for part, kind, shape, value in tensors:
            header["a." + part] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(value)]}
            data += value
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        save("safetensors", name, struct.pack("<Q", len(text)) + text + data)

    half, one = b"\0\x3c", struct.pack("<f", 1)
    order = struct.pack("<64i", *([0] * 32 + [1] * 32))
    file("f8", ("weight", "F8_E4M3", [16, 32], bytes(512)), ("weight_scale", "F32", [16, 1], one * 16))
    file("f8_block", ("weight", "F8_E4M3", [16, 32], bytes(512)), ("weight_scale_inv", "F32", [2, 2], one * 4))
    file("gptq", ("qweight", "I32", [8, 8], bytes(256)), ("qzeros", "I32", [2, 1], b"w" * 8),
         ("scales", "F16", [2, 8], half * 16), ("g_idx", "I32", [64], order))
    file("awq", ("qweight", "I32", [32, 1], bytes(128)), ("qzeros", "I32", [1, 1], b"w" * 4), ("scales", "F16", [1, 8], half * 8))
    file("packed", ("weight_packed", "I32", [3, 8], bytes(96)), ("weight_scale", "BF16", [3, 2], b"\x80\x3f" * 6),
         ("weight_zero_point", "I32", [1, 2], bytes(8)), ("weight_shape", "I64", [2], struct.pack("<2q", 3, 64)))


def tokenizers():
    for file in sorted((GOLDEN / "tokenizers").glob("*.json")):  # the rules of each, over fewer words
        whole = json.loads(file.read_text())
        vocab = whole["model"]["vocab"]
        kept = dict(sorted(vocab.items(), key=lambda pair: pair[1])[:40])
        kept = {word: i for i, word in enumerate(kept)}
        whole["model"]["vocab"] = kept
        parts = lambda merge: merge.split(" ") if isinstance(merge, str) else merge
        whole["model"]["merges"] = [m for m in whole["model"]["merges"]
                                    if all(p in kept for p in parts(m)) and "".join(parts(m)) in kept][:10]
        for added in whole["added_tokens"]:
            added["id"] = kept.get(added["content"], added["id"] % 40 + 40)
        save("tokenizer_json", file.stem, json.dumps(whole, ensure_ascii=False, separators=(",", ":")))
    save("vocab_merges", "plain", '{"a":0,"b":1,"ab":2,"\u0120":3,"<s>":4}\0#version: 0.2\na b\n')
    save("vocab_merges", "gap", '{"a":0,"b":7}\0a b\na  b\n\n')
    save("tokenizer_config", "plain", json.dumps(
        {"bos_token": "<s>", "eos_token": {"content": "<s>", "lstrip": False}, "unk_token": None, "add_bos_token": True,
         "tokenizer_class": "LlamaTokenizerFast", "chat_template": "{{ messages[0]['content'] }}"}))
    save("tokenizer_config", "templates", json.dumps(
        {"chat_template": [{"name": "default", "template": "x"}, {"name": "tool", "template": "y"}], "add_prefix_space": True}))


def templates():
    loop = "{% for m in messages %}{{ '<|' + m['role'] + '|>' }}\n{{ m.content | trim }}{{ eos_token }}{% endfor %}"
    save("chat_template", "loop", loop + "{% if add_generation_prompt %}<|assistant|>{% endif %}")
    save("chat_template", "macro", "{%- macro show(m, n=2) -%}{{ m.role|upper ~ n }}{%- endmacro -%}"
         "{% set ns = namespace(found=false) %}{% for m in messages if m.role != 'system' %}{{ show(m) }}{{ loop.index0 }}"
         "{% set ns.found = true %}{% else %}none{% endfor %}{{ ns.found and 1 or [1, {'a': 2}][1].a }}")
    save("chat_template", "strings", "{{ messages[1].content[::-1].split(' ')[0].replace('i', 'o') }}{{ 'a' in 'abc' }}"
         "{{ messages | map(attribute='role') | join(', ') }}{{ messages | tojson }}{{ strftime_now('%Y') }}"
         "{{ 7 // 2 ** 2 % 3 - -1 }}{{ messages | selectattr('role', 'equalto', 'user') | list | length }}")
    save("chat_template", "raise", "{% if messages[0].role != 'user' %}{{ raise_exception('no ' ~ messages[0].role) }}{% endif %}")
    save("chat_template", "endless", "{% for a in range(1000000000) %}{% for b in range(a) %}{{ 'x' * 100000 }}{% endfor %}{% endfor %}")
    save("chat_template", "recursion", "{% macro f(x) %}{{ f(x + x) }}{% endmacro %}{{ f('ab') }}")
    save("chat_template", "doubling", "{% set n = namespace(s='x') %}{% for i in range(64) %}{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s }}")
    save("chat_template", "deep", "{{ " + "(" * 200 + "1" + ")" * 200 + " }}")


def configs():
    llama = {"architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
             "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100, "max_position_embeddings": 128,
             "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "eos_token_id": [1, 2], "tie_word_embeddings": True,
             "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                              "original_max_position_embeddings": 64}}
    save("config_json", "llama", json.dumps(llama))
    save("config_json", "qwen2", json.dumps(llama | {"architectures": ["Qwen2ForCausalLM"], "rope_scaling": None, "head_dim": 16}))
    save("config_json", "gpt2", json.dumps({"architectures": ["GPT2LMHeadModel"], "n_embd": 64, "n_head": 4, "n_layer": 2,
                                            "n_positions": 64, "vocab_size": 100, "layer_norm_epsilon": 1e-5,
                                            "activation_function": "gelu_new", "eos_token_id": 0}))
    save("config_json", "opt", json.dumps({"architectures": ["OPTForCausalLM"], "hidden_size": 64, "ffn_dim": 128, "num_hidden_layers": 2,
                                           "num_attention_heads": 4, "vocab_size": 100, "max_position_embeddings": 64,
                                           "word_embed_proj_dim": 32, "do_layer_norm_before": False, "activation_function": "relu"}))
    weights = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128, "symmetric": True}
    for name, how in {"gptq": {"quant_method": "gptq", "bits": 4, "group_size": 128, "checkpoint_format": "gptq_v2"},
                      "awq": {"quant_method": "awq", "bits": 4, "group_size": 64, "version": "gemm"},
                      "fp8": {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]},
                      "compressed": {"quant_method": "compressed-tensors", "format": "pack-quantized",
                                     "sparsity_config": {"format": "dense"}, "config_groups": {"group_0": {"weights": weights}}}}.items():
        save("config_json", name, json.dumps(llama | {"quantization_config": how}))
    save("generation_config", "plain", json.dumps({"temperature": 0.6, "top_p": 0.9, "top_k": 50, "min_p": 0.05,
                                                   "repetition_penalty": 1.1, "eos_token_id": [1, 2], "bos_token_id": 0}))
    save("generation_config", "huge", '{"temperature":1e999,"top_k":99999999999999999999,"eos_token_id":-1}')
    save("cluster_conf", "one", '[model]\npath = "m.gguf"\nmax_model_len = "32K"\n[parallel]\ntensor_parallel_size = 2\n'
         '[[node]]\nname = "a"\naddress = "127.0.0.1"\nport = 4242\ndevices = ["cpu:0", "cpu:1"]\n[[gateway]]\nnode = "a"\nport = 8000\n')
    save("cluster_conf", "two", '[model]\npath = "m"\ndtype = "float32"\n[parallel]\npipeline_parallel_size = 2\npp_layers = [10, 20]\n'
         '[scheduler]\nmax_num_seqs = 8\n[cache]\nmemory = "1.5 GiB"\nblock_size = 16\n[security]\ninsecure_network = true\n[health]\n'
         'heartbeat_ms = 100\ntimeout_ms = 1000\n[log]\nlevel = "debug"\n[[node]]\nname = "a"\naddress = "10.0.0.1"\ndevices = ["cpu:0"]\n'
         'env = { A = "1" }\n[[node]]\nname = "b"\naddress = "10.0.0.2"\ndevices = ["cpu:0"]\n')
    save("cluster_conf", "odd", 'a.b.c = 1979-05-27T07:32:00Z\n[[node]]\n[node]\nname = """\\\n  x"""\nx = [[[[0x1F, 1_0, inf, nan, 1e9]]]]\n')


def http():
    post = "POST /v1/completions HTTP/1.1\r\nHost: a\r\n"
    requests = {
        "get": "GET /live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "length": post + "Content-Length: 4\r\n\r\nabcdGET / HTTP/1.1\r\nHost: b\r\n\r\n",
        "chunked": post + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\nGET / HTTP/1.0\r\n\r\n",
        "expect": post + "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
        "absolute": "OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\n\r\nGET http://a/b?c HTTP/1.1\r\nHost: a\r\nX: \t y \r\n\r\n",
        "old": "HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nHEAD / HTTP/1.0\r\n\r\n",
        "both": post + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "identity": post + "Transfer-Encoding: identity\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "extension": post + "Transfer-Encoding: chunked\r\n\r\n1;a=b\r\nx\r\n0\r\n\r\n",
        "trailer": post + "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nHost: b\r\n\r\n",
        "long": post + "Content-Length: 1000\r\n\r\n" + "x" * 400,
    }
    for name, request in requests.items():
        save("http", name, "\x60" + request)


def openai():
    chat = {"model": "fuzz", "messages": [{"role": "system", "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "b"}]}],
            "temperature": 0.5, "top_p": 0.9, "n": 2, "max_completion_tokens": 5, "stop": ["x", "y"], "stream": True,
            "stream_options": {"include_usage": True}, "logprobs": True, "top_logprobs": 3, "seed": 1, "logit_bias": {"65": -1}}
    save("openai", "chat", "\0" + json.dumps(chat))
    save("openai", "continue", "\0" + json.dumps({"messages": [{"role": "assistant", "content": "ab"}], "continue_final_message": True,
                                                  "tools": [], "response_format": {"type": "text"}, "user": "u", "later": 1}))
    save("openai", "completion", "\1" + json.dumps({"prompt": ["a", [1, 2]], "echo": True, "max_tokens": 0, "logprobs": 1, "min_p": 0.1,
                                                    "top_k": -1, "stop_token_ids": [3], "presence_penalty": -1, "priority": 2,
                                                    "cache_salt": "s", "ignore_eos": True, "min_tokens": 0, "repetition_penalty": 1.1}))
    save("openai", "ids", "\1" + json.dumps({"prompt": [1, 2, 257], "suffix": "", "best_of": 1, "frequency_penalty": 2}))
    save("openai", "tokenize", "\2" + json.dumps({"prompt": "a</s>", "return_token_strs": True}))
    save("openai", "tokenize_chat", "\2" + json.dumps({"messages": [{"role": "user", "content": "a"}], "add_generation_prompt": False}))
    save("openai", "detokenize", "\3" + json.dumps({"tokens": [65, 66, 257]}))


def peers():
    card = "dinfer-comm 1\nh\np\n" + "0a" * 16 + "\n0\n4242\n127.0.0.1\na/cpu:0"
    save("peer_cards", "transport", card)
    save("peer_cards", "rank", "dinfer-rank 1\n00ff\n\n" + card)
    version = int(re.search(r"protocol_version = (\d+)", (HERE.parent.parent / "include/dinfer/version.hpp").read_text())[1])
    blob = lambda target, kind, *parts: bytes([target, kind]) + struct.pack("<I", version) + b"".join(parts)
    u32 = lambda *values: struct.pack(f"<{len(values)}I", *values)
    sampling = (struct.pack("<fifffff", 1, 0, 1, 0, 1, 0, 0) + u32(1, 5) + struct.pack("<fQIIB", 1.5, 7, 16, 0, 0)
                + u32(1, 9) + struct.pack("<ii", 1, -1))
    save("peer_blobs", "plan", blob(0, 1, struct.pack("<IQ", 1, 2), u32(1, 3), u32(0, 0, 0)))
    save("peer_blobs", "result", blob(1, 2, struct.pack("<IQ", 1, 2), u32(1, 3, 0, 0, 40)))
    save("peer_blobs", "request", blob(2, 3, struct.pack("<Q", 77), u32(2, 5, 6), sampling, struct.pack("<i", -1), u32(1), b"s", u32(0)))
    save("peer_blobs", "batch", blob(3, 4, u32(0, 1), struct.pack("<QB", 5, 1), u32(1), b"m", u32(1), b"f"))
    frame = lambda epoch, sequence, what, size: struct.pack("<IIIBBHQ", 0x6D617266, epoch, sequence, what, 0, 0, size)
    save("peer_frames", "message", b"\x08" + frame(0, 0, 6, 8) + bytes(8))
    save("peer_frames", "reset", b"\x48" + frame(0, 0, 6, 3) + bytes(3) + frame(1, 0, 0, 0) + frame(1, 0, 6, 8) + bytes(8))
    save("peer_frames", "broadcast", b"\x88" + frame(0, 0, 5, 8) + bytes(8))


for make in (gguf, shards, quantised, tokenizers, templates, configs, http, openai, peers):
    make()

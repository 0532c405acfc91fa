#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Asks transformers (fp32) for greedy continuations of SmolLM2's GGUF and stores them in tests/golden.

    pip install torch transformers tokenizers gguf
    tests/reference/smollm2_reference.py SmolLM2-135M-Instruct.Q4_1.gguf tests/golden/smollm2_greedy.json

The GGUF is dequantised by the `gguf` package and loaded into transformers' LlamaForCausalLM (smollm2_weights.py).
Needs several GB: never run by scripts/test.
"""
import json
import sys

import torch
from gguf import GGUFReader
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

from smollm2_weights import checkpoint_config, checkpoint_tensors

PROMPTS = [
    "The capital of France is", "Once upon a time, in a small village by the sea,",
    "def fibonacci(n):\n    \"\"\"Return the n-th Fibonacci number.\"\"\"\n",
    "Water boils at", "The three laws of thermodynamics are:", "In 1969, the first human",
    "Dear Sir or Madam,\n\nI am writing to", "import numpy as np\n\nx = np.", "Q: What is 17 + 25?\nA:",
    "The quick brown fox",
]
CHATS = [
    "What is the capital of Italy?", "Write a short poem about the moon.", "Explain photosynthesis to a child.",
    "List three uses of copper.", "How do I sort a list in Python?", "Tell me a joke about computers.",
    "What causes the seasons?", "Translate 'good morning' into Spanish.", "Why is the sky blue?",
    "Give me a recipe for pancakes.",
]
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
TOKENS = 64


def load(path):
    reader = GGUFReader(path)
    field = lambda key: reader.fields[key].contents()
    config = LlamaConfig(**checkpoint_config(reader), attn_implementation="eager")
    state = {name: torch.from_numpy(values) for name, values in checkpoint_tensors(reader).items()}
    model = LlamaForCausalLM(config)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    model.tie_weights()
    return model.eval().float(), reader, field


def make_tokenizer(field):
    vocabulary = field("tokenizer.ggml.tokens")
    merges = [tuple(m.split(" ")) for m in field("tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(vocabulary)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([t for t, kind in zip(vocabulary, field("tokenizer.ggml.token_type")) if kind == 3])
    return tokenizer


@torch.no_grad()
def greedy(model, prompt):
    ids, past, tokens, logprobs, margin, first = torch.tensor([prompt]), None, [], [], 1e9, None
    for _ in range(TOKENS):
        out = model(ids, past_key_values=past, use_cache=True)
        past = out.past_key_values
        row = torch.log_softmax(out.logits[0, -1].double(), -1)
        top = torch.topk(row, 5)
        if first is None:
            first = [[int(i), round(float(v), 5)] for i, v in zip(top.indices, top.values)]
        margin = min(margin, float(top.values[0] - top.values[1]))
        tokens.append(int(top.indices[0]))
        logprobs.append(round(float(top.values[0]), 4))
        ids = torch.tensor([[tokens[-1]]])
    return {"prompt_tokens": prompt, "tokens": tokens, "logprobs": logprobs, "first_top": first,
            "least_margin": round(margin, 5)}


def main():
    model, _, field = load(sys.argv[1])
    tokenizer = make_tokenizer(field)
    chats = [f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{c}<|im_end|>\n<|im_start|>assistant\n"
             for c in CHATS]
    # Alternating, so that the first ten hold both kinds.
    texts = [t for pair in zip(PROMPTS, chats) for t in pair]
    answers = []
    for text in texts:
        answer = {"text": text, **greedy(model, tokenizer.encode(text, add_special_tokens=False).ids)}
        answer["answer"] = tokenizer.decode(answer["tokens"], skip_special_tokens=True)
        answers.append(answer)
        print(answer["least_margin"], repr(answer["answer"][:60]), flush=True)
    with open(sys.argv[2], "w") as out:
        out.write('{"source": "transformers, float32, greedy, end of sequence ignored", "prompts": [\n')
        out.write(",\n".join(json.dumps(a, separators=(",", ":")) for a in answers) + "\n]}\n")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Asks transformers (float32) for greedy continuations of the checkpoints of family_checkpoints.py and stores them.

    pip install torch transformers safetensors numpy
    tests/reference/family_checkpoints.py build/families
    tests/reference/family_reference.py build/families tests/golden/families.json

Prompts of random tokens are tried until eight have, at each of their steps, a best logit that leads by LEAST_MARGIN: no
rounding of float32 may turn a token. Also prints how many of the prompts each broken checkpoint changes: at least half must.
Never run by scripts/test.
"""
import json
import pathlib
import statistics
import sys

import numpy as np
import torch
import transformers

from family_checkpoints import BROKEN, FAMILIES

PROMPTS, TOKENS, LEAST_MARGIN = 8, 64, 1e-3


def load(folder):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    assert not info["missing_keys"] and not info["mismatched_keys"], info
    return model.eval()


@torch.no_grad()
def greedy(model, prompt, count=TOKENS):
    tokens, margin = [], 1e9
    for _ in range(count):
        logits = model(torch.tensor([prompt + tokens]), use_cache=False, logits_to_keep=1).logits[0, -1]
        top = torch.topk(logits.double(), 2)
        margin = min(margin, float(top.values[0] - top.values[1]))
        tokens.append(int(top.indices[0]))
    return tokens, margin


def answers_of(folder, family):
    model = load(folder / family / "single")
    random = np.random.RandomState(7)
    answers = []
    for attempt in range(200):
        prompt = random.randint(3, model.config.vocab_size, size=random.randint(4, 48)).tolist()
        tokens, margin = greedy(model, prompt)
        if margin >= LEAST_MARGIN:
            answers.append({"prompt": prompt, "tokens": tokens, "least_margin": round(margin, 5)})
        if len(answers) == PROMPTS:
            break
    distinct = [len(set(a["tokens"])) for a in answers]
    print(f"{family}: {attempt + 1} prompts tried, distinct tokens {distinct}, least margin "
          f"{min(a['least_margin'] for a in answers)}", flush=True)
    assert len(answers) == PROMPTS and statistics.median(distinct) >= 30
    return answers


def main():
    torch.set_num_threads(1)
    folder, target = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    answers = {family: answers_of(folder, family) for family in FAMILIES}
    for what, (family, _, _) in BROKEN.items():
        model = load(folder / "broken" / what)
        changed = sum(greedy(model, a["prompt"])[0] != a["tokens"] for a in answers[family])
        print(f"{what}: changes {changed} of {PROMPTS}", flush=True)
        assert 2 * changed >= PROMPTS, what
    lines = ",\n".join(f'"{family}": [\n' + ",\n".join(json.dumps(a, separators=(",", ":")) for a in own) + "]"
                       for family, own in answers.items())
    target.write_text(f'{{"source": "transformers {transformers.__version__}, torch {torch.__version__}, float32, greedy", '
                      f'"families": {{\n{lines}\n}}}}\n')


if __name__ == "__main__":
    main()

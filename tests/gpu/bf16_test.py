#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""SmolLM2 in bfloat16, served from a GPU, against transformers in bfloat16 on the same GPU. Needs torch, transformers,
tokenizers and gguf, so scripts/test does not run it.

    tests/gpu/bf16_test.py --bin build/cuda/bin --model SmolLM2-135M-Instruct.Q4_1.gguf

For each of 20 prompts: the first token must be the reference's, unless the reference's two best lie within MARGIN; the
log-probabilities that both give to the reference's five best tokens may differ by MOST, on average by MEAN. Both keep
activations in bfloat16 and round at different places; the reference's head is computed in float32, as ours is. Weights are expanded
to bfloat16, as the reference's are."""
import argparse
import json
import pathlib
import sys
import urllib.request

from one_node import post, server

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "reference"))

MARGIN, MOST, MEAN = 0.15, 0.25, 0.05
TOKENS = 32


def answers_of(url, model, prompts):
    """Per prompt: drawn ids, and what the first position's candidates got, by their text."""
    out = []
    for prompt in prompts:
        body = dict(model=model, prompt=prompt, max_tokens=TOKENS, temperature=0, logprobs=20, ignore_eos=True, return_token_ids=True)
        choice = post(url, "/v1/completions", body)["choices"][0]
        out.append((choice["token_ids"], choice["logprobs"]["top_logprobs"][0]))
    return out


def reference(path, prompts):
    import torch
    from smollm2_reference import load
    model, _, _ = load(path)
    model = model.to(torch.bfloat16).cuda()
    head = model.lm_head.weight.float()
    out = []
    with torch.no_grad():
        for prompt in prompts:
            ids, past, drawn, first = torch.tensor([prompt]).cuda(), None, [], None
            for _ in range(TOKENS):
                step = model.model(ids, past_key_values=past, use_cache=True)
                past = step.past_key_values
                row = torch.log_softmax(head @ step.last_hidden_state[0, -1].float(), -1)
                first = torch.topk(row, 5) if first is None else first
                drawn.append(int(row.argmax()))
                ids = torch.tensor([[drawn[-1]]]).cuda()
            out.append((drawn, [int(i) for i in first.indices], [float(v) for v in first.values]))
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True)
    parser.add_argument("--model", required=True)
    arguments = parser.parse_args()
    golden = json.loads((pathlib.Path(__file__).resolve().parent.parent / "golden/smollm2_greedy.json").read_text())["prompts"]
    prompts = [g["prompt_tokens"] for g in golden]
    with server(arguments, ["--dequantize"]) as url:
        name = json.load(urllib.request.urlopen(url + "/v1/models", timeout=10))["data"][0]["id"]
        ours = answers_of(url, name, prompts)
        theirs = reference(arguments.model, prompts)
        texts = {b: post(url, "/detokenize", {"tokens": [b]})["prompt"] for _, best, _ in theirs for b in best}
    differences, failures, agreed = [], [], []
    for index, ((tokens, top), (drawn, best, values)) in enumerate(zip(ours, theirs)):
        if tokens[0] != best[0] and values[0] - values[1] > MARGIN:
            failures.append(f"prompt {index}: first token {tokens[0]}, the reference's is {best[0]} by {values[0] - values[1]:.3f}")
        missing = [b for b in best if texts[b] not in top]
        if missing:
            failures.append(f"prompt {index}: {missing} of the reference's five best are not among ours")
        differences += [abs(top[texts[b]] - v) for b, v in zip(best, values) if texts[b] in top]
        agreed.append(next((i for i, (a, b) in enumerate(zip(tokens, drawn)) if a != b), TOKENS))
    mean = sum(differences) / len(differences)
    if max(differences) > MOST or mean > MEAN:
        failures.append(f"log-probabilities differ by {max(differences):.4f} at most, {mean:.4f} on average; {MOST} and {MEAN} are allowed")
    print(f"{len(prompts)} prompts: log-probabilities differ by {max(differences):.4f} at most, {mean:.4f} on average; "
          f"greedy tokens agree for {sum(agreed) / len(agreed):.1f} of {TOKENS} on average, {sum(a == TOKENS for a in agreed)} prompts entirely")
    print("\n".join(failures) or "all right")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""The API as the openai package and curl meet it: answers of the reference, shapes, refusals, and the examples."""
import asyncio
import http.client
import json
import os
import re
import subprocess
import sys

import openai

from cluster import GOLDEN, ROOT, Cluster

END_OF_TURN = 2
TEXT_PROMPT = "The capital of France is"


def api(cluster):
    return openai.OpenAI(base_url=cluster.url + "/v1", api_key="none", max_retries=0, timeout=60)


def chat_prompts():
    for g in GOLDEN:
        messages = re.findall(r"<\|im_start\|>(\w+)\n(.*?)<\|im_end\|>\n", g["text"], re.S)
        if messages:
            yield [{"role": r, "content": c} for r, c in messages], g


def chats_equal_the_reference(client):
    """The template and greedy decoding of transformers, up to the end of the turn; the system prompt is the template's own."""
    count = 0
    for messages, g in chat_prompts():
        ended = END_OF_TURN in g["tokens"]
        expected = g["tokens"][:g["tokens"].index(END_OF_TURN) + 1] if ended else g["tokens"]
        answer = client.chat.completions.create(model="smollm2", messages=[m for m in messages if m["role"] != "system"],
                                                temperature=0, max_tokens=len(g["tokens"]),
                                                extra_body={"return_token_ids": True})
        choice = answer.choices[0]
        assert choice.token_ids == expected, (messages, choice)
        assert answer.prompt_token_ids == g["prompt_tokens"] and answer.usage.completion_tokens == len(expected)
        assert choice.finish_reason == ("stop" if ended else "length")
        assert g["answer"].startswith(choice.message.content) and "<|" not in choice.message.content
        count += 1
    assert count >= 5
    print(f"{count} chats: prompt and answer are the reference's tokens", flush=True)


def streamed_equals_whole(client):
    """Text, log-probabilities and offsets of a stream add up to those of one answer; characters are never cut."""
    for seed in range(3):
        body = dict(model="smollm2", prompt="日本 😀", max_tokens=48, temperature=2, seed=seed, logprobs=2)
        whole = client.completions.create(**body).choices[0]
        text, offsets, values, finishes = "", [], [], []
        for chunk in client.completions.create(**body, stream=True):
            choice = chunk.choices[0]
            text += choice.text
            offsets += choice.logprobs.text_offset if choice.logprobs else []
            values += choice.logprobs.token_logprobs if choice.logprobs else []
            finishes.append(choice.finish_reason)
        assert (text, offsets, values) == (whole.text, whole.logprobs.text_offset, whole.logprobs.token_logprobs)
        assert finishes[-1] == whole.finish_reason and set(finishes[:-1]) == {None}
    body = dict(model="smollm2", messages=[{"role": "user", "content": "Repeat: 😀🎉 你好"}], max_tokens=24, temperature=0,
                logprobs=True, top_logprobs=1)
    whole = client.chat.completions.create(**body).choices[0]
    chunks = list(client.chat.completions.create(**body, stream=True, stream_options={"include_usage": True}))
    assert len({(c.id, c.created, c.model, c.object) for c in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant" and chunks[-1].choices == [] and chunks[-1].usage.total_tokens > 0
    assert all(c.usage is None for c in chunks[:-1])
    deltas = [c.choices[0] for c in chunks[:-1]]
    pieces = [d.delta.content or "" for d in deltas]
    assert "".join(pieces) == whole.message.content and all("\ufffd" not in p for p in pieces[:-2])
    tokens = [t for d in deltas if d.logprobs for t in d.logprobs.content]
    assert [t.bytes for t in tokens] == [t.bytes for t in whole.logprobs.content]
    assert all(t.top_logprobs[0].token == t.token for t in tokens)  # greedy takes the best
    print("streams add up to the whole answers", flush=True)


def choices_and_seeds(client):
    def ask(**extra):
        answer = client.chat.completions.create(model="smollm2", messages=[{"role": "user", "content": "Name a colour."}],
                                                max_tokens=12, **extra)
        return [c.message.content for c in answer.choices]

    assert ask(seed=5) == ask(seed=5) and ask(seed=5, n=3) == ask(seed=5, n=3)
    assert len(set(ask(seed=5, n=3))) > 1 and ask(seed=5, n=3)[:1] == ask(seed=5)
    answer = client.completions.create(model="smollm2", prompt=[[504, 3575, 282, 4649, 314], [504, 3575]], max_tokens=4, n=2, temperature=0)
    assert [c.index for c in answer.choices] == [0, 1, 2, 3] and answer.choices[0].text == answer.choices[1].text
    assert answer.usage.prompt_tokens == 7 and answer.usage.completion_tokens == 16
    biased = client.completions.create(model="smollm2", prompt=TEXT_PROMPT, max_tokens=1, temperature=0, logit_bias={"7042": -100})
    assert answer.choices[0].text.startswith(" Paris") and not biased.choices[0].text.startswith(" Paris")
    print("n, seed, token ids and logit_bias", flush=True)


def echo_and_stop(client):
    scored = client.completions.create(model="smollm2", prompt=TEXT_PROMPT, max_tokens=0, echo=True, logprobs=1)
    logprobs = scored.choices[0].logprobs
    assert scored.choices[0].text == TEXT_PROMPT == "".join(logprobs.tokens) and scored.usage.completion_tokens == 0
    assert logprobs.token_logprobs[0] is None and all(v < 0 for v in logprobs.token_logprobs[1:])
    for stop in ([" answer"], ["xyz", "answer is"]):
        body = dict(model="smollm2", prompt=TEXT_PROMPT, max_tokens=40, temperature=0, stop=stop)
        whole = client.completions.create(**body).choices[0]
        text = "".join(c.choices[0].text for c in client.completions.create(**body, stream=True))
        assert text == whole.text and whole.finish_reason == "stop" and whole.stop_reason == stop[-1], whole
        kept = client.completions.create(**body, extra_body={"include_stop_str_in_output": True}).choices[0]
        assert kept.text == whole.text + stop[-1]
    print("echo and stop strings", flush=True)


async def many_at_once(cluster):
    client = openai.AsyncOpenAI(base_url=cluster.url + "/v1", api_key="none", max_retries=0, timeout=60)
    stream = await client.chat.completions.create(model="smollm2", messages=[{"role": "user", "content": "Count."}], stream=True,
                                                  max_tokens=4000, temperature=0, extra_body={"ignore_eos": True})
    async for _ in stream:
        break
    await stream.close()
    answers = await asyncio.gather(*[client.completions.create(model="smollm2", prompt=TEXT_PROMPT, max_tokens=8, temperature=0)
                                     for _ in range(24)])
    assert len({a.choices[0].text for a in answers}) == 1 and len({a.id for a in answers}) == 24
    print("24 clients at once beside one that left", flush=True)


REFUSED = [  # status, param, what is sent
    (400, "messages", dict(messages=[])),
    (400, "messages[0].role", dict(messages=[{"role": "robot", "content": "x"}])),
    (400, "messages[0].content", dict(messages=[{"role": "user"}])),
    (400, "messages", dict(messages=[{"role": "user", "content": " hello" * 9000}])),
    (400, "max_tokens", dict(max_tokens=8192)),
    (400, "temperature", dict(temperature=2.5)),
    (400, "top_logprobs", dict(logprobs=True, top_logprobs=21)),
    (400, "logit_bias", dict(logit_bias={"999999": 1})),
    (400, "response_format", dict(response_format={"type": "json_object"})),
    (400, "tools", dict(tools=[{"type": "function"}])),
    (400, "stream_options", dict(stream_options={"include_usage": True})),
    (404, "model", dict(model="gpt-4")),
]
ACCEPTED = [dict(max_tokens=2.0), dict(stop=None, n=None, temperature=None, tools=[], user="me", unknown_field=1),
            dict(messages=[{"role": "developer", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "Hi"}]}]),
            dict(model=None)]


def refusals(cluster):
    base = dict(model="smollm2", messages=[{"role": "user", "content": "Hi"}], max_tokens=2, temperature=0)
    for status, param, change in REFUSED:
        got, text = cluster.request("/v1/chat/completions", base | change)
        error = json.loads(text)["error"]
        assert got == status and error["param"] == param, (change, got, text)
        assert set(error) == {"message", "type", "param", "code"}
        assert param in error["message"] or "maximum context length is 8192 tokens" in error["message"], error
    for change in ACCEPTED:
        cluster.post("/v1/chat/completions", base | change)
    connection = http.client.HTTPConnection("127.0.0.1", cluster.port, timeout=20)  # one, kept alive
    for method, path, body, status in [("POST", "/v1/completions", "{", 400), ("POST", "/v1/completions", "", 400),
                                       ("POST", "/v1/completions", "[]", 400), ("POST", "/v1/completions", '{"prompt":""}', 400),
                                       ("POST", "/v1/completions", b'{"prompt":"\xff"}', 400), ("GET", "/v1/completions", None, 405),
                                       ("HEAD", "/v1/models", None, 200), ("OPTIONS", "/v1/completions", None, 204),
                                       ("GET", "/v1/models/smollm2", None, 200), ("GET", "/v1/models/other", None, 404),
                                       ("GET", "/nowhere", None, 404), ("GET", "/health", None, 200)]:
        connection.request(method, path, body)
        answer = connection.getresponse()
        assert answer.status == status, (method, path, body, answer.status)
        answer.read()
    connection.close()
    named = cluster.post("/v1/completions", dict(prompt="Hi", max_tokens=1, request_id="mine"))
    assert named["id"] == "cmpl-mine"
    print(f"{len(REFUSED)} requests refused with their field, {len(ACCEPTED)} odd ones served", flush=True)


def examples(cluster):
    """What examples/ tells people to run."""
    url = {**os.environ, "DINFER_URL": cluster.url}
    for command in ([sys.executable, ROOT / "examples/openai_client.py", "What is the capital of Italy?"],
                    ["bash", ROOT / "examples/curl.sh"]):
        done = subprocess.run(command, env=url, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and done.stdout.strip(), (command, done.stdout, done.stderr)
        print(done.stdout.strip()[:200], flush=True)


def main():
    with Cluster([["cpu:0"]]) as c:
        c.wait_ready()
        client = api(c)
        assert [m.id for m in client.models.list()] == ["smollm2"]
        chats_equal_the_reference(client)
        streamed_equals_whole(client)
        choices_and_seeds(client)
        echo_and_stop(client)
        asyncio.run(many_at_once(c))
        refusals(c)
        examples(c)
    return 0


if __name__ == "__main__":
    sys.exit(main())

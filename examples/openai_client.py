# SPDX-License-Identifier: Apache-2.0
"""A chat with a dinfer server, printed as it comes: pip install openai; openai_client.py [QUESTION]"""
import os
import sys

import openai

client = openai.OpenAI(base_url=os.environ.get("DINFER_URL", "http://127.0.0.1:8000") + "/v1",
                       api_key=os.environ.get("DINFER_API_KEY", "none"))  # a key only if the server has api_keys_file
model = client.models.list().data[0].id
stream = client.chat.completions.create(
    model=model, stream=True, max_tokens=200, temperature=0, stream_options={"include_usage": True},
    messages=[{"role": "user", "content": " ".join(sys.argv[1:]) or "Why is the sky blue?"}])
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
    elif chunk.usage:
        print(f"\n({chunk.usage.prompt_tokens} tokens in, {chunk.usage.completion_tokens} out)")

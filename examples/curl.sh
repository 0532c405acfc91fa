#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A dinfer server by hand: curl.sh, with the server's address in DINFER_URL when it is not the default.
set -euo pipefail
url=${DINFER_URL:-http://127.0.0.1:8000}
json='Content-Type: application/json'

# Does it serve? The stage of the start and the reason are in the answer, also while the status is 503.
curl -sS "$url/ready"; echo

# The served model; max_model_len bounds prompt and answer together.
curl -sS --fail-with-body "$url/v1/models"; echo

# A chat, whole.
curl -sS --fail-with-body "$url/v1/chat/completions" -H "$json" -d '{
  "messages": [{"role": "user", "content": "What is the capital of Italy?"}], "max_tokens": 32, "temperature": 0}'; echo

# A completion, streamed as events; the last is [DONE]. -N shows them as they come.
curl -sSN --fail-with-body "$url/v1/completions" -H "$json" -d '{
  "prompt": "The sky is", "max_tokens": 8, "temperature": 0, "stream": true}'

# How probable is a text? echo with max_tokens 0 scores the prompt.
curl -sS --fail-with-body "$url/v1/completions" -H "$json" -d '{
  "prompt": "The capital of France is Paris", "max_tokens": 0, "echo": true, "logprobs": 0}'; echo

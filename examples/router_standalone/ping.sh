#!/usr/bin/env bash
# One streamed chat completion. HOST, PORT and MODEL may be set.
set -euo pipefail
HOST=${HOST:-127.0.0.1}
PORT=${PORT:-8000}
MODEL=${MODEL:-deepseek-ai/DeepSeek-R1-Distill-Llama-8B}

curl --fail-with-body --no-buffer --silent --show-error --include --max-time 60 \
  "http://${HOST}:${PORT}/v1/chat/completions" \
  -H 'content-type: application/json' \
  -d '{
    "model": "'"${MODEL}"'",
    "messages": [{"role": "user", "content": "In one sentence: what is a KV cache?"}],
    "max_tokens": 16,
    "stream": true,
    "stream_options": {"include_usage": true}
  }'

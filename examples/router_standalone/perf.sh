#!/usr/bin/env bash
# A bounded load on the running example: streamed chat, ISL tokens in, OSL out. Every value may be
# set: REQUESTS=20 CONCURRENCY=4 PORT=8001 ./perf.sh
set -euo pipefail
cd "$(dirname "$0")"
exec "${PYTHON:-python3}" perf.py \
  --url "http://${HOST:-127.0.0.1}:${PORT:-8000}" \
  --isl "${ISL:-3000}" \
  --osl "${OSL:-100}" \
  --concurrency "${CONCURRENCY:-25}" \
  --requests "${REQUESTS:-100}" \
  --prefixes "${PREFIXES:-10}" \
  --seed "${SEED:-42}" \
  --timeout "${TIMEOUT:-120}"

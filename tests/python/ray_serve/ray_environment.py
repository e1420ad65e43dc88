"""How patient Ray is on a busy machine: read by Ray when it is imported, in every process."""

from __future__ import annotations

# Ray kills and starts again what is slow to start, and passes over replicas that are slow to say
# how many requests they have: a busy machine would get busier, and routes would be the timing's.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_QUEUE_LENGTH_RESPONSE_DEADLINE_S": "5",
    "RAY_SERVE_MAX_QUEUE_LENGTH_RESPONSE_DEADLINE_S": "10",
}

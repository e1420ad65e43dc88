"""Copies of one prompt, as rollouts send them: where the policies' documentation says they go."""

from __future__ import annotations

from collections import Counter
from typing import Any

import kvroute
import pytest

ENGINES = 8
COPIES = 1500
PROMPT = list(range(1000))
SPREAD_ABOVE = 8


def busiest(policy: Any) -> int:
    """Most copies on one engine. One copy has run before, each gets its first token before the next
    one comes, and none ends."""
    clock = kvroute.VirtualClock()
    counts: Counter[object] = Counter()
    with kvroute.KvRouter(16, policy, clock=clock, seed=1) as router:
        for number in range(ENGINES):
            router.add_worker(f"w{number}")
        with router.reserve(PROMPT) as first:
            clock.advance(0.1)
            first.first_token()
        running = []
        for _ in range(COPIES):
            copy = router.reserve(PROMPT, expected_output_tokens=1000)
            counts[copy.choice.worker] += 1
            clock.advance(0.02)
            copy.first_token()
            running.append(copy)
    return max(counts.values())


@pytest.mark.parametrize(
    "policy", ["kv_delay", "ttft", "kvaware", "weighted", "preble", "dual_map"]
)
def test_policies_by_time_or_cache_alone_keep_all_on_one_engine(policy: str) -> None:
    assert busiest(policy) == COPIES


@pytest.mark.parametrize(
    "policy",
    [
        {"name": "kv_cost", "request_weight": 8},
        {"name": "spill", "of": "kv_delay"},
        "cache_aware",
        "loadaware",
        {
            "name": "gate",
            "of": "requests",
            "threshold": SPREAD_ABOVE,
            "then": "least_requests",
            "otherwise": "kv_delay",
        },
    ],
)
def test_policies_that_count_requests_spread_them(policy: Any) -> None:
    assert busiest(policy) < 2 * COPIES / ENGINES

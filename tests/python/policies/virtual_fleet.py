"""A router with workers in virtual time, as the scenarios of this folder drive it."""

from __future__ import annotations

import contextlib
import random
from array import array
from collections import Counter
from collections.abc import Iterator
from typing import TypeAlias

import kvroute

BLOCK = 16
DEFAULT = "kv_cost"
INFORMED = [DEFAULT, "kv_delay"]
LOAD_AWARE = [
    *INFORMED,
    "cache_aware",
    "least_load",
    "least_loaded",
    "least_requests",
    "lmetric",
    "power_of_two",
    "preble",
    "qps",
    "spill",
    "standalone",
    "ttft",
    "weighted",
]
Policy: TypeAlias = "str | dict[str, object] | kvroute.PythonPolicy"


def prompt(seed: int, length: int, shared: int = 0) -> array[int]:
    """`shared` tokens that all prompts have, then tokens of this one's own."""
    own = random.Random(seed)
    return array("I", [*range(1, shared + 1), *own.choices(range(50_000), k=length - shared)])


@contextlib.contextmanager
def fleet(
    policy: Policy, workers: int, **options: object
) -> Iterator[tuple[kvroute.KvRouter, kvroute.VirtualClock]]:
    """Workers of 4,096 blocks that announce nothing: the router predicts what they hold."""
    clock = kvroute.VirtualClock()
    with kvroute.KvRouter(BLOCK, policy=policy, seed=5, clock=clock) as router:
        for number in range(workers):
            router.add_worker(f"w{number}", total_blocks=4096, **options)  # type: ignore[arg-type]  # of any type
        yield router, clock


def share_of_busiest(counts: Counter[object]) -> float:
    return max(counts.values()) / counts.total()

"""What a choice costs by kvroute's selection service: in the caller's process, and as a Ray actor.

Every worker holds the prompt, the longest walk there is; the kinds of calls take turns, ten in a
row. An actor's call that chooses nothing is Ray's own share. The actor runs on a cluster of this
script's own. Needs `pip install 'kvroute[ray]'`; without Ray it says so and ends.

    python benchmarks/python/bench_ray_selection.py [--quick] [--workers N] [--tokens N]
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from importlib.util import find_spec
from typing import Any

from kvroute.ray_serve import SelectionService, get_selection_actor

BLOCK_SIZE = 16
IN_A_ROW = 10


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What a choice by a selection service costs.")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=8192, help="of the prompt")
    parser.add_argument("--repeats", type=int, default=500, help="calls of each kind")
    parser.add_argument("--quick", action="store_true", help="a look, no figures")
    options = parser.parse_args(arguments)
    if options.quick:
        options.repeats = 50
    if min(options.workers, options.tokens, options.repeats // IN_A_ROW) < 1:
        parser.error(f"expected numbers of at least 1, and {IN_A_ROW} repeats")
    return options


async def measure(options: argparse.Namespace) -> None:
    import numpy as np

    draw = random.Random(7)
    prompt = [draw.randrange(1 << 17) for _ in range(options.tokens)]
    array: Any = np.array(prompt, np.uint32)
    workers = list(range(options.workers))
    service = SelectionService(block_size=BLOCK_SIZE)
    actor = get_selection_actor("bench", block_size=BLOCK_SIZE)

    def asked(
        select: Callable[..., Awaitable[Any]], token_ids: Any
    ) -> Callable[[], Awaitable[Any]]:
        return lambda: select("request", token_ids, workers)

    for worker in workers:
        await service.upsert_worker(worker)
        await service.on_request_added(f"holds {worker}", worker, array)
        await actor.upsert_worker.remote(worker)
        await actor.on_request_added.remote(f"holds {worker}", worker, array)
    kinds: dict[str, Callable[[], Awaitable[Any]]] = {
        "in process, NumPy": asked(service.select_worker, array),
        "in process, list": asked(service.select_worker, prompt),
        "actor, NumPy": asked(actor.select_worker.remote, array),
        "actor, list": asked(actor.select_worker.remote, prompt),
        "actor, no choice": lambda: actor.on_lifecycle_events.remote([]),
    }
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(options.repeats // IN_A_ROW):
        for kind, call in kinds.items():
            await call()  # the one before was of another kind
            for _ in range(IN_A_ROW):
                start = time.perf_counter()
                await call()
                seconds[kind].append(time.perf_counter() - start)
    print(f"select_worker, {options.workers} workers, {options.tokens} tokens, µs")
    print(f"{'':20} {'p50':>8} {'p99':>8}")
    for kind, taken in seconds.items():
        p99 = statistics.quantiles(taken, n=100)[98]
        print(f"{kind:20} {statistics.median(taken) * 1e6:8.0f} {p99 * 1e6:8.0f}")


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse_arguments(arguments)
    if find_spec("ray") is None:
        print("Ray is not installed: no actor to measure")
        return
    from ray_serve_cluster import ray_cluster

    with ray_cluster():
        asyncio.run(measure(options))


if __name__ == "__main__":
    main()

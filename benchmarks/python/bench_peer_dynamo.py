"""kvroute beside Dynamo's SelectionService, in one process and one run.

Both know 64 workers without cached blocks and get the same prompts in turn; what is timed is
`select` / `select_worker`, which book nothing. Needs `pip install ai-dynamo-runtime`; without it
the script says so and ends.

    python benchmarks/python/bench_peer_dynamo.py
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import time
from array import array

import kvroute

BLOCK_SIZE = 16
WORKERS = 64
LENGTHS = (2_048, 8_192, 32_768, 100_000)
REPEATS = 60


async def main() -> None:
    os.environ.setdefault("DYN_LOG", "error")
    os.environ.setdefault("DYN_ROUTER_USE_KV_EVENTS", "false")
    try:
        from dynamo._core import SelectionService, compute_block_hash_for_seq
    except ImportError:
        print("ai-dynamo-runtime is not installed: nothing to compare with")
        return
    service = SelectionService()
    router = kvroute.KvRouter(BLOCK_SIZE, seed=1)
    for worker in range(WORKERS):
        await service.upsert_worker(
            {
                "worker_id": worker,
                "endpoint": f"http://w{worker}",
                "block_size": BLOCK_SIZE,
                "max_num_batched_tokens": 8192,
            }
        )
        router.add_worker(worker)
    random.seed(1)
    print(f"{WORKERS} workers, block {BLOCK_SIZE}, {REPEATS} calls in turn, median microseconds")
    print(f"{'tokens':>7} {'dynamo':>9} {'kvroute list':>13} {'kvroute array':>14}   ratios")
    for length in LENGTHS:
        prompt = random.choices(range(150_000), k=length)
        as_array = array("I", prompt)
        assert list(kvroute.hash_blocks(prompt, BLOCK_SIZE)) == compute_block_hash_for_seq(
            prompt, BLOCK_SIZE
        )
        theirs, from_list, from_array = [], [], []
        for _ in range(REPEATS):
            begin = time.perf_counter_ns()
            await service.select({"token_ids": prompt})
            middle = time.perf_counter_ns()
            router.select_worker(prompt)
            later = time.perf_counter_ns()
            router.select_worker(as_array)
            end = time.perf_counter_ns()
            theirs.append((middle - begin) / 1e3)
            from_list.append((later - middle) / 1e3)
            from_array.append((end - later) / 1e3)
        peer, ours, best = map(statistics.median, (theirs, from_list, from_array))
        print(
            f"{length:>7} {peer:>9.0f} {ours:>13.1f} {best:>14.1f}   "
            f"{peer / ours:.0f} and {peer / best:.0f} times"
        )


if __name__ == "__main__":
    asyncio.run(main())

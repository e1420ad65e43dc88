"""kvroute beside Dynamo's SelectionService, in one process and one run.

Both listen to the same 64 publishers of KV events: worker 0 holds every prompt whole, each other
one its first half. Both get the same prompts in turn, Dynamo as lists (it takes nothing else).

- Time of a call: `select` / `select_worker`, which book nothing, and `select_and_reserve` /
  `reserve`. Ending the booking is not timed.
- Delay of another thread: while 16 coroutines do nothing but reserve and release, a thread asks to
  sleep 0.2 ms, again and again; what counts is how much later it wakes.

Needs `pip install ai-dynamo-runtime`; without it the script says so and ends.

    python benchmarks/python/bench_peer_dynamo.py [--quick]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import threading
import time
from array import array
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count
from typing import Any

import kvroute
from event_fleet import BLOCK_SIZE, EventFleet, event_fleet

WORKERS = 64
LENGTHS = (2_048, 8_192, 32_768, 100_000)
COROUTINES = 16
BUSY_LENGTH = 32_768
NAP_SECONDS = 0.0002


class Sides:
    """The two routers over one fleet, and one call of each kind."""

    def __init__(self, service: Any, router: kvroute.KvRouter) -> None:
        self._service = service
        self._router = router
        self._ids = count()

    async def add_workers(self, fleet: EventFleet) -> None:
        for worker, endpoint in enumerate(fleet.endpoints):
            await self._service.upsert_worker(
                {
                    "worker_id": worker,
                    "endpoint": f"http://w{worker}",
                    "block_size": BLOCK_SIZE,
                    "max_num_batched_tokens": 8192,
                    "kv_events_endpoints": {0: endpoint},
                }
            )
            self._router.add_worker(worker, kv_events=endpoint)

    async def both_know(self, worker: int, prompt: list[int], tokens: int) -> bool:
        """Whether both know that the worker holds so many tokens of the prompt."""
        if self._router.select_worker(prompt, [worker]).cached_tokens < tokens:
            return False
        request = {"token_ids": prompt, "allowed_worker_ids": [worker]}
        found = await self._service.select(request)
        return bool(found["worker_id"] == worker and found["overlap"]["gpu"] >= tokens)

    async def their_select(self, prompt: list[int]) -> float:
        begin = time.perf_counter_ns()
        await self._service.select({"token_ids": prompt})
        return (time.perf_counter_ns() - begin) / 1e3

    async def their_reserve(self, prompt: list[int]) -> float:
        name = f"r{next(self._ids)}"
        begin = time.perf_counter_ns()
        await self._service.select_and_reserve({"token_ids": prompt, "selection_id": name})
        taken = (time.perf_counter_ns() - begin) / 1e3
        await self._service.free_reservation(name)
        return taken

    async def our_select(self, prompt: list[int] | array[int]) -> float:
        begin = time.perf_counter_ns()
        self._router.select_worker(prompt)
        return (time.perf_counter_ns() - begin) / 1e3

    async def our_reserve(self, prompt: list[int] | array[int]) -> float:
        begin = time.perf_counter_ns()
        reservation = self._router.reserve(prompt)
        taken = (time.perf_counter_ns() - begin) / 1e3
        reservation.release()
        return taken


async def time_calls(sides: Sides, prompts: list[list[int]], repeats: int) -> None:
    print(f"{WORKERS} workers, block {BLOCK_SIZE}, {repeats} calls in turn, median µs")
    print("| call | tokens | Dynamo | kvroute, list | kvroute, array | times |")
    print("| --- | --- | --- | --- | --- | --- |")
    for call, theirs, ours in (
        ("select", sides.their_select, sides.our_select),
        ("reserve", sides.their_reserve, sides.our_reserve),
    ):
        for prompt in prompts:
            as_array = array("I", prompt)
            rounds = [
                (await theirs(prompt), await ours(prompt), await ours(as_array))
                for _ in range(repeats)
            ]
            peer, of_list, of_array = map(statistics.median, zip(*rounds, strict=True))
            print(
                f"| {call} | {len(prompt):,} | {peer:,.0f} | {of_list:.1f} | {of_array:.1f} | "
                f"{peer / of_list:.0f}, {peer / of_array:.0f} |"
            )


class Sleeper:
    """A thread that sleeps and notes by how much it woke too late, in milliseconds."""

    def __init__(self) -> None:
        self._delays: list[float] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> list[float]:
        self._thread.start()
        return self._delays

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_over.is_set():
            begin = time.perf_counter()
            time.sleep(NAP_SECONDS)
            self._delays.append((time.perf_counter() - begin - NAP_SECONDS) * 1e3)


async def delays_beside(call: Callable[[], Awaitable[object]], seconds: float) -> list[float]:
    end = time.perf_counter() + seconds

    async def busy() -> None:
        while time.perf_counter() < end:
            await call()
            await asyncio.sleep(0)

    with Sleeper() as delays:
        await asyncio.gather(*(busy() for _ in range(COROUTINES)))
    return delays


async def time_another_thread(sides: Sides, prompt: list[int], seconds: float) -> None:
    as_array = array("I", prompt)
    print(f"\n{COROUTINES} coroutines that reserve {len(prompt):,} tokens; delay of a thread, ms")
    print("| beside | p50 | p99 | longest |")
    print("| --- | --- | --- | --- |")
    for name, call in (
        ("nothing", lambda: asyncio.sleep(0.001)),
        ("Dynamo", lambda: sides.their_reserve(prompt)),
        ("kvroute, list", lambda: sides.our_reserve(prompt)),
        ("kvroute, array", lambda: sides.our_reserve(as_array)),
    ):
        delays = sorted(await delays_beside(call, seconds))
        p99 = delays[int(len(delays) * 0.99)]
        print(f"| {name} | {statistics.median(delays):.2f} | {p99:.2f} | {delays[-1]:.2f} |")


async def main() -> None:
    parser = argparse.ArgumentParser(description="kvroute beside Dynamo's SelectionService.")
    parser.add_argument("--quick", action="store_true", help="fewer repeats: a look, no figures")
    is_quick = parser.parse_args().quick
    os.environ.setdefault("DYN_LOG", "error")
    try:
        from dynamo._core import SelectionService, compute_block_hash_for_seq
    except ImportError:
        print("ai-dynamo-runtime is not installed: nothing to compare with")
        return
    choice = random.Random(1)
    prompts = [choice.choices(range(150_000), k=length) for length in LENGTHS]
    for prompt in prompts:
        assert list(kvroute.hash_blocks(prompt, BLOCK_SIZE)) == compute_block_hash_for_seq(
            prompt, BLOCK_SIZE
        )
    sides = Sides(SelectionService(), kvroute.KvRouter(BLOCK_SIZE, seed=1))
    async with event_fleet(WORKERS) as fleet:
        await sides.add_workers(fleet)
        for worker in range(WORKERS):
            held = [prompt if worker == 0 else prompt[: len(prompt) // 2] for prompt in prompts]
            longest = len(held[-1]) // BLOCK_SIZE * BLOCK_SIZE
            await fleet.hold(worker, held, partial(sides.both_know, worker, prompts[-1], longest))
        await time_calls(sides, prompts, 10 if is_quick else 60)
        busy = prompts[LENGTHS.index(BUSY_LENGTH)]
        await time_another_thread(sides, busy, 0.5 if is_quick else 4)


if __name__ == "__main__":
    asyncio.run(main())

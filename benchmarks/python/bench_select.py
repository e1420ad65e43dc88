"""What a decision costs from Python, and where the time goes.

For each prompt length, input kind and number of workers: the median and the 99th percentile of
`KvRouter.select_worker` on a full hit (every worker holds the whole prompt, the longest walk there
is), and the share of each step. Steps are told apart by differences of medians:

    conversion  hash_blocks(input) - hash_blocks(u32 array)
    hashing     hash_blocks(u32 array) - hash_blocks(empty array)
    matching    select_worker_by_hashes(all hashes) - select_worker_by_hashes(no hashes)
    scoring     the rest: scoring, pick, the call itself and its result

With two threads, each runs its own loop over the same router; the figures are of both together, and
`calls/s` tells whether they run beside each other.

    python benchmarks/python/bench_select.py [--quick]
"""

from __future__ import annotations

import argparse
import random
import statistics
import threading
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import kvroute

BLOCK_SIZE = 16
LENGTHS = (2_000, 8_000, 32_000, 100_000)
WORKERS = (8, 64, 512)
SEED = 42
THREADED_SECONDS = 0.3


@dataclass(frozen=True)
class Times:
    """Of single calls, in microseconds."""

    median: float
    p99: float
    calls_per_second: float


def summarize(nanoseconds: list[int], seconds: float) -> Times:
    ordered = sorted(nanoseconds)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return Times(statistics.median(ordered) / 1e3, p99 / 1e3, len(ordered) / seconds)


def measure(call: Callable[[], object], repeats: int, threads: int = 1) -> Times:
    def loop(into: list[int], start: threading.Barrier) -> None:
        clock = time.perf_counter_ns
        start.wait()
        for _ in range(repeats):
            begin = clock()
            call()
            into.append(clock() - begin)

    for _ in range(min(repeats, 20)):
        call()
    if threads == 1:
        alone: list[int] = []
        begin = time.perf_counter()
        loop(alone, threading.Barrier(1))
        return summarize(alone, time.perf_counter() - begin)
    start = threading.Barrier(threads + 1)
    times: list[list[int]] = [[] for _ in range(threads)]
    running = [threading.Thread(target=loop, args=(into, start)) for into in times]
    for thread in running:
        thread.start()
    start.wait()
    begin = time.perf_counter()
    for thread in running:
        thread.join()
    return summarize([t for into in times for t in into], time.perf_counter() - begin)


def filled_router(workers: int, prompts: Sequence[array[int]]) -> kvroute.KvRouter:
    router = kvroute.KvRouter(BLOCK_SIZE, seed=SEED, predicted_ttl=3600)
    for worker in range(workers):
        router.add_worker(f"worker-{worker}")
        for prompt in prompts:
            router.reserve(prompt, allowed=[f"worker-{worker}"]).release()
    return router


def steps(router: kvroute.KvRouter, prompt: Sequence[int], repeats: int) -> dict[str, float]:
    """Microseconds of each step of select_worker(prompt)."""
    as_array = array("I", prompt)
    hashes = kvroute.hash_blocks(as_array, BLOCK_SIZE)
    nothing = array("I")

    def median(call: Callable[[], object]) -> float:
        return measure(call, repeats).median

    whole = median(lambda: router.select_worker(prompt))
    hash_prompt = median(lambda: kvroute.hash_blocks(prompt, BLOCK_SIZE))
    hash_array = median(lambda: kvroute.hash_blocks(as_array, BLOCK_SIZE))
    hash_nothing = median(lambda: kvroute.hash_blocks(nothing, BLOCK_SIZE))
    by_hashes = median(lambda: router.select_worker_by_hashes(hashes, len(prompt)))
    by_nothing = median(lambda: router.select_worker_by_hashes([], len(prompt)))
    parts = {
        "conversion": max(0.0, hash_prompt - hash_array),
        "hashing": hash_array - hash_nothing,
        "matching": max(0.0, by_hashes - by_nothing),
    }
    parts["scoring"] = max(0.0, whole - sum(parts.values()))
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description="What a decision costs from Python.")
    parser.add_argument("--quick", action="store_true", help="fewer repeats: a look, no figures")
    repeats = 30 if parser.parse_args().quick else 400
    random.seed(SEED)
    print(f"kvroute {kvroute.__version__}, {kvroute.build_info['compiler']}")
    print(f"block size {BLOCK_SIZE}, full hits, {repeats} calls each, microseconds")
    print(
        f"{'workers':>7} {'tokens':>7} {'input':>6} {'threads':>7} {'median':>8} {'p99':>8} "
        f"{'calls/s':>8}   conversion / hashing / matching / scoring"
    )
    prompts = [array("I", random.choices(range(150_000), k=length)) for length in LENGTHS]
    for workers in WORKERS:
        router = filled_router(workers, prompts)
        for prompt in prompts:
            # Ints in order of allocation, as a tokenizer leaves them.
            for kind, tokens in (("array", prompt), ("list", list(prompt))):
                shares = steps(router, tokens, repeats)
                total = sum(shares.values())
                text = " / ".join(
                    f"{shares[name]:.1f} ({shares[name] / total:.0%})"
                    for name in ("conversion", "hashing", "matching", "scoring")
                )
                alone = 0.0
                for threads in (1, 2):

                    def select(
                        router: kvroute.KvRouter = router, tokens: Sequence[int] = tokens
                    ) -> object:
                        return router.select_worker(tokens)

                    # Threads begin one after the other: a run must be long beside that.
                    least = 0 if threads == 1 else int(THREADED_SECONDS * 1e6 / alone)
                    times = measure(select, max(repeats, least), threads)
                    alone = times.median
                    print(
                        f"{workers:>7} {len(prompt):>7} {kind:>6} {threads:>7} "
                        f"{times.median:>8.1f} {times.p99:>8.1f} {times.calls_per_second:>8.0f}   "
                        f"{text if threads == 1 else ''}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()

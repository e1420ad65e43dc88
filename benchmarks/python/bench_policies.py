"""What a whole decision costs from Python, by policy.

`reserve` of 8,192 tokens from an array, and its release, on workers that have reported their load
and run some requests; each fourth has begun the prompt. Median of single calls. On 64 workers also:
with a log of decisions (`decision_log=1000`), and how many times as many decisions two threads make
together as one, here with 32,768 tokens. The same from C++: benchmarks/cpp/decision_bench.cc.

    python benchmarks/python/bench_policies.py [--quick]
"""

from __future__ import annotations

import argparse
import random
import statistics
import threading
import time
from array import array
from collections.abc import Sequence

import kvroute

BLOCK_SIZE = 16
WORKERS = (8, 64, 512, 4096)
TOKENS = 8_192
TOKENS_OF_THREADS = 32_768
SESSION = "a conversation"


def fleet_at_work(
    workers: int, prompts: Sequence[array[int]], policy: str, log: int = 0
) -> tuple[kvroute.KvRouter, list[kvroute.Reservation]]:
    """A router, and the bookings of the requests that its workers run."""
    choice = random.Random(7)
    router = kvroute.KvRouter(BLOCK_SIZE, policy=policy, seed=1, decision_log=log)
    running = []
    for worker in range(workers):
        router.add_worker(worker, total_blocks=16_384)
        router.update_load(
            worker,
            waiting=choice.randrange(5),
            running=choice.randrange(20),
            kv_usage=choice.random(),
        )
        if worker % 4 == 0:
            for prompt in prompts:
                begun = prompt[: choice.randrange(1, len(prompt))]
                router.reserve(begun, allowed=[worker], session_id=SESSION).release()
        other = array("I", [1]) * choice.randrange(1, TOKENS)
        running.append(router.reserve(other, allowed=[worker], session_id=SESSION))
    return router, running


def median_time(router: kvroute.KvRouter, prompt: array[int], calls: int) -> float:
    """Microseconds of a decision and its end."""
    clock = time.perf_counter_ns
    taken = []
    for _ in range(calls + 20):
        begin = clock()
        router.reserve(prompt, session_id=SESSION).release()
        taken.append(clock() - begin)
    return statistics.median(taken[20:]) / 1e3


def decisions_per_second(
    router: kvroute.KvRouter, prompt: array[int], threads: int, seconds: float
) -> float:
    made = [0] * threads
    start = threading.Barrier(threads + 1)

    def decide(thread: int) -> None:
        own = prompt[:]
        start.wait()
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            router.reserve(own, session_id=SESSION).release()
            made[thread] += 1

    running = [threading.Thread(target=decide, args=(thread,)) for thread in range(threads)]
    for one in running:
        one.start()
    start.wait()
    for one in running:
        one.join()
    return sum(made) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description="What a decision costs from Python, by policy.")
    parser.add_argument("--quick", action="store_true", help="fewer repeats: a look, no figures")
    is_quick = parser.parse_args().quick
    calls, seconds = (50, 0.05) if is_quick else (500, 0.3)
    choice = random.Random(42)
    prompt, long = (
        array("I", choice.choices(range(150_000), k=tokens))
        for tokens in (TOKENS, TOKENS_OF_THREADS)
    )
    print(f"reserve and release, {TOKENS:,} tokens from an array, median of {calls}, µs")
    heads = [*(f"{workers:,}" for workers in WORKERS), "64, logged", "two threads, times"]
    print(f"| policy | {' | '.join(heads)} |")
    print("| --- |" + " --- |" * len(heads))
    for policy in kvroute.policy_names():
        cells = []
        for workers in WORKERS:
            router, _running = fleet_at_work(workers, [prompt], policy)
            cells.append(f"{median_time(router, prompt, calls):.1f}")
        router, _running = fleet_at_work(64, [prompt], policy, log=1_000)
        cells.append(f"{median_time(router, prompt, calls):.1f}")
        router, _running = fleet_at_work(64, [long], policy)
        one, two = (decisions_per_second(router, long, threads, seconds) for threads in (1, 2))
        cells.append(f"{two / one:.2f}")
        print(f"| {policy} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

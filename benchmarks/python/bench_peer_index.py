"""kvroute's PrefixIndex beside Dynamo's RadixTree, both from Python, in one process and one run.

Both hold one prompt on a number of workers and are asked for it in turn, in a list of ints; kvroute
also in an array('Q'), which is what its own hash_blocks gives. Then the block hashes themselves:
compute_block_hash_for_seq beside hash_blocks. Needs `pip install ai-dynamo-runtime`; without it the
script says so and ends. `make bench-peers` runs it in an environment that has it.

    python benchmarks/python/bench_peer_index.py [--quick]
"""

from __future__ import annotations

import argparse
import json
import random
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import perf_counter_ns

import kvroute

BLOCK_SIZE = 16
DEPTHS = (128, 1_000, 6_250)
HOLDERS = (1, 8, 64)
LENGTHS = (8_192, 100_000)
REPEATS = 600


@dataclass(frozen=True)
class Times:
    """Of one call, in µs."""

    p50: float
    p99: float


def time_in_turn(calls: list[Callable[[], object]], repeats: int) -> list[Times]:
    """Times of each call, which take turns; none is timed in the first tenth."""
    runs: list[list[int]] = [[] for _ in calls]
    for repeat in range(repeats + repeats // 10):
        for call, times in zip(calls, runs, strict=True):
            begin = perf_counter_ns()
            call()
            end = perf_counter_ns()
            if repeat >= repeats // 10:
                times.append(end - begin)
    for times in runs:
        times.sort()
    return [
        Times(times[len(times) // 2] / 1e3, times[len(times) * 99 // 100] / 1e3) for times in runs
    ]


def stored_event(names: list[int], labels: list[int]) -> bytes:
    blocks = [
        {"block_hash": name, "tokens_hash": label}
        for name, label in zip(names, labels, strict=True)
    ]
    data = {"stored": {"parent_hash": None, "blocks": blocks}}
    return json.dumps({"event_id": 0, "data": data}).encode()


def line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def row(label: str, theirs: Times, from_list: Times, from_array: Times) -> str:
    figures = [f"{times.p50:.1f} / {times.p99:.1f}" for times in (theirs, from_list, from_array)]
    ratios = [theirs.p50 / from_list.p50, theirs.p50 / from_array.p50]
    return line([label, *figures, ", ".join(f"{ratio:.1f}" for ratio in ratios)])


def matching(radix_tree: type, repeats: int) -> list[str]:
    rows = []
    for depth in DEPTHS:
        names = [random.getrandbits(64) for _ in range(depth)]
        labels = [random.getrandbits(64) for _ in range(depth)]
        as_array = array("Q", labels)
        event = stored_event(names, labels)
        for holders in HOLDERS:
            tree = radix_tree()
            index = kvroute.PrefixIndex()
            for worker in range(holders):
                tree.apply_event(worker, event)
                index.store(worker, names, labels)
            expected = {(worker, 0): depth for worker in range(holders)}
            for found in (index.match(labels), index.match(as_array)):
                assert dict(found) == expected == tree.find_matches(labels).scores
            calls: list[Callable[[], object]] = [
                partial(tree.find_matches, labels),
                partial(index.match, labels),
                partial(index.match, as_array),
            ]
            label = f"match, {depth:,} blocks, {holders} holder{'s' if holders > 1 else ''}"
            rows.append(row(label, *time_in_turn(calls, repeats)))
    return rows


def hashing(compute: Callable[[list[int], int], list[int]], repeats: int) -> list[str]:
    rows = []
    for length in LENGTHS:
        tokens = random.choices(range(150_000), k=length)
        as_array = array("I", tokens)
        assert list(kvroute.hash_blocks(tokens, BLOCK_SIZE)) == compute(tokens, BLOCK_SIZE)
        calls: list[Callable[[], object]] = [
            partial(compute, tokens, BLOCK_SIZE),
            partial(kvroute.hash_blocks, tokens, BLOCK_SIZE),
            partial(kvroute.hash_blocks, as_array, BLOCK_SIZE),
        ]
        label = f"block hashes, {length:,} tokens"
        rows.append(row(label, *time_in_turn(calls, repeats)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="PrefixIndex beside Dynamo's RadixTree")
    parser.add_argument("--quick", action="store_true", help="a tenth of the calls")
    repeats = REPEATS // 10 if parser.parse_args().quick else REPEATS
    try:
        from dynamo._core import RadixTree, compute_block_hash_for_seq
    except ImportError:
        print("ai-dynamo-runtime is not installed: nothing to compare with")
        return
    random.seed(1)
    print(f"µs a call from Python, p50 / p99 of {repeats} calls in turn")
    print(line(["", "Dynamo, list", "kvroute, list", "kvroute, array", "times"]))
    print(line(["---"] * 5))
    for text in matching(RadixTree, repeats) + hashing(compute_block_hash_for_seq, repeats):
        print(text)


if __name__ == "__main__":
    main()

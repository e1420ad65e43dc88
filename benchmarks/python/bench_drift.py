"""How far predictions drift from what engines really hold, and what that costs.

A router without KV events sends a conversation trace to simulated engines in virtual time: it knows
its own decisions, the answers, and (or not) how many blocks an engine's cache has. Before each
decision its prediction for every engine, the number of the prompt's leading blocks that are cached
there, is compared with the engine's true cache. The same trace goes through a router that receives
every engine's true events, and through round robin.

    KVROUTE_TRACES=DIR python benchmarks/python/bench_drift.py [--requests N] [--engines N]
        [--blocks N] [--seed N] [--ways NAME ...]

12,031 requests take about a minute for each way of routing. The same seed gives the same figures.
Another seed breaks ties otherwise, and from there on everything goes another way: hit rates that
differ by less than other seeds' do not differ.

    error           mean difference of predicted and true blocks, over all decisions and engines
    of the truth    the same, as a share of the true blocks
    too many, few   how often the prediction was above or below the truth, and the mean of it
    promised        mean difference, at the chosen engine, of the cached blocks at the choice and
                    of those that the engine found when it began with the request
    hit rate        share of the prompts' tokens that the engines found cached
    first token     from arrival, in virtual seconds
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import kvroute
from drift_events import EventFeed
from drift_fleet import Engine, Fleet, Outcome
from drift_requests import Conversations, Request
from kvroute.traces import load_trace

BLOCK_SIZE = 16
TTL_SECONDS = 120.0


@dataclass(frozen=True)
class Way:
    """How requests are routed. `capacity`: what the router takes an engine's cache for, as a share
    of the truth; None: it does not know, and predictions expire."""

    name: str
    capacity: float | None = None
    policy: str = "kv_cost"
    events: bool = False
    remember_output: bool = True


WAYS = (
    Way("capacity known", 1.0),
    Way("50 % too small", 0.5),
    Way("twice the truth", 2.0),
    Way("answers not told", 1.0, remember_output=False),
    Way("120 s each"),
    Way("events", events=True),
    Way("round robin", 1.0, policy="round_robin"),
)


class Drift:
    """Sums over all comparisons, in blocks."""

    def __init__(self) -> None:
        self.comparisons = 0
        self.truth = 0
        self.too_many = 0
        self.too_few = 0
        self.times_too_many = 0
        self.times_too_few = 0

    def compare(self, predicted: int, truth: int) -> None:
        self.comparisons += 1
        self.truth += truth
        if predicted > truth:
            self.too_many += predicted - truth
            self.times_too_many += 1
        elif predicted < truth:
            self.too_few += truth - predicted
            self.times_too_few += 1


@dataclass(frozen=True)
class Result:
    way: Way
    drift: Drift
    outcome: Outcome


def replay(
    way: Way, requests: Conversations, num_engines: int, num_blocks: int, seed: int
) -> Result:
    clock = kvroute.VirtualClock()
    drift = Drift()
    with contextlib.ExitStack() as exits:
        router = exits.enter_context(
            kvroute.KvRouter(
                BLOCK_SIZE,
                way.policy,
                memory_limit=None,
                seed=seed,
                clock=clock,
                predicted_ttl=TTL_SECONDS,
                reservation_ttl=1e6,
            )
        )
        engines = [
            Engine(f"engine-{i}", num_blocks, BLOCK_SIZE, events=way.events)
            for i in range(num_engines)
        ]
        feed: EventFeed | None = None
        if way.events:
            feed = exits.enter_context(EventFeed(router, engines, BLOCK_SIZE))
        else:
            blocks = None if way.capacity is None else round(way.capacity * num_blocks)
            for engine in engines:
                router.add_worker(engine.name, total_blocks=blocks)

        def observe(request: Request) -> None:
            if feed is not None:
                feed.wait_until_applied()
            full = len(request.prompt) // BLOCK_SIZE
            predicted = router.overlaps(request.prompt)
            for engine in engines:
                tokens = predicted.get((engine.name, 0), 0)
                drift.compare(tokens // BLOCK_SIZE, engine.cache.match(request.names, full))

        fleet = Fleet(
            engines,
            router,
            clock,
            remember_output=way.remember_output,
            observe=observe,
            publish=None if feed is None else feed.publish,
        )
        if feed is not None:
            feed.owner = fleet.running
        return Result(way, drift, fleet.serve(requests))


HEAD = """\
| the router knows | error, blocks | of the truth | too many: how often, blocks | \
too few: how often, blocks | promised, off by | hit rate | first token, mean / p99 s |
| --- | --- | --- | --- | --- | --- | --- | --- |"""


def row(result: Result) -> str:
    drift, outcome = result.drift, result.outcome
    count = drift.comparisons
    error = drift.too_many + drift.too_few
    first = sorted(outcome.first_token_seconds)
    cells = (
        result.way.name,
        f"{error / count:.2f}",
        f"{100 * error / max(1, drift.truth):.1f} %",
        f"{100 * drift.times_too_many / count:.1f} %, {drift.too_many / count:.2f}",
        f"{100 * drift.times_too_few / count:.1f} %, {drift.too_few / count:.2f}",
        f"{outcome.promised_blocks_off / len(first):.2f}",
        f"{100 * outcome.cached_tokens / outcome.prompt_tokens:.2f} %",
        f"{statistics.fmean(first):.2f} / {first[int(0.99 * (len(first) - 1))]:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="How far predictions drift.")
    parser.add_argument("--requests", type=int, default=4000, help="at most so many")
    parser.add_argument("--engines", type=int, default=8)
    parser.add_argument("--blocks", type=int, default=28_000, help="of each engine's cache")
    parser.add_argument("--seed", type=int, default=42, help="of the router's generator")
    parser.add_argument("--ways", nargs="+", choices=[way.name for way in WAYS], metavar="NAME")
    options = parser.parse_args(arguments)
    trace = load_trace(limit=options.requests)
    requests = Conversations(trace.requests, BLOCK_SIZE)
    print(f"trace: {trace}: {len(trace.requests)} requests, {requests.continued} with a next turn")
    print(f"{options.engines} engines of {options.blocks} blocks of {BLOCK_SIZE} tokens\n")
    print(HEAD)
    for way in WAYS:
        if options.ways is None or way.name in options.ways:
            result = replay(way, requests, options.engines, options.blocks, options.seed)
            print(row(result), flush=True)


if __name__ == "__main__":
    main()

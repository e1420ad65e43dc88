"""One policy before simulated engines, in virtual time: who served which request, and how soon."""

from __future__ import annotations

import contextlib
import dataclasses
import heapq
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import kvroute
from drift_events import EventFeed
from drift_fleet import Engine, Fleet, Outcome
from drift_requests import Request

if TYPE_CHECKING:
    from kvroute._core import Policy

BLOCK_SIZE = 16


@dataclass(frozen=True)
class World:
    """What all policies of a comparison have in common.

    `report_interval`: virtual seconds between two reports of an engine's waiting and running
    requests and KV usage. The engines' turns are spread over the interval, as those of
    `kvroute serve` are. `sessions`: whether requests carry their conversation's id.
    """

    workers: int
    blocks: int
    report_interval: float = 1.0
    sessions: bool = False


@dataclass
class Replayed:
    """By request in order of arrival: where it went (`workers`), the policy that decided (`rules`),
    and the prompt's tokens that were not cached then (`prefill_tokens`). `seconds` are from the
    first arrival to the last end."""

    outcome: Outcome
    workers: list[str] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)
    prefill_tokens: list[int] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def hit_rate(self) -> float:
        """Share of the prompts' tokens that the engines found cached."""
        return self.outcome.cached_tokens / self.outcome.prompt_tokens

    @property
    def requests_per_second(self) -> float:
        return len(self.workers) / self.seconds

    def busiest(self, num_workers: int) -> tuple[float, float]:
        """The most that a worker got of the requests, and the most of the tokens to compute, each
        as a multiple of the mean. The two need not be the same worker."""
        requests = Counter(self.workers)
        tokens: Counter[str] = Counter()
        for worker, count in zip(self.workers, self.prefill_tokens, strict=True):
            tokens[worker] += count
        of_requests, of_tokens = (
            max(counts.values()) * num_workers / counts.total() for counts in (requests, tokens)
        )
        return of_requests, of_tokens


def arriving(requests: Iterable[Request], speed: float, spread: float = 0.0) -> list[Request]:
    """The same requests in their order of arrival, `speed` times as many a second. Before that,
    each is put off by up to `spread` seconds at random, the same each time."""
    delays = random.Random(0)
    later = (
        dataclasses.replace(
            request, arrival=(request.arrival + delays.uniform(0.0, spread)) / speed
        )
        for request in requests
    )
    return sorted(later, key=lambda request: request.arrival)


def replay(policy: Policy, requests: Sequence[Request], world: World, seed: int) -> Replayed:
    """Sends each request at its arrival where the router says, and lets the engines end them all.

    The router knows what a frontend's would: the engines' KV events up to the decision, their
    reports of late, and first token, output and end of each request as they happen; not how long
    an answer will be. The same arguments give the same result, however busy the machine is.
    """
    clock = kvroute.VirtualClock()
    router = kvroute.KvRouter(
        BLOCK_SIZE, policy, memory_limit=None, seed=seed, clock=clock, reservation_ttl=1e6
    )
    engines = [
        Engine(f"engine-{i}", world.blocks, BLOCK_SIZE, events=True) for i in range(world.workers)
    ]
    with contextlib.closing(router), EventFeed(router, engines, BLOCK_SIZE) as feed:

        def apply_events(_: Request) -> None:
            feed.wait_until_applied()

        fleet = Fleet(
            engines,
            router,
            clock,
            remember_output=False,  # the events tell
            observe=apply_events,
            publish=feed.publish,
            sessions=world.sessions,
        )
        feed.owner = fleet.running
        result = Replayed(fleet.outcome)
        start = requests[0].arrival
        fleet.advance_to(start)
        for engine in engines:
            _report(router, engine)
        reports = _Reports(engines, start, world.report_interval)
        for request in requests:
            for time, engine in reports.until(request.arrival):
                fleet.advance_to(time)
                _report(router, engine)
            fleet.advance_to(request.arrival)
            choice = fleet.admit(request).reservation.choice
            result.workers.append(str(choice.worker))
            result.rules.append(choice.rule)
            result.prefill_tokens.append(choice.prefill_tokens)
        fleet.drain()
        result.seconds = clock.now() - start
    return result


class _Reports:
    """Whose turn it is to report, and when."""

    def __init__(self, engines: Sequence[Engine], start: float, interval: float) -> None:
        self._engines = engines
        self._interval = interval
        spacing = interval / len(engines)
        self._due = [(start + (i + 0.5) * spacing, i) for i in range(len(engines))]

    def until(self, time: float) -> Iterator[tuple[float, Engine]]:
        while self._due[0][0] <= time:
            due, i = self._due[0]
            heapq.heapreplace(self._due, (due + self._interval, i))
            yield due, self._engines[i]


def _report(router: kvroute.KvRouter, engine: Engine) -> None:
    scheduler = engine.scheduler
    router.update_load(
        engine.name,
        waiting=scheduler.num_waiting,
        running=scheduler.num_running,
        kv_usage=engine.cache.usage,
    )

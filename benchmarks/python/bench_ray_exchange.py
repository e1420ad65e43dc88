"""How soon router processes know each other's bookings, what that costs, and what it is good for.

Every member is a process of its own, with a router over 8 workers and an exchange over loopback.

Staleness: 200 requests a second in all, each of 8,192 tokens, with a first token after 50 ms, 8
counts of output tokens and an end after a second. From `booked()` in one process to the booking in
another's router, for every pair: median and 99th percentile. Also what `booked()` itself takes, and
the share of a core that a member's exchange uses.

Stampede: 256 requests with one prefix of 2,048 tokens and 128 of their own, which arrive within
50 ms at 8 members, without and with the exchange, and at one member for all. One worker holds the
prefix. Requests of the most and of the least chosen worker, over all seeds, and the median of their
ratios.

    python benchmarks/python/bench_ray_exchange.py [--quick] [--interval SECONDS]
"""

from __future__ import annotations

import argparse
import heapq
import multiprocessing
import random
import statistics
import time
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from multiprocessing.managers import BaseManager
from typing import Any

import kvroute
from kvroute.ray_serve.exchange import BookingExchange, LocalRendezvous, Rendezvous

BLOCK_SIZE = 16
WORKERS = 8
RATE = 200.0
TOKENS = 8192
PREFIX, OWN = 2048, 128
BURST, BURST_SECONDS = 256, 0.05
NUMBERS = 1_000_000  # bookings of each member at most


class Observed:
    """A router that notes when it was told of which peer's booking."""

    def __init__(self, router: kvroute.KvRouter) -> None:
        self._router = router
        self.block_size = router.block_size
        self.applied: dict[int, float] = {}

    def reserve_by_hashes(self, *args: Any, **kwargs: Any) -> kvroute.Reservation:
        reservation = self._router.reserve_by_hashes(*args, **kwargs)
        self.applied[int(reservation.request_id.partition("/")[2])] = time.monotonic()
        return reservation


@dataclass
class Report:
    """Of one member. Times are of the machine's monotonic clock, in seconds."""

    booked: dict[int, float] = field(default_factory=dict)
    applied: dict[int, float] = field(default_factory=dict)
    calls: list[float] = field(default_factory=list)
    core_share: float = 0.0
    chosen: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Plan:
    """What the members do: a burst at these seconds after the start, or requests for a while."""

    members: int
    interval_s: float
    exchange: bool = True
    seed: int = 1
    seconds: float = 0.0
    burst: tuple[float, ...] = ()


class Member:
    """A router process's part."""

    def __init__(
        self, number: int, rendezvous: Rendezvous | None, interval_s: float, seed: int
    ) -> None:
        self.report = Report()
        self.rng = random.Random(1000 * seed + number)
        self.router = kvroute.KvRouter(block_size=BLOCK_SIZE, seed=1000 * seed + number)
        for worker in range(WORKERS):
            self.router.add_worker(f"w{worker}")
        self._observed = Observed(self.router)
        self._numbers = iter(range(number * NUMBERS, (number + 1) * NUMBERS))
        self.exchange: BookingExchange | None = None
        if rendezvous is not None:
            self.exchange = BookingExchange(
                "benchmark", self._observed, rendezvous, interval_s=interval_s
            )
            self.exchange.start()

    def wait_for(self, others: int) -> None:
        while self.exchange is not None and self.exchange.stats()["peers"] < others:
            time.sleep(0.01)

    def book(self, token_ids: array[int]) -> tuple[int, kvroute.Reservation]:
        hashes = kvroute.hash_blocks(token_ids, BLOCK_SIZE)
        reservation = self.router.reserve_by_hashes(hashes, len(token_ids))
        choice = reservation.choice
        worker = str(choice.worker)
        self.report.chosen[worker] += 1
        number = next(self._numbers)
        if self.exchange is not None:
            begin = time.monotonic()
            self.exchange.booked(number, worker, choice.dp_rank, len(token_ids), hashes, None)
            self.report.calls.append(time.monotonic() - begin)
            self.report.booked[number] = begin
        return number, reservation

    def close(self) -> Report:
        if self.exchange is not None:
            self.exchange.close()
        self.router.close()
        self.report.applied = self._observed.applied
        return self.report


def serve_requests(member: Member, rate: float, seconds: float) -> None:
    """Requests arrive at random, and each goes its course."""
    exchange = member.exchange
    assert exchange is not None
    due: list[tuple[float, int, Callable[[], None]]] = []
    order = iter(range(1_000_000_000))
    begin = time.monotonic()
    cpu, own_cpu = time.process_time(), time.thread_time()

    def at(when: float, act: Callable[[], None]) -> None:
        heapq.heappush(due, (when, next(order), act))

    def arrive() -> None:
        now = time.monotonic()
        number, reservation = member.book(
            array("I", [member.rng.randrange(1 << 20) for _ in range(TOKENS)])
        )

        def first_token() -> None:
            reservation.first_token()
            exchange.first_token(number)

        def progress(output_tokens: int) -> None:
            reservation.progress(output_tokens)
            exchange.progress(number, output_tokens)

        def release() -> None:
            reservation.release()
            exchange.released(number)

        at(now + 0.05, first_token)
        for step in range(1, 9):
            at(now + 0.05 + 0.1 * step, lambda tokens=5 * step: progress(tokens))  # type: ignore[misc] # the default binds it
        at(now + 1.0, release)
        if now < begin + seconds:
            at(now + member.rng.expovariate(rate), arrive)

    at(begin + member.rng.expovariate(rate), arrive)
    while due:
        when, _, act = heapq.heappop(due)
        time.sleep(max(0.0, when - time.monotonic()))
        act()
    elapsed = time.monotonic() - begin
    others = (time.process_time() - cpu) - (time.thread_time() - own_cpu)
    member.report.core_share = others / elapsed


def join_burst(member: Member, times: tuple[float, ...], begin: float) -> None:
    """All prompts have one prefix, which one worker holds."""
    prefix = array("I", range(PREFIX))
    member.router.reserve(prefix, allowed=["w0"]).release()
    running = []
    for when in times:
        prompt = prefix + array("I", [member.rng.randrange(1 << 20) for _ in range(OWN)])
        time.sleep(max(0.0, begin + when - time.monotonic()))
        running.append(member.book(prompt))
    for _, reservation in running:
        reservation.release()


class Meeting(BaseManager):
    """Serves one LocalRendezvous to all processes."""


_rendezvous = LocalRendezvous()
Meeting.register("rendezvous", callable=lambda: _rendezvous)


def run_member(pipe: Connection, number: int, address: Any, plan: Plan) -> None:
    rendezvous = None
    if plan.exchange:
        manager = Meeting(address, authkey=b"benchmark")
        manager.connect()
        rendezvous = manager.rendezvous()  # type: ignore[attr-defined] # registered above
    member = Member(number, rendezvous, plan.interval_s, plan.seed)
    member.wait_for(plan.members - 1)
    pipe.send("ready")
    begin = pipe.recv()
    if plan.burst:
        join_burst(member, plan.burst[number :: plan.members], begin)
    else:
        serve_requests(member, RATE / plan.members, plan.seconds)
    pipe.send("done")
    pipe.recv()
    pipe.send(member.close())


def run(plan: Plan) -> list[Report]:
    """One process for each member; what each reports."""
    spawn = multiprocessing.get_context("spawn")
    manager = Meeting(("127.0.0.1", 0), authkey=b"benchmark")
    manager.start()
    pipes = []
    for number in range(plan.members):
        ours, theirs = spawn.Pipe()
        arguments = (theirs, number, manager.address, plan)
        spawn.Process(target=run_member, args=arguments, daemon=True).start()
        pipes.append(ours)
    for pipe in pipes:
        pipe.recv()
    begin = time.monotonic() + 0.3
    for pipe in pipes:
        pipe.send(begin)
    for pipe in pipes:
        pipe.recv()
    time.sleep(0.2)  # the last batches arrive
    for pipe in pipes:
        pipe.send("end")
    reports: list[Report] = [pipe.recv() for pipe in pipes]
    manager.shutdown()
    return reports


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def report_staleness(plan: Plan) -> None:
    reports = run(plan)
    booked = {number: when for one in reports for number, when in one.booked.items()}
    delays = [when - booked[number] for one in reports for number, when in one.applied.items()]
    calls = [call for one in reports for call in one.calls]
    assert len(delays) == len(booked) * (plan.members - 1), "some were not exchanged"
    shares = [one.core_share for one in reports]
    print(
        f"{plan.members} members: {len(booked)} bookings, known elsewhere after "
        f"{1e3 * statistics.median(delays):.2f} / {1e3 * percentile(delays, 0.99):.2f} ms "
        f"(median / p99); booked() {1e6 * statistics.median(calls):.1f} / "
        f"{1e6 * percentile(calls, 0.99):.1f} us; exchange {100 * max(shares):.1f} % of a core"
    )


def report_stampede(name: str, plan: Plan, seeds: range) -> None:
    ratios, mosts, leasts = [], [], []
    for seed in seeds:
        rng = random.Random(seed)
        burst = tuple(sorted(rng.uniform(0, BURST_SECONDS) for _ in range(BURST)))
        reports = run(replace(plan, seed=seed, burst=burst))
        chosen = sum((one.chosen for one in reports), Counter[str]())
        counts = [chosen[f"w{worker}"] for worker in range(WORKERS)]
        mosts.append(max(counts))
        leasts.append(min(counts))
        ratios.append(max(counts) / max(1, min(counts)))
    print(
        f"{name}: most {max(mosts)}, least {min(leasts)}; most / least "
        f"{statistics.median(ratios):.2f} (median; {min(ratios):.2f} to {max(ratios):.2f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--interval", type=float, default=0.005, help="seconds between batches")
    asked = parser.parse_args()
    plan = Plan(members=8, interval_s=asked.interval)
    for members in (4, 8):
        report_staleness(replace(plan, members=members, seconds=2.0 if asked.quick else 20.0))
    seeds = range(1, 3 if asked.quick else 8)
    report_stampede("8 members without exchange", replace(plan, exchange=False), seeds)
    report_stampede("8 members with exchange", plan, seeds)
    report_stampede("1 member", replace(plan, members=1, exchange=False), seeds)


if __name__ == "__main__":
    main()

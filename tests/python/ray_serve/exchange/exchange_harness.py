"""Exchanges of one process over real sockets, each with a router of its own."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kvroute import KvRouter, Reservation
from kvroute.ray_serve.exchange import BookingExchange, ExchangeLimits, LocalRendezvous

QUICK = ExchangeLimits(
    beat_s=0.1,
    silence_s=1.0,
    connect_s=0.5,
    backoff_s=0.01,
    max_backoff_s=0.1,
    heartbeat_s=0.05,
    grace_s=1.0,
)
"""What takes seconds otherwise takes less in tests."""


def eventually(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    """Waits until other threads have made it true."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it never became true"
        time.sleep(0.002)


class Member:
    """A router process's part, with a reservation here for all that it tells the others."""

    def __init__(
        self,
        rendezvous: LocalRendezvous,
        workers: int = 4,
        limits: ExchangeLimits = QUICK,
        block_size: int = 16,
    ) -> None:
        self.router = KvRouter(block_size=block_size, seed=1)
        for number in range(workers):
            self.router.add_worker(f"w{number}")
        self.exchange = BookingExchange("app/model", self.router, rendezvous, limits=limits)
        self.own: dict[int, Reservation] = {}
        self.exchange.start()

    def book(self, number: int, worker: str, blocks: int = 10) -> None:
        hashes = array("Q", range(blocks))
        tokens = 16 * blocks + 5
        self.own[number] = self.router.reserve_by_hashes(
            hashes, tokens, allowed=[(worker, 0)], expected_output_tokens=8
        )
        self.exchange.booked(number, worker, 0, tokens, hashes, 8)

    def first_token(self, number: int) -> None:
        self.own[number].first_token()
        self.exchange.first_token(number)

    def progress(self, number: int, output_tokens: int) -> None:
        self.own[number].progress(output_tokens)
        self.exchange.progress(number, output_tokens)

    def release(self, number: int) -> None:
        self.own.pop(number).release()
        self.exchange.released(number)

    def loads(self) -> dict[str, tuple[int, int, int]]:
        """Requests, blocks and prefill tokens of each worker that has any."""
        return {
            str(one.worker): (one.active_requests, one.active_blocks, one.active_prefill_tokens)
            for one in self.router.stats().targets
            if one.active_requests
        }

    def number(self, name: str) -> int:
        return self.exchange.stats()[name]

    def close(self) -> None:
        self.exchange.close()
        self.router.close()


def know_each_other(members: list[Member]) -> bool:
    others = len(members) - 1
    return all(one.number("peers") == one.number("incoming") == others for one in members)


@contextmanager
def members(count: int, limits: ExchangeLimits = QUICK) -> Iterator[list[Member]]:
    """So many, all connected."""
    rendezvous = LocalRendezvous()
    made = [Member(rendezvous, limits=limits) for _ in range(count)]
    try:
        eventually(lambda: know_each_other(made))
        yield made
    finally:
        for member in made:
            member.close()

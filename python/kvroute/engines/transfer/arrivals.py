"""Blocks that were pushed to a decode engine and wait for their request."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from kvroute.engines.transfer.ledger import Ledger


class Arrival:
    """One handoff's blocks, which come rank by rank.

    Attributes:
        keys: names of the blocks' content that all engines share.
        complete: set when all ranks have written.
    """

    __slots__ = ("complete", "expiry", "handoff", "keys", "ranks")

    def __init__(self, handoff: str) -> None:
        self.handoff = handoff
        self.keys: Sequence[int] = ()
        self.ranks: set[int] = set()
        self.complete = asyncio.Event()
        self.expiry: asyncio.TimerHandle | None = None


class Arrivals:
    """A decode engine's receive buffer. What nobody claims is dropped after `seconds`, counted.

    Args:
        ledger: counts what is claimed and what is not.
        ranks: how many writers a handoff has.
        seconds: how long an arrival may wait, from the first word of it.
    """

    def __init__(self, ledger: Ledger, ranks: int, seconds: float) -> None:
        self._ledger = ledger
        self._ranks = ranks
        self._seconds = seconds
        self._arrivals: dict[str, Arrival] = {}

    def __len__(self) -> int:
        return len(self._arrivals)

    def expect(self, handoff: str) -> Arrival:
        """The arrival of this name, made if there is none yet."""
        arrival = self._arrivals.get(handoff)
        if arrival is None:
            arrival = self._arrivals[handoff] = Arrival(handoff)
            loop = asyncio.get_running_loop()
            arrival.expiry = loop.call_later(self._seconds, self.drop, arrival)
        return arrival

    def write(self, handoff: str, rank: int, keys: Sequence[int]) -> None:
        """A rank has written its part of these blocks. ValueError where another rank wrote other
        ones, or it writes twice."""
        arrival = self.expect(handoff)
        if rank in arrival.ranks or (arrival.ranks and list(arrival.keys) != list(keys)):
            raise ValueError(f"rank {rank} has written, or writes what the others did not")
        arrival.keys = keys
        arrival.ranks.add(rank)
        if len(arrival.ranks) == self._ranks:
            arrival.complete.set()

    def find(self, keys: Sequence[int]) -> Arrival | None:
        """The one with most of the leading blocks `keys`; complete ones first."""
        last = {
            arrival.keys[-1]: arrival
            for arrival in sorted(self._arrivals.values(), key=lambda one: one.complete.is_set())
            if arrival.keys
        }
        return next((last[key] for key in reversed(keys) if key in last), None)

    def claim(self, arrival: Arrival) -> int:
        """Take it out; how many blocks it has."""
        self._forget(arrival)
        return len(arrival.keys)

    def drop(self, arrival: Arrival) -> None:
        """Nobody will claim it."""
        if self._forget(arrival) and arrival.keys:
            self._ledger.unclaimed += 1

    def close(self) -> None:
        """The engine stops."""
        for arrival in list(self._arrivals.values()):
            self.drop(arrival)

    def _forget(self, arrival: Arrival) -> bool:
        if self._arrivals.pop(arrival.handoff, None) is None:
            return False
        if arrival.expiry is not None:
            arrival.expiry.cancel()
        return True

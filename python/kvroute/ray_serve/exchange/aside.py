"""Peers' bookings on workers that this router does not know yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import islice, takewhile

from kvroute.ray_serve.exchange.held import Held
from kvroute.ray_serve.exchange.limits import ExchangeLimits


class Aside:
    """Keeps them, bounded in number and bytes of hashes, in all and for each peer. Not
    thread-safe."""

    def __init__(self, limits: ExchangeLimits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._since: dict[Held, float] = {}  # the longest first
        self._by_target: dict[tuple[str, int], dict[Held, None]] = {}
        self._number_of: Counter[str] = Counter()
        self._bytes_of: Counter[str] = Counter()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._since)

    def keep(self, held: Held) -> bool:
        """False: there is no room. Idempotent: it waits since the first time."""
        if held in self._since:
            return True
        if not self._has_room(held):
            return False
        self._since[held] = self._clock()
        self._by_target.setdefault(held.target, {})[held] = None
        self._number_of[held.peer] += 1
        self._bytes_of[held.peer] += held.size
        self._bytes += held.size
        return True

    def drop(self, held: Held) -> None:
        """Idempotent."""
        if self._since.pop(held, None) is None:
            return
        of_target = self._by_target[held.target]
        del of_target[held]
        if not of_target:
            del self._by_target[held.target]
        self._bytes -= held.size
        self._bytes_of[held.peer] -= held.size
        self._number_of[held.peer] -= 1
        if self._number_of[held.peer] == 0:
            del self._number_of[held.peer], self._bytes_of[held.peer]

    def expired(self) -> list[Held]:
        """Those that wait for `aside_s` already."""
        oldest = self._clock() - self._limits.aside_s
        return [held for held, _ in takewhile(lambda one: one[1] <= oldest, self._since.items())]

    def of_next_targets(self, count: int) -> list[list[Held]]:
        """What waits for so many targets; all targets have their turns."""
        turn = list(islice(self._by_target, count))
        for target in turn:
            self._by_target[target] = self._by_target.pop(target)
        return [list(self._by_target[target]) for target in turn]

    def _has_room(self, held: Held) -> bool:
        limits = self._limits
        return (
            len(self._since) < limits.max_aside
            and self._number_of[held.peer] < limits.max_aside_per_peer
            and self._bytes + held.size <= limits.max_aside_bytes
            and self._bytes_of[held.peer] + held.size <= limits.max_aside_bytes_per_peer
        )

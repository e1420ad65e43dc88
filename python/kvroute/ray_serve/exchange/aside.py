"""Peers' bookings on workers that this router does not know yet."""

from __future__ import annotations

from collections.abc import Callable

from kvroute.ray_serve.exchange.limits import ExchangeLimits
from kvroute.ray_serve.exchange.operations import Booked


class Waiting:
    """Stands for a reservation that cannot be made yet: what happens to it is noted."""

    __slots__ = ("_aside", "booking", "peer", "since")

    def __init__(self, aside: Aside, peer: str, booking: Booked, since: float) -> None:
        self._aside = aside
        self.peer = peer
        self.booking = booking
        self.since = since

    def first_token(self) -> None:
        self.booking = self.booking._replace(first_token=True)

    def progress(self, output_tokens: int) -> None:
        self.booking = self.booking._replace(output_tokens=output_tokens)

    def release(self) -> None:
        """Idempotent."""
        self._aside.drop(self)


class Aside:
    """Keeps them, bounded in number and bytes of hashes. Not thread-safe."""

    def __init__(self, limits: ExchangeLimits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._kept: dict[tuple[str, int], Waiting] = {}  # by peer and booking; the longest first
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, peer: str, booking: Booked) -> Waiting | None:
        """None: there is no room."""
        size = self._bytes + _size(booking)
        if len(self._kept) >= self._limits.max_aside or size > self._limits.max_aside_bytes:
            return None
        waiting = Waiting(self, peer, booking, self._clock())
        self._kept[peer, booking.booking_id] = waiting
        self._bytes = size
        return waiting

    def drop(self, waiting: Waiting) -> None:
        key = (waiting.peer, waiting.booking.booking_id)
        if self._kept.get(key) is waiting:
            del self._kept[key]
            self._bytes -= _size(waiting.booking)

    def expired(self) -> list[Waiting]:
        """Those that wait for `aside_s` already."""
        oldest = self._clock() - self._limits.aside_s
        return [waiting for waiting in self._kept.values() if waiting.since <= oldest]

    def by_target(self) -> dict[tuple[str, int], list[Waiting]]:
        """All, by the target that they are for."""
        found: dict[tuple[str, int], list[Waiting]] = {}
        for waiting in self._kept.values():
            target = (waiting.booking.worker, waiting.booking.dp_rank)
            found.setdefault(target, []).append(waiting)
        return found


def _size(booking: Booked) -> int:
    return 8 * len(booking.local_hashes)

"""Peers' bookings, held in this process's router."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterable
from typing import Literal, Protocol

from kvroute import KvRouteError, NoEligibleWorker, UnknownWorker
from kvroute.ray_serve.exchange.aside import Aside
from kvroute.ray_serve.exchange.held import Held, Reservation
from kvroute.ray_serve.exchange.limits import ExchangeLimits
from kvroute.ray_serve.exchange.operations import (
    Booked,
    FirstToken,
    Operation,
    Progress,
    Released,
)
from kvroute.ray_serve.exchange.tally import Tally

_MOST_TOKENS = 1 << 24  # that a booking counts as, whatever is said of it
_TARGETS_AT_ONCE = 64  # that one tick tries again


class Router(Protocol):
    """What of kvroute.KvRouter is used."""

    @property
    def block_size(self) -> int: ...
    def reserve_by_hashes(
        self,
        local_hashes: array[int],
        num_tokens: int,
        request_id: str | None = None,
        expected_output_tokens: int | None = None,
        allowed: list[tuple[str, int]] | None = None,
        *,
        phase: Literal["decode"] | None = None,
    ) -> Reservation: ...


class _Peer:
    __slots__ = ("connection", "held", "lost_at")

    def __init__(self) -> None:
        self.held: dict[int, Held] = {}
        self.connection: object = None
        self.lost_at: float | None = None


class RemoteBookings:
    """Applies what peers say to the router, as if their requests had been booked here.

    A connection is any object: of a peer only the newest one counts. When it breaks, the peer's
    bookings stay for `grace_s`, since a peer that lives connects again at once; then its snapshot
    replaces them without a dip: what it tells again goes on as it is, and the rest is released.

    A booking that had its first token when it came is booked for the phase "decode": its prefill
    is no load any more, and no speed is measured from it. A booking on a worker that is not known
    here is kept aside, and tried again when that is registered and in its turn at a `tick`. Counts
    of tokens beyond 2^24 are taken for 2^24, so that a peer's mistake stays within bounds.

    Not thread-safe: for the exchange's thread alone.
    """

    def __init__(
        self,
        router: Router,
        limits: ExchangeLimits,
        tally: Tally,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._router = router
        self._limits = limits
        self._tally = tally
        self._clock = clock
        self._peers: dict[str, _Peer] = {}
        self._aside = Aside(limits, clock)
        self._count = 0
        self._bytes = 0

    def __len__(self) -> int:
        """Bookings of all peers, those aside included."""
        return self._count

    @property
    def aside(self) -> int:
        return len(self._aside)

    def connected(self, peer: str, connection: object) -> bool:
        """From now on this connection speaks for the peer, beginning with its snapshot. False:
        there are `max_peers` others."""
        if peer not in self._peers and len(self._peers) >= self._limits.max_peers:
            return False
        entry = self._peers.setdefault(peer, _Peer())
        entry.connection = connection
        entry.lost_at = None
        return True

    def apply(self, peer: str, connection: object, operations: Iterable[Operation]) -> None:
        entry = self._spoken_for(peer, connection)
        if entry is None:
            return
        for operation in operations:
            if isinstance(operation, Booked):
                self._book(peer, entry, operation)
            else:
                self._change(entry, operation)
            self._tally.applied += 1

    def snapshot_ended(self, peer: str, connection: object) -> None:
        """What the peer has not told in this connection runs no more."""
        entry = self._spoken_for(peer, connection)
        if entry is not None:
            for booking_id, held in list(entry.held.items()):
                if held.told_in is not connection:
                    self._release(entry, booking_id)

    def disconnected(self, peer: str, connection: object, *, on_purpose: bool) -> None:
        """on_purpose: the peer said that it ends, and its bookings are released now."""
        entry = self._spoken_for(peer, connection)
        if entry is None:
            return
        entry.connection = None
        entry.lost_at = self._clock()
        if on_purpose:
            self._forget(peer)

    def tick(self) -> None:
        """Releases what peers that are gone have left, and tries again what is kept aside. To be
        called several times in a second."""
        gone_before = self._clock() - self._limits.grace_s
        for peer, entry in list(self._peers.items()):
            if entry.lost_at is not None and entry.lost_at <= gone_before:
                self._forget(peer)
        for held in self._aside.expired():
            self._drop(held)
        for of_target in self._aside.of_next_targets(_TARGETS_AT_ONCE):
            self._try_again(of_target)

    def worker_registered(self, worker: str) -> None:
        """For the first time, or anew: what was reserved there is gone then, and is reserved
        again."""
        for entry in self._peers.values():
            for held in list(entry.held.values()):
                if held.booking.worker == worker:
                    held.release()
                    if not self._place(held):
                        self._drop(held)

    def close(self) -> None:
        """Releases all."""
        for peer in list(self._peers):
            self._forget(peer)

    def _spoken_for(self, peer: str, connection: object) -> _Peer | None:
        entry = self._peers.get(peer)
        return entry if entry is not None and entry.connection is connection else None

    def _book(self, peer: str, entry: _Peer, booking: Booked) -> None:
        held = entry.held.get(booking.booking_id)
        if held is not None:
            held.told_in = entry.connection
            if booking.first_token:
                held.first_token()
            held.progress(min(booking.output_tokens, _MOST_TOKENS))
            return
        held = Held(peer, _plausible(booking), entry.connection)
        if self._is_full(entry, held) or not self._place(held):
            self._tally.dropped += 1
        elif booking.ended:
            self._let_go(held)
        else:
            entry.held[booking.booking_id] = held
            self._count += 1
            self._bytes += held.size

    def _is_full(self, entry: _Peer, held: Held) -> bool:
        limits = self._limits
        return (
            len(entry.held) >= limits.max_remote_per_peer
            or self._count >= limits.max_remote
            or self._bytes + held.size > limits.max_remote_bytes
        )

    def _place(self, held: Held) -> bool:
        """Reserves it, or keeps it aside. False: neither can be."""
        try:
            held.reservation = self._reserve(held)
        except (UnknownWorker, NoEligibleWorker):
            return self._aside.keep(held)
        self._aside.drop(held)
        return held.reservation is not None

    def _reserve(self, held: Held) -> Reservation | None:
        """None: the router refuses it. UnknownWorker, NoEligibleWorker: it may not do so later."""
        booking = held.booking
        try:
            reservation = self._router.reserve_by_hashes(
                booking.local_hashes,
                booking.num_tokens,
                f"{held.peer}/{booking.booking_id}",
                booking.expected_output_tokens,
                [held.target],
                phase="decode" if booking.first_token else None,
            )
        except (UnknownWorker, NoEligibleWorker):
            raise
        except KvRouteError as error:
            self._tally.log_once("refused", "A peer's booking is refused: %s", error)
            return None
        if booking.output_tokens > 0:
            reservation.progress(booking.output_tokens)
        return reservation

    def _try_again(self, of_one_target: list[Held]) -> None:
        for held in of_one_target:
            if not self._place(held):
                self._drop(held)
            elif held.reservation is None:
                return  # nor can the others be reserved

    def _change(self, entry: _Peer, operation: FirstToken | Progress | Released) -> None:
        held = entry.held.get(operation.booking_id)
        if held is None:
            return
        if isinstance(operation, FirstToken):
            held.first_token()
            return
        held.progress(min(operation.output_tokens, _MOST_TOKENS))
        if isinstance(operation, Released):
            self._release(entry, operation.booking_id)

    def _drop(self, held: Held) -> None:
        self._release(self._peers[held.peer], held.booking.booking_id)
        self._tally.dropped += 1

    def _release(self, entry: _Peer, booking_id: int) -> None:
        held = entry.held.pop(booking_id)
        self._let_go(held)
        self._count -= 1
        self._bytes -= held.size

    def _let_go(self, held: Held) -> None:
        self._aside.drop(held)
        held.release()

    def _forget(self, peer: str) -> None:
        entry = self._peers[peer]
        for booking_id in list(entry.held):
            self._release(entry, booking_id)
        del self._peers[peer]


def _plausible(booking: Booked) -> Booked:
    expected = booking.expected_output_tokens
    if max(booking.num_tokens, expected or 0, booking.output_tokens) <= _MOST_TOKENS:
        return booking
    return booking._replace(
        num_tokens=min(booking.num_tokens, _MOST_TOKENS),
        expected_output_tokens=None if expected is None else min(expected, _MOST_TOKENS),
        output_tokens=min(booking.output_tokens, _MOST_TOKENS),
    )

"""Peers' bookings, held in this process's router."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterable
from typing import Literal, Protocol

from kvroute import KvRouteError, NoEligibleWorker, UnknownWorker
from kvroute.ray_serve.exchange.aside import Aside, Waiting
from kvroute.ray_serve.exchange.limits import ExchangeLimits
from kvroute.ray_serve.exchange.operations import (
    Booked,
    FirstToken,
    Operation,
    Progress,
    Released,
)
from kvroute.ray_serve.exchange.tally import Tally


class Reservation(Protocol):
    """What of kvroute.Reservation is used."""

    def first_token(self) -> None: ...
    def progress(self, output_tokens: int) -> None: ...
    def release(self) -> None: ...


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


class _Held:
    """A peer's booking. `told_in` is the connection that told of it last."""

    __slots__ = ("reservation", "told_in")

    def __init__(self, reservation: Reservation, told_in: object) -> None:
        self.reservation = reservation
        self.told_in = told_in


class _Peer:
    __slots__ = ("connection", "held", "lost_at")

    def __init__(self) -> None:
        self.held: dict[int, _Held] = {}
        self.connection: object = None
        self.lost_at: float | None = None


class RemoteBookings:
    """Applies what peers say to the router, as if their requests had been booked here.

    A connection is any object: of a peer only the newest one counts. When it breaks, the peer's
    bookings stay for `grace_s`, since a peer that lives connects again at once; then its snapshot
    replaces them without a dip: what it tells again goes on as it is, and the rest is released.

    A booking that had its first token when it came is booked for the phase "decode": its prefill
    is no load any more, and no speed is measured from it. A booking on a worker that is not known
    here is kept aside and tried again at each `tick`.

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
        for waiting in self._aside.expired():
            self._release(self._peers[waiting.peer], waiting.booking.booking_id)
            self._tally.dropped += 1
        for of_target in self._aside.by_target().values():
            self._try_again(of_target)

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
            _bring_up_to(held.reservation, booking)
            return
        reservation = None if self._is_full(entry) else self._reserve_or_wait(peer, booking)
        if reservation is None:
            self._tally.dropped += 1
        elif booking.ended:
            reservation.release()
        else:
            entry.held[booking.booking_id] = _Held(reservation, entry.connection)
            self._count += 1

    def _is_full(self, entry: _Peer) -> bool:
        limits = self._limits
        return len(entry.held) >= limits.max_remote_per_peer or self._count >= limits.max_remote

    def _reserve_or_wait(self, peer: str, booking: Booked) -> Reservation | None:
        try:
            return self._reserve(peer, booking)
        except (UnknownWorker, NoEligibleWorker):
            return self._aside.keep(peer, booking)

    def _reserve(self, peer: str, booking: Booked) -> Reservation | None:
        """None: the router refuses it. UnknownWorker, NoEligibleWorker: it may not do so later."""
        try:
            reservation = self._router.reserve_by_hashes(
                booking.local_hashes,
                booking.num_tokens,
                f"{peer}/{booking.booking_id}",
                booking.expected_output_tokens,
                [(booking.worker, booking.dp_rank)],
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

    def _try_again(self, of_one_target: list[Waiting]) -> None:
        for waiting in of_one_target:
            try:
                reservation = self._reserve(waiting.peer, waiting.booking)
            except (UnknownWorker, NoEligibleWorker):
                return
            entry = self._peers[waiting.peer]
            if reservation is None:
                self._release(entry, waiting.booking.booking_id)
                self._tally.dropped += 1
            else:
                entry.held[waiting.booking.booking_id].reservation = reservation
                waiting.release()

    def _change(self, entry: _Peer, operation: FirstToken | Progress | Released) -> None:
        held = entry.held.get(operation.booking_id)
        if held is None:
            return
        if isinstance(operation, FirstToken):
            held.reservation.first_token()
            return
        if operation.output_tokens > 0:
            held.reservation.progress(operation.output_tokens)
        if isinstance(operation, Released):
            self._release(entry, operation.booking_id)

    def _release(self, entry: _Peer, booking_id: int) -> None:
        entry.held.pop(booking_id).reservation.release()
        self._count -= 1

    def _forget(self, peer: str) -> None:
        entry = self._peers.pop(peer)
        for booking_id in list(entry.held):
            self._release(entry, booking_id)


def _bring_up_to(reservation: Reservation, booking: Booked) -> None:
    if booking.first_token:
        reservation.first_token()
    if booking.output_tokens > 0:
        reservation.progress(booking.output_tokens)

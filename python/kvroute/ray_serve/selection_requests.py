"""The running requests of a selection service, whose news may come in any order."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from kvroute import Reservation
from kvroute.ray_serve.expiring import Expiring
from kvroute.ray_serve.selection_workers import WorkerId

if TYPE_CHECKING:
    from kvroute._core import TokenIds

logger = logging.getLogger(__name__)

MAX_REQUESTS = 65536
MAX_EARLY_REQUESTS = 8192


class WorkerSelection(TypedDict):
    """Where a request goes."""

    worker_id: WorkerId
    dp_rank: int
    overlap_tokens: int
    """Prompt tokens that the worker holds."""
    effective_prefill_tokens: int
    """Prompt tokens that it must compute."""


@dataclass(slots=True)
class _Booking:
    selection: WorkerSelection
    reservation: Reservation

    def first_token(self) -> None:
        self.reservation.first_token()

    def progress(self, output_tokens: int) -> None:
        self.reservation.progress(output_tokens)


@dataclass(slots=True)
class _Early:
    """What was heard of a request that is not booked here yet."""

    has_first_token: bool = False
    output_tokens: int = 0

    def first_token(self) -> None:
        self.has_first_token = True

    def progress(self, output_tokens: int) -> None:
        self.output_tokens = max(self.output_tokens, output_tokens)


class SelectionRequests:
    """Bookings by request id. For one thread at a time.

    News of a request that is not booked are kept, for MAX_EARLY_REQUESTS requests and `early_ttl_s`
    at most, and count when its booking comes. Ends are remembered as long. Of MAX_REQUESTS bookings
    the oldest makes room for a new one; one without news for `request_ttl_s` is dropped.
    """

    def __init__(
        self, clock: Callable[[], float], request_ttl_s: float, early_ttl_s: float
    ) -> None:
        self._clock = clock
        self._bookings: Expiring[_Booking] = Expiring(MAX_REQUESTS, request_ttl_s)
        self._early: Expiring[_Early] = Expiring(MAX_EARLY_REQUESTS, early_ttl_s)
        # The worker that a request ended on; None where its end came before its booking.
        self._ended: Expiring[WorkerId | None] = Expiring(MAX_EARLY_REQUESTS, early_ttl_s)

    def selection(self, request_id: str) -> WorkerSelection | None:
        """That of a request that is booked."""
        self._sweep()
        booked = self._bookings.get(request_id)
        return booked.selection if booked else None

    def has_ended(self, request_id: str, worker_id: WorkerId) -> bool:
        """Whether it ended on this worker, or before its booking came."""
        self._sweep()
        return request_id in self._ended and self._ended.get(request_id) in (None, worker_id)

    def book(self, request_id: str, selection: WorkerSelection, reservation: Reservation) -> None:
        """Of one that is not booked. What was heard of it counts; an end does not: whoever books
        has seen to that."""
        self._bookings.put(request_id, _Booking(selection, reservation), self._clock())
        self._ended.pop(request_id)
        early = self._early.pop(request_id)
        if early is not None and early.has_first_token:
            reservation.first_token()
        if early is not None and early.output_tokens:
            reservation.progress(early.output_tokens)

    def release(self, request_id: str) -> None:
        """Takes a booking back, as if it had not been. Nothing happens where there is none."""
        booked = self._bookings.pop(request_id)
        if booked is not None:
            booked.reservation.release()

    def first_token(self, request_id: str) -> None:
        running = self._running(request_id)
        if running is not None:
            running.first_token()

    def progress(self, request_id: str, output_tokens: int) -> None:
        running = self._running(request_id)
        if running is not None:
            running.progress(output_tokens)

    def complete(self, request_id: str, output_token_ids: TokenIds | None = None) -> None:
        now = self._sweep()
        self._early.pop(request_id)
        booked = self._bookings.pop(request_id)
        if booked is not None:
            self._ended.put(request_id, booked.selection["worker_id"], now)
            booked.reservation.release(output_token_ids)
        elif request_id not in self._ended:
            self._ended.put(request_id, None, now)

    def worker_left(self, worker_id: WorkerId) -> None:
        """All its requests have ended there."""
        bookings = list(self._bookings.items())
        for request_id, booked in bookings:
            if booked.selection["worker_id"] == worker_id:
                self.complete(request_id)

    def _running(self, request_id: str) -> _Booking | _Early | None:
        """Whom news of a request are for; None where it has ended."""
        now = self._sweep()
        booked = self._bookings.get(request_id)
        if booked is not None:
            self._bookings.put(request_id, booked, now)
            return booked
        if request_id in self._ended:
            return None
        early = self._early.get(request_id) or _Early()
        self._early.put(request_id, early, now)
        return early

    def _sweep(self) -> float:
        now = self._clock()
        self._early.sweep(now)
        self._ended.sweep(now)
        if dropped := self._bookings.sweep(now):
            logger.warning("%d bookings were dropped: their requests never ended", dropped)
        return now

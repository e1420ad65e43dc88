"""Which attempt of which request a replica's "completed" is about.

Serve says only (request id, replica), once for each attempt that was sent: also for one that the
replica rejected, which is tried again under the same id, and for each of several calls that one
HTTP request makes at the same time. So the attempts of an id on a replica are a queue; a completion
ends the oldest of them. One that was rejected gives its load back at once, but keeps its place
until its own completion has come. Only where sending fails it is known whose completion comes:
Serve says it before anything else runs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from kvroute.ray_serve.bookings import Booking

MAX_ATTEMPTS = 1 << 16


@dataclass(slots=True, eq=False)
class Attempt:
    """A request that a replica was taken for. `booking` is None where the core did not choose, and
    once the load is given back."""

    request_id: str
    worker: str
    booking: Booking | None
    since: float
    sent: bool = False
    """Whether Serve is known to have sent it there. Its completion is then still to come."""
    settled: bool = False
    """Whether it is over by itself, not by a completion that may be another call's: its own came,
    or it made room."""

    def release(self) -> None:
        booking, self.booking = self.booking, None
        if booking is not None:
            booking.release()

    def withdraw(self) -> None:
        booking, self.booking = self.booking, None
        if booking is not None:
            booking.withdraw()


class Attempts:
    """Attempts that are not completed. Thread-safe.

    Bounded: the oldest make room beyond `most`, and those that nobody has spoken of for `lifetime`
    seconds are given up (their completion never came, as for a selection that was not dispatched).
    """

    def __init__(
        self,
        lifetime: float,
        most: int = MAX_ATTEMPTS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lifetime = lifetime
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._by_request: dict[str, list[Attempt]] = {}
        self._in_order: dict[Attempt, None] = {}

    def __len__(self) -> int:
        return len(self._in_order)

    def add(self, request_id: str, worker: str, booking: Booking | None) -> Attempt:
        """The replica was taken for the request."""
        attempt = Attempt(request_id, worker, booking, self._clock())
        with self._lock:
            given_up = self._trim()
            self._by_request.setdefault(request_id, []).append(attempt)
            self._in_order[attempt] = None
        for old in given_up:
            old.release()
        return attempt

    def void(self, attempt: Attempt) -> None:
        """The request is tried anew: the replica rejected this attempt, or could not be reached.

        One that was refused a slot has no completion to come; if one has ended it all the same,
        that was another call's of the same id there.
        """
        attempt.withdraw()
        if attempt.sent or attempt.settled:
            return
        with self._lock:
            known = attempt in self._in_order
            self._forget(attempt)
        if not known:
            self.completed(attempt.request_id, attempt.worker)

    def not_sent(self, attempt: Attempt) -> None:
        """Sending it failed. Serve calls that completed, before it tries the request anew."""
        attempt.settled = True
        with self._lock:
            self._forget(attempt)
        attempt.withdraw()

    def completed(self, request_id: str, worker: str) -> bool:
        """Ends the oldest attempt of this request there; False where none is known."""
        with self._lock:
            for attempt in self._by_request.get(request_id, ()):
                if attempt.worker == worker:
                    self._forget(attempt)
                    break
            else:
                return False
        attempt.release()
        return True

    def cancelled(self, request_id: str) -> None:
        """Gives back the load of all attempts of this request. Completions are still to come."""
        with self._lock:
            attempts = list(self._by_request.get(request_id, ()))
        for attempt in attempts:
            attempt.release()

    def _trim(self) -> list[Attempt]:
        """At most a few steps for each attempt that is added."""
        given_up = []
        oldest_kept = self._clock() - self._lifetime
        for _ in range(2):
            oldest = next(iter(self._in_order), None)
            if oldest is None:
                break
            if len(self._in_order) < self._most:
                if oldest.since >= oldest_kept:
                    break
                booking = oldest.booking
                if booking is not None and not booking.released and booking.touched >= oldest_kept:
                    oldest.since = booking.touched
                    del self._in_order[oldest]
                    self._in_order[oldest] = None
                    continue
            oldest.settled = True
            self._forget(oldest)
            given_up.append(oldest)
        return given_up

    def _forget(self, attempt: Attempt) -> None:
        if attempt not in self._in_order:
            return
        del self._in_order[attempt]
        of_request = self._by_request[attempt.request_id]
        of_request.remove(attempt)
        if not of_request:
            del self._by_request[attempt.request_id]

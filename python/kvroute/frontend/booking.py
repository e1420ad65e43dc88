"""What a request has reserved on the workers that serve it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from kvroute.frontend.backend import Backend
from kvroute.frontend.protocols import Reservation, Selection


class Booking:
    """All reservations of one request on its target. `release` must be called on every path."""

    def __init__(
        self,
        backend: Backend,
        reservations: list[Reservation],
        made_room: Callable[[], None],
    ) -> None:
        """`made_room` is called at the first token and at the release."""
        self.backend = backend
        self._made_room = made_room
        self.choice: Selection = reservations[0].choice
        self._reservations = reservations
        self._progress = 0
        backend.running += 1
        self._released = False

    def first_token(self) -> None:
        for reservation in self._reservations:
            reservation.first_token()
        self._made_room()

    def progress(self, output_tokens: int) -> None:
        """Cumulative output tokens of the whole request, shared evenly among its parts."""
        share = output_tokens // len(self._reservations)
        if share > self._progress:
            self._progress = share
            for reservation in self._reservations:
                reservation.progress(share)

    def release(self) -> None:
        if self._released:
            return
        self._released = True
        self.backend.running -= 1
        for reservation in self._reservations:
            reservation.release()
        self._made_room()


class PairBooking(NamedTuple):
    """Both legs of a request."""

    prefill: Booking
    decode: Booking

    def release(self) -> None:
        self.prefill.release()
        self.decode.release()

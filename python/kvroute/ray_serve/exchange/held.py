"""A peer's booking, and what it holds here."""

from __future__ import annotations

from typing import Protocol

from kvroute.ray_serve.exchange.operations import Booked


class Reservation(Protocol):
    """What of kvroute.Reservation is used."""

    def first_token(self) -> None: ...
    def progress(self, output_tokens: int) -> None: ...
    def release(self) -> None: ...


class Held:
    """A booking as far as it has come, so that it can be reserved at any time.

    `reservation`: None while it waits aside. `told_in`: the connection that told of it last.
    """

    __slots__ = ("booking", "peer", "reservation", "told_in")

    def __init__(self, peer: str, booking: Booked, told_in: object) -> None:
        self.peer = peer
        self.booking = booking
        self.told_in = told_in
        self.reservation: Reservation | None = None

    @property
    def target(self) -> tuple[str, int]:
        return self.booking.worker, self.booking.dp_rank

    @property
    def size(self) -> int:
        """Bytes of its hashes."""
        return 8 * len(self.booking.local_hashes)

    def first_token(self) -> None:
        self.booking = self.booking._replace(first_token=True)
        if self.reservation is not None:
            self.reservation.first_token()

    def progress(self, output_tokens: int) -> None:
        """A lower count than before changes nothing."""
        if output_tokens > self.booking.output_tokens:
            self.booking = self.booking._replace(output_tokens=output_tokens)
            if self.reservation is not None:
                self.reservation.progress(output_tokens)

    def release(self) -> None:
        if self.reservation is not None:
            self.reservation.release()
            self.reservation = None

"""Load that requests of this process put on replicas: booked in the core, told to other routers.

A booking is made when a replica is chosen, before Serve has taken one: requests that are chosen for
in the same moment see one another's. It ends once, whoever says so first.
"""

from __future__ import annotations

import itertools
import threading
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from kvroute import AllowedSet, KvRouter, Reservation

    Allowed = AllowedSet | Sequence[str | tuple[str, int]]

Phase = Literal["whole", "decode"]

NO_HASHES: array[int] = array("Q")


class Exchange(Protocol):
    """Who tells the other routers of the deployment. None of its calls waits."""

    def booked(
        self,
        booking_id: int,
        worker: str,
        dp_rank: int,
        num_tokens: int,
        local_hashes: array[int],
        expected_output_tokens: int | None,
    ) -> None: ...
    def first_token(self, booking_id: int) -> None: ...
    def progress(self, booking_id: int, output_tokens: int) -> None: ...
    def released(self, booking_id: int, *, served: bool = True) -> None: ...
    def worker_registered(self, worker: str) -> None: ...
    def stats(self) -> dict[str, int]: ...


@dataclass(slots=True, frozen=True)
class HashedPrompt:
    """What the core chooses by."""

    local_hashes: array[int]
    num_tokens: int
    expected_output_tokens: int | None = None
    session_id: str | None = None
    lora: str | None = None
    block_size: int | None = None
    """Of the hashes; None where they are for any router."""

    @classmethod
    def unknown(cls, session_id: str | None, lora: str | None) -> HashedPrompt:
        """Of a request without token ids: it counts as one, its length as nothing. It
        is for routers of any block size."""
        return cls(NO_HASHES, 1, None, session_id, lora)

    def reserve(
        self,
        router: KvRouter,
        allowed: Allowed,
        alternatives: int = 0,
        phase: Phase = "whole",
    ) -> Reservation:
        """Raises what KvRouter.reserve_by_hashes raises."""
        return router.reserve_by_hashes(
            self.local_hashes,
            self.num_tokens,
            None,
            self.expected_output_tokens,
            allowed,
            session_id=self.session_id,
            lora=self.lora,
            phase=phase,
            alternatives=alternatives,
        )


class Booking:
    """One attempt's load on one target. Every method is idempotent, and for any thread."""

    __slots__ = (
        "_bookings",
        "_first_token",
        "_lock",
        "_output_tokens",
        "_reservation",
        "choice",
        "dp_rank",
        "number",
        "prompt",
        "released",
        "touched",
        "worker",
    )

    def __init__(
        self, bookings: Bookings, number: int, prompt: HashedPrompt, reservation: Reservation
    ) -> None:
        self._bookings = bookings
        self._lock = threading.Lock()
        self._reservation = reservation
        self._first_token = False
        self._output_tokens = 0
        self.number = number
        self.prompt = prompt
        self.choice = reservation.choice
        self.worker = str(self.choice.worker)
        self.dp_rank = self.choice.dp_rank
        self.released = False
        self.touched = time.monotonic()

    def first_token(self) -> None:
        with self._lock:
            if self.released or self._first_token:
                return
            self._first_token = True
            self.touched = time.monotonic()
            self._reservation.first_token()
            exchange = self._bookings.exchange
            if exchange is not None:
                exchange.first_token(self.number)

    def progress(self, output_tokens: int) -> None:
        """Cumulative; a lower count than before changes nothing."""
        with self._lock:
            if self.released or output_tokens <= self._output_tokens:
                return
            self._output_tokens = output_tokens
            self.touched = time.monotonic()
            self._reservation.progress(output_tokens)
            exchange = self._bookings.exchange
            if exchange is not None:
                exchange.progress(self.number, output_tokens)

    def release(self, output_token_ids: Any = None) -> None:
        """With `output_token_ids` the router remembers what a replica without events holds now."""
        self._end(output_token_ids, served=True)

    def withdraw(self) -> None:
        """The replica did not take the request. The load is given back; what the router predicts
        of a cache without events stays as if it had, as the core has no way back, and so with peers
        that were told. Where a rejected attempt's completion comes before the retry, its booking
        was released by then, as of one that was served."""
        self._end(None, served=False)

    def book_again(self, router: KvRouter) -> None:
        """The worker was taken out of the core and added again. Raises what the core raises."""
        with self._lock:
            if self.released:
                return
            target = [(self.worker, self.dp_rank)]
            phase: Phase = "decode" if self._first_token else "whole"
            self._reservation = self.prompt.reserve(router, target, phase=phase)
            if self._output_tokens:
                self._reservation.progress(self._output_tokens)

    def _end(self, output_token_ids: Any, served: bool) -> None:
        with self._lock:
            if self.released:
                return
            self.released = True
            try:
                self._reservation.release(output_token_ids)
            finally:
                self._bookings.ended(self, served)


class Bookings:
    """All live bookings of one deployment in this process. Thread-safe; each step is O(1)."""

    def __init__(self) -> None:
        self.exchange: Exchange | None = None
        self._numbers = itertools.count(1)
        self._live: dict[str, dict[int, Booking]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        with self._lock:
            return sum(map(len, self._live.values()))

    def book(
        self,
        router: KvRouter,
        prompt: HashedPrompt,
        allowed: Allowed,
        alternatives: int = 0,
    ) -> Booking:
        """Chooses and books in one step. Raises what KvRouter.reserve_by_hashes raises."""
        reservation = prompt.reserve(router, allowed, alternatives)
        booking = Booking(self, next(self._numbers), prompt, reservation)
        exchange = self.exchange
        if exchange is not None:  # before anybody can end it
            exchange.booked(
                booking.number,
                booking.worker,
                booking.dp_rank,
                prompt.num_tokens,
                prompt.local_hashes,
                prompt.expected_output_tokens,
            )
        with self._lock:
            self._live.setdefault(booking.worker, {})[booking.number] = booking
        return booking

    def of(self, worker: str) -> list[Booking]:
        """The oldest first."""
        with self._lock:
            return list(self._live.get(worker, {}).values())

    def drop_all(self) -> None:
        """The router that they were booked in goes."""
        with self._lock:
            live = [booking for of_worker in self._live.values() for booking in of_worker.values()]
        for booking in live:
            booking.release()

    def ended(self, booking: Booking, served: bool) -> None:
        """For Booking: once for each. `served`: False where a replica is known not to have taken
        it."""
        with self._lock:
            of_worker = self._live[booking.worker]
            del of_worker[booking.number]
            if not of_worker:
                del self._live[booking.worker]
        if self.exchange is not None:
            self.exchange.released(booking.number, served=served)

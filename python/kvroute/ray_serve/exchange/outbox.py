"""This process's own bookings: which of them run, and what peers have not been told yet."""

from __future__ import annotations

import time
from array import array
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Literal

from kvroute.ray_serve.exchange import operations
from kvroute.ray_serve.exchange.limits import ExchangeLimits
from kvroute.ray_serve.exchange.operations import WireError, fits
from kvroute.ray_serve.exchange.tally import Tally

_MOST_AT_ONCE = 16384  # calls taken in by one `drain`

_Placed = tuple[str, int, int, "array[int]", int | None]
_Course = (
    tuple[Literal["first_token"], int, None]
    | tuple[Literal["progress"], int, int]
    | tuple[Literal["released"], int, bool]
)
_Call = tuple[Literal["booked"], int, _Placed] | _Course


class _Live:
    """A running booking. `told`: peers have heard of it; `told_blocks`: of so many full blocks."""

    __slots__ = (
        "first_token",
        "heard_at",
        "num_tokens",
        "output_tokens",
        "placed",
        "told",
        "told_blocks",
    )

    def __init__(self, placed: bytes, num_tokens: int, now: float) -> None:
        self.placed = placed
        self.num_tokens = num_tokens
        self.first_token = False
        self.output_tokens = 0
        self.told = False
        self.told_blocks = 0
        self.heard_at = now


class Outbox:
    """Takes calls from any thread in a fraction of a microsecond: they are put aside, and the
    exchange's thread works through them in `drain`. All other methods are for that thread alone.

    What changes more often than peers need is told once: a booking of one batch goes with what
    became of it there, and progress when it fills another block, since load counts in blocks.
    A booking that ended before anybody heard of it is told as ended: peers predict its blocks as
    this router does. But one whose replica refused it (served=False) is then not told at all. This
    router, and peers that heard of it before, go on predicting its blocks on that replica.
    """

    def __init__(
        self,
        block_size: int,
        limits: ExchangeLimits,
        tally: Tally,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._block_size = block_size
        self._limits = limits
        self._tally = tally
        self._clock = clock
        self._inbox: deque[_Call] = deque()
        self._live: OrderedDict[int, _Live] = OrderedDict()  # the longest silent first
        self._live_bytes = 0

    def booked(
        self,
        booking_id: int,
        worker: str,
        dp_rank: int,
        num_tokens: int,
        local_hashes: array[int],
        expected_output_tokens: int | None,
    ) -> None:
        placed = (worker, dp_rank, num_tokens, local_hashes, expected_output_tokens)
        self._put(("booked", booking_id, placed), self._limits.max_inbox)

    def first_token(self, booking_id: int) -> None:
        self._put(("first_token", booking_id, None), 2 * self._limits.max_inbox)

    def progress(self, booking_id: int, output_tokens: int) -> None:
        self._put(("progress", booking_id, output_tokens), self._limits.max_inbox)

    def released(self, booking_id: int, served: bool) -> None:
        self._put(("released", booking_id, served), 2 * self._limits.max_inbox)

    # The end of a booking is taken in longer than its beginning, so that none is left running.
    def _put(self, call: _Call, room: int) -> None:
        if len(self._inbox) < room:
            self._inbox.append(call)
        else:
            self._tally.dropped += 1

    @property
    def waiting(self) -> int:
        """Calls that `drain` has not seen."""
        return len(self._inbox)

    @property
    def live(self) -> list[int]:
        """The running bookings that `drain` has seen."""
        return list(self._live)

    def __len__(self) -> int:
        return len(self._live)

    def state(self, booking_id: int) -> bytes | None:
        """A running booking as one operation; None: it is over."""
        live = self._live.get(booking_id)
        return None if live is None else _state(booking_id, live, ended=False)

    def drain(self) -> list[bytes]:
        """Operations that bring peers up to date with the calls that waited."""
        now = self._clock()
        fresh: list[int] = []
        told: list[bytes] = []
        for _ in range(min(len(self._inbox), _MOST_AT_ONCE)):
            call = self._inbox.popleft()
            if call[0] == "booked":
                self._admit(call[1], call[2], now)
                fresh.append(call[1])
            else:
                operation = self._follow(call, now)
                if operation is not None:
                    told.append(operation)
        for booking_id in fresh:
            live = self._live.get(booking_id)
            if live is not None:
                live.told = True
                told.append(_state(booking_id, live, ended=False))
        return told

    def expire(self) -> list[bytes]:
        """Ends what was silent for too long, as the core does; the operations that say so."""
        oldest = self._clock() - self._limits.lifetime_s
        told = []
        while self._live:
            booking_id, live = next(iter(self._live.items()))
            if live.heard_at > oldest:
                break
            self._forget(booking_id)
            told.append(operations.released(booking_id, live.output_tokens))
        return told

    def _admit(self, booking_id: int, placed: _Placed, now: float) -> None:
        limits = self._limits
        try:
            if booking_id in self._live or not fits(booking_id, 64):
                raise WireError(f"booking: expected a new number of 64 bits, got {booking_id}")
            live = _Live(operations.place(*placed), placed[2], now)
        except WireError as error:
            self._tally.dropped += 1
            self._tally.log_once("booking", "A booking is not exchanged: %s", error)
            return
        size = self._live_bytes + len(live.placed)
        if len(self._live) >= limits.max_live or size > limits.max_live_bytes:
            self._tally.dropped += 1
            return
        live.told_blocks = live.num_tokens // self._block_size
        self._live[booking_id] = live
        self._live_bytes = size

    def _follow(self, call: _Course, now: float) -> bytes | None:
        """The operation where peers need one: of what they were not told yet only a last one."""
        booking_id = call[1]
        live = self._live.get(booking_id)
        if live is None:
            return None
        self._live.move_to_end(booking_id)
        live.heard_at = now
        if call[0] == "released":
            self._forget(booking_id)
            if live.told:
                return operations.released(booking_id, live.output_tokens)
            return _state(booking_id, live, ended=True) if call[2] else None
        if call[0] == "first_token":
            operation = self._first_token(booking_id, live)
        else:
            operation = self._progress(booking_id, live, call[2])
        return operation if live.told else None

    def _first_token(self, booking_id: int, live: _Live) -> bytes | None:
        if live.first_token:
            return None
        live.first_token = True
        return operations.first_token(booking_id)

    def _progress(self, booking_id: int, live: _Live, output_tokens: int) -> bytes | None:
        if not fits(output_tokens, 32) or output_tokens <= live.output_tokens:
            return None
        live.output_tokens = output_tokens
        blocks = (live.num_tokens + output_tokens) // self._block_size
        if blocks == live.told_blocks:
            return None
        live.told_blocks = blocks
        return operations.progress(booking_id, output_tokens)

    def _forget(self, booking_id: int) -> None:
        self._live_bytes -= len(self._live.pop(booking_id).placed)


def _state(booking_id: int, live: _Live, *, ended: bool) -> bytes:
    return operations.booked(
        booking_id,
        live.placed,
        first_token=live.first_token,
        output_tokens=live.output_tokens,
        ended=ended,
    )

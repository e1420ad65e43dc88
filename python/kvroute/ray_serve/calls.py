"""One call of a deployment's handle, known to the router and to the application that makes it.

The router reads the call's token ids in the thread that routes, and binds what it booked; the
application, in its own, notes the tokens that come, which Serve has no hook for. Without Ray.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any, Protocol


class Booking(Protocol):
    """One attempt's load on its replica, as the router books it. Thread-safe, idempotent."""

    def first_token(self) -> None: ...
    def progress(self, output_tokens: int) -> None: ...
    def release(self, output_token_ids: Any = None) -> None: ...


class CallTokenIds(array):  # type: ignore[type-arg]  # array has no type arguments at run time
    """A prompt's token ids that know the call they belong to; elsewhere, a plain array('I').

    The router, in this process, reads `call` from them; a replica gets an array without it.
    """

    call: RoutedCall

    def __new__(cls, token_ids: Any, call: RoutedCall) -> CallTokenIds:
        made: CallTokenIds = super().__new__(cls, "I", _as_initializer(token_ids))
        made.call = call
        return made

    def __reduce_ex__(self, protocol: Any) -> Any:
        return array("I", self).__reduce_ex__(protocol)


class RoutedCall:
    """One handle call: its token ids on the way to the router, its tokens on the way back.

    Thread-safe: the router books in its own thread while the application counts tokens.
    """

    def __init__(self, token_ids: Any, expected_output_tokens: int | None = None) -> None:
        """`token_ids`: at least one integer, 0 <= id < 2**32, in a list, a tuple, an array, a NumPy
        array or what else can be iterated; a ValueError, TypeError or OverflowError otherwise.
        `expected_output_tokens`: of the answer, for policies that look ahead; None takes the
        request's own limit."""
        self.token_ids = CallTokenIds(token_ids, self)
        if not self.token_ids:
            raise ValueError("token_ids: expected at least one, got none")
        self.expected_output_tokens = expected_output_tokens
        self._lock = threading.Lock()
        self._booking: Booking | None = None
        self._output_tokens = 0

    def bind(self, booking: Booking) -> None:
        """The router's: this is what the call's tokens count for from now on. A request that is
        tried again is bound again; the booking before belongs to the router alone then."""
        with self._lock:
            self._booking = booking
            if self._output_tokens:
                booking.first_token()
                booking.progress(self._output_tokens)

    def note(self, new_tokens: int = 1) -> None:
        """The answer has so many more tokens; the first ones say that the prefill is done."""
        if new_tokens <= 0:
            return
        with self._lock:
            is_first = self._output_tokens == 0
            self._output_tokens += new_tokens
            if self._booking is None:
                return
            if is_first:
                self._booking.first_token()
            self._booking.progress(self._output_tokens)

    def release(self, output_token_ids: Any = None) -> None:
        """Ends the booking before Serve says that the request is over. With `output_token_ids` the
        router remembers that the replica holds them too, which a replica without events needs."""
        with self._lock:
            booking = self._booking
        if booking is not None:
            booking.release(output_token_ids)

    async def watch(
        self, response: AsyncIterable[Any], count: Callable[[Any], int] | None = None
    ) -> AsyncIterator[Any]:
        """The response's items as they come, each noted: `count` says how many tokens an item has,
        one where it is None. Errors go through; the end is the router's to notice."""
        async for item in response:
            self.note(1 if count is None else count(item))
            yield item


def _as_initializer(token_ids: Any) -> Any:
    """What array("I", ...) makes an array of quickly. NumPy's integers one by one take ten times as
    long as their bytes."""
    if isinstance(token_ids, (bytes, bytearray)):
        raise TypeError("token_ids: expected integers, got bytes")
    if not hasattr(token_ids, "astype"):
        return token_ids
    if token_ids.ndim != 1 or token_ids.dtype.kind not in "iu":
        raise TypeError(f"token_ids: expected integers in one dimension, got {token_ids.dtype}")
    narrow = token_ids.astype("=u4")
    if (narrow != token_ids).any():
        raise OverflowError("token_ids: expected 0 <= id < 2**32")
    return narrow.tobytes()

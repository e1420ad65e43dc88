"""How an application's ingress calls a deployment that kvroute routes to.

    items = await stream(handle.options(stream=True).generate, body, token_ids=ids).opened()

routes by `ids`, and tells the router of the first token and of those that follow, which Serve has
no hook for. Nothing here needs Ray.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any, Literal, Protocol

from kvroute.ray_serve.errors import MissingTokenIdsError

OnMissingTokens = Literal["balance", "error"]

KEYWORD = "request_token_ids"
"""Under which the ids reach the router, unless its option `token_ids_keyword` says otherwise."""


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
        made: CallTokenIds = super().__new__(cls, "I", token_ids)
        made.call = call
        return made

    def __reduce_ex__(self, protocol: Any) -> Any:
        return array("I", self).__reduce_ex__(protocol)


class RoutedCall:
    """One handle call: its token ids on the way to the router, its tokens on the way back.

    Thread-safe: the router books in its own thread while the application counts tokens.
    """

    def __init__(self, token_ids: Any, expected_output_tokens: int | None = None) -> None:
        """`token_ids`: non-empty integers, 0 <= id < 2**32, in any form that `array` takes; a
        ValueError, TypeError or OverflowError else. `expected_output_tokens`: of the answer, for
        policies that look ahead; None takes the request's own limit."""
        self.token_ids = CallTokenIds(token_ids, self)
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
                self._report(booking)

    def note(self, new_tokens: int = 1) -> None:
        """The answer has so many more tokens; the first ones say that the prefill is done."""
        if new_tokens <= 0:
            return
        with self._lock:
            self._output_tokens += new_tokens
            if self._booking is not None:
                self._report(self._booking)

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

    def _report(self, booking: Booking) -> None:
        if self._output_tokens:
            booking.first_token()
            booking.progress(self._output_tokens)


def call_for(
    token_ids: Any, on_missing_tokens: OnMissingTokens, expected_output_tokens: int | None = None
) -> RoutedCall | None:
    """A call with these ids; None where they are missing and that is no error."""
    if token_ids is not None and len(token_ids) > 0:
        return RoutedCall(token_ids, expected_output_tokens)
    if on_missing_tokens == "error":
        raise MissingTokenIdsError
    return None

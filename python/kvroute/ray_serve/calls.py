"""How an application's ingress calls a deployment that kvroute routes to.

    items = await stream(handle.options(stream=True).generate, body, token_ids=ids).opened()

routes by `ids`, and tells the router of the first token and of those that follow, which Serve has
no hook for. Nothing here needs Ray.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from array import array
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
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


class RoutedStream(AsyncIterator[Any]):
    """The items of a streamed answer, from `stream`. Where its loop is left early, or cancelled
    with the request of a client that is gone, the replica's work is cancelled too."""

    def __init__(self, response: Any, source: AsyncIterator[Any]) -> None:
        self._response = response
        self._source = source
        self._taken: list[Any] = []
        self._items = _cancelling(response, source, self._taken)

    async def opened(self) -> RoutedStream:
        """Waits for the first item, and gives this stream, that item still to come.

        What goes wrong before it is raised here, where it can still be answered with a status:
        MissingTokenIdsError and RouterUnavailableError from the router, a replica that refuses.
        """
        if not self._taken:
            async for item in self._source:
                self._taken.append(item)
                break
        return self

    def __aiter__(self) -> AsyncGenerator[Any, None]:
        return self._items

    async def __anext__(self) -> Any:
        return await self._items.__anext__()

    async def aclose(self) -> None:
        """Ends the request, if it still runs. Idempotent."""
        await self._items.aclose()
        self._response.cancel()


async def _cancelling(
    response: Any, source: AsyncIterator[Any], taken: list[Any]
) -> AsyncGenerator[Any, None]:
    """What was taken already, and the rest; cancels the response if it is left before the end."""
    try:
        while taken:
            yield taken.pop()
        async for item in source:
            yield item
    except (GeneratorExit, asyncio.CancelledError):
        response.cancel()
        raise


def stream(
    method: Any,
    *args: Any,
    token_ids: Any,
    on_missing_tokens: OnMissingTokens | None = None,
    expected_output_tokens: int | None = None,
    token_ids_keyword: str = KEYWORD,
    count: Callable[[Any], int] | None = None,
    **kwargs: Any,
) -> RoutedStream:
    """Calls a streaming method of a handle (`handle.options(stream=True).generate`) and gives its
    items; the request is on its way when this returns.

    token_ids: the prompt's, as RoutedCall takes them; None or empty where they are not known.
    on_missing_tokens: "error" raises MissingTokenIdsError here, before the handle is called,
        "balance" calls it all the same. None: as the deployment's options say, once its router
        works in this process; until then the call is made, and the router, where its option is
        "error", answers with that same error at the first item.
    token_ids_keyword: as the deployment's option of that name.
    count: tokens of an item; None: one each.

    The method gets `args`, `kwargs` and the ids under their keyword.
    """
    call = _call_for(method, token_ids, on_missing_tokens, expected_output_tokens)
    kwargs[token_ids_keyword] = token_ids if call is None else call.token_ids
    response = method.remote(*args, **kwargs)
    return RoutedStream(response, response if call is None else call.watch(response, count))


async def call(
    method: Any,
    *args: Any,
    token_ids: Any,
    on_missing_tokens: OnMissingTokens | None = None,
    expected_output_tokens: int | None = None,
    token_ids_keyword: str = KEYWORD,
    **kwargs: Any,
) -> Any:
    """The answer of a method that does not stream; everything else as of `stream`, errors of the
    router included."""
    routed = _call_for(method, token_ids, on_missing_tokens, expected_output_tokens)
    kwargs[token_ids_keyword] = token_ids if routed is None else routed.token_ids
    return await method.remote(*args, **kwargs)


def _call_for(
    method: Any,
    token_ids: Any,
    on_missing_tokens: OnMissingTokens | None,
    expected_output_tokens: int | None,
) -> RoutedCall | None:
    """A call with these ids; None where they are missing and that is no error."""
    if token_ids is not None and len(token_ids) > 0:
        return RoutedCall(token_ids, expected_output_tokens)
    if (on_missing_tokens or _said_by_router(method)) == "error":
        raise MissingTokenIdsError
    return None


def _said_by_router(method: Any) -> OnMissingTokens | None:
    """What the options of the handle's deployment say, if one of its routers is in this process."""
    states = sys.modules.get("kvroute.ray_serve.deployment_state")  # imported by the first router
    deployment = getattr(method, "deployment_id", None)
    if states is None or deployment is None:
        return None
    options = states.options_of(deployment.app_name, deployment.name)
    return None if options is None else options.on_missing_tokens


def _as_initializer(token_ids: Any) -> Any:
    """What array("I", ...) makes an array of quickly. NumPy's integers one by one take ten times as
    long as their bytes."""
    if not hasattr(token_ids, "astype"):
        return token_ids
    if token_ids.ndim != 1 or token_ids.dtype.kind not in "iu":
        raise TypeError(f"token_ids: expected integers in one dimension, got {token_ids.dtype}")
    narrow = token_ids.astype("=u4")
    if (narrow != token_ids).any():
        raise OverflowError("token_ids: expected 0 <= id < 2**32")
    return narrow.tobytes()

"""How an application's ingress calls a deployment that kvroute routes to.

    items = await stream(handle.options(stream=True).generate, body, token_ids=ids).opened()

routes by `ids`, and tells the router of the first token and of those that follow. Nothing here
imports Ray.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, Literal

from kvroute.ray_serve.calls import RoutedCall
from kvroute.ray_serve.errors import MissingTokenIdsError

OnMissingTokens = Literal["balance", "error"]

KEYWORD = "request_token_ids"
"""Under which the ids reach the router, unless its option `token_ids_keyword` says otherwise."""


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
            try:
                async for item in self._source:
                    self._taken.append(item)
                    break
            except asyncio.CancelledError:
                self._response.cancel()
                raise
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

    token_ids: the prompt's, as RoutedCall takes them. None, empty, or not such ids: missing.
    on_missing_tokens: "error" raises MissingTokenIdsError here, before the handle is called,
        "balance" calls it all the same. None: as the deployment's options say, once its router
        works in this process; until then the call is made, and the router, where its option is
        "error", answers with that same error at the first item.
    token_ids_keyword: as the deployment's option of that name.
    count: tokens of an item; None: one each.

    The method gets `args`, `kwargs` and the ids under their keyword.
    """
    routed = _call_for(method, token_ids, on_missing_tokens, expected_output_tokens)
    kwargs[token_ids_keyword] = token_ids if routed is None else routed.token_ids
    response = method.remote(*args, **kwargs)
    return RoutedStream(response, response if routed is None else routed.watch(response, count))


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
    missing = MissingTokenIdsError()
    if token_ids is not None:
        try:
            return RoutedCall(token_ids, expected_output_tokens)
        except (TypeError, ValueError, OverflowError) as error:
            missing = MissingTokenIdsError(f"{missing}: {error}")
    if (on_missing_tokens or _said_by_router(method)) == "error":
        raise missing
    return None


def _said_by_router(method: Any) -> OnMissingTokens | None:
    """What the options of the handle's deployment say, if one of its routers is in this process."""
    states = sys.modules.get("kvroute.ray_serve.deployment_state")  # imported by the first router
    deployment = getattr(method, "deployment_id", None)
    if states is None or deployment is None:
        return None
    options = states.options_of(deployment.app_name, deployment.name)
    return None if options is None else options.on_missing_tokens

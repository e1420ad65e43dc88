"""Token ids from the engines' own POST /tokenize."""

from __future__ import annotations

import asyncio
import logging
import time
from array import array
from collections.abc import Callable, Sequence

import orjson

from kvroute.deadline import within
from kvroute.frontend.backend import Backend
from kvroute.frontend.model_group import ModelGroup
from kvroute.frontend.prompts import NO_TOKENS, TokenIds
from kvroute.frontend.upstream import (
    Headers,
    Upstream,
    UpstreamBusyError,
    UpstreamError,
    UpstreamUnreachableError,
)

logger = logging.getLogger("kvroute.frontend")

_MAX_ENGINES = 3
_MAX_ANSWER_BYTES = 64 << 20
# A timeout on more than this says something of the prompt rather than of the engine.
_LARGE_PROMPT_BYTES = 256 << 10


class EngineTokens:
    """Asks engines in turn; one that fails rests, and the next is asked in the time that is left.

    An answer 4xx is no failure of the engine: it says that this prompt has no tokens there.
    """

    def __init__(
        self,
        upstream: Upstream,
        *,
        timeout: float,
        cooldown: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`timeout`: seconds for all engines asked for one request. `cooldown`: seconds that an
        engine which failed is not asked."""
        self._upstream = upstream
        self._timeout = timeout
        self._cooldown = cooldown
        self._clock = clock
        self._resting_until: dict[str, float] = {}

    async def token_ids(
        self, group: ModelGroup, bodies: Sequence[bytes], headers: Headers
    ) -> list[TokenIds]:
        """Tokens for each body of POST /tokenize, all from one engine; empty where it has none."""
        started = self._clock()
        engines = [
            engine
            for engine in group.in_turn()
            if self._resting_until.get(engine.url, 0.0) <= started
        ][:_MAX_ENGINES]
        for index, engine in enumerate(engines):
            left = started + self._timeout - self._clock()
            if left <= 0:
                break
            # Half of what is left, so that an engine that hangs leaves time for another.
            share = left if index == len(engines) - 1 else left / 2
            try:
                return await within(share, self._ask_all(engine, bodies, headers))
            except UpstreamBusyError as error:
                logger.debug("%s/tokenize: %s", engine.url, error)
                break
            except (UpstreamError, asyncio.TimeoutError, ValueError) as error:
                logger.debug("%s/tokenize: %s", engine.url, error or type(error).__name__)
                self._failed(group, engine, error, sum(map(len, bodies)))
        return [NO_TOKENS] * len(bodies)

    def _failed(self, group: ModelGroup, engine: Backend, error: Exception, size: int) -> None:
        if isinstance(error, UpstreamUnreachableError):
            group.failed(engine)
        if isinstance(error, asyncio.TimeoutError) and size > _LARGE_PROMPT_BYTES:
            return
        if self._cooldown > 0:
            self._resting_until[engine.url] = self._clock() + self._cooldown

    async def _ask_all(
        self, engine: Backend, bodies: Sequence[bytes], headers: Headers
    ) -> list[TokenIds]:
        asked = [asyncio.ensure_future(self._ask(engine, body, headers)) for body in bodies]
        try:
            return list(await asyncio.gather(*asked))
        finally:
            for one in asked:
                one.cancel()

    async def _ask(self, engine: Backend, body: bytes, headers: Headers) -> TokenIds:
        response = await self._upstream.request(
            "POST",
            f"{engine.url}/tokenize",
            [(b"content-type", b"application/json"), *headers],
            body,
        )
        try:
            if 400 <= response.status < 500:
                return NO_TOKENS
            if response.status != 200:
                raise ValueError(f"status {response.status}")
            answer = bytearray()
            while chunk := await response.read_chunk():
                answer += chunk
                if len(answer) > _MAX_ANSWER_BYTES:
                    raise ValueError(f"an answer larger than {_MAX_ANSWER_BYTES} bytes")
        finally:
            response.close()
        return _tokens_of(answer)


def _tokens_of(answer: bytearray) -> TokenIds:
    content = orjson.loads(answer)
    ids = content.get("tokens") if isinstance(content, dict) else None
    if not isinstance(ids, list):
        raise ValueError("expected an object with a list of tokens")
    try:
        return array("I", ids)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"tokens: {error}") from error

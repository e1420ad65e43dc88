"""Workers for benchmarks: publishers of KV events that any router may subscribe to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from types import TracebackType

from kvroute.engines.event_publisher import KvEventPublisher
from kvroute.engines.events import EventEncoder, EventFormat

BLOCK_SIZE = 16
_POLL_SECONDS = 0.05
_PATIENCE_SECONDS = 60


class EventFleet:
    """`workers` publishers on loopback, in vLLM's current format; to be entered (`async with`)."""

    def __init__(self, workers: int) -> None:
        self._stack = AsyncExitStack()
        self._encoder = EventEncoder(EventFormat.MAP, BLOCK_SIZE)
        self._publishers = [KvEventPublisher("tcp://127.0.0.1:*") for _ in range(workers)]
        self._next_name = 1

    async def __aenter__(self) -> EventFleet:
        for publisher in self._publishers:
            await self._stack.enter_async_context(publisher)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    @property
    def endpoints(self) -> list[str]:
        return [publisher.endpoint for publisher in self._publishers]

    async def hold(
        self,
        worker: int,
        prompts: Sequence[Sequence[int]],
        is_seen: Callable[[], Awaitable[bool]],
    ) -> None:
        """Announces all whole blocks of the prompts as held by this worker, again and again until
        all who listen have seen it. TimeoutError after a minute."""
        events = [self._stored(prompt) for prompt in prompts]
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not await is_seen():
            if time.monotonic() > deadline:
                raise TimeoutError(f"worker {worker}: its events did not arrive")
            self._publishers[worker].publish(self._encoder.batch(time.time(), events))
            await asyncio.sleep(_POLL_SECONDS)

    def _stored(self, prompt: Sequence[int]) -> bytes:
        blocks = len(prompt) // BLOCK_SIZE
        names = range(self._next_name, self._next_name + blocks)
        self._next_name += blocks
        return self._encoder.stored(list(names), None, list(prompt[: blocks * BLOCK_SIZE]))

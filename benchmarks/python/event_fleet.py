"""Workers for benchmarks: publishers of KV events that any router may subscribe to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from kvroute.engines.event_publisher import KvEventPublisher
from kvroute.engines.events import EventEncoder, EventFormat

BLOCK_SIZE = 16
_POLL_SECONDS = 0.05
_PATIENCE_SECONDS = 60


class EventFleet:
    """Publishers in vLLM's current format; `event_fleet` makes and closes one."""

    def __init__(self, publishers: Sequence[KvEventPublisher]) -> None:
        self._encoder = EventEncoder(EventFormat.MAP, BLOCK_SIZE)
        self._publishers = publishers
        self._next_name = 1
        self.endpoints = [publisher.endpoint for publisher in publishers]

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


@asynccontextmanager
async def event_fleet(workers: int) -> AsyncIterator[EventFleet]:
    """So many workers on ports of loopback that the system chose."""
    async with AsyncExitStack() as exits:
        yield EventFleet(
            [
                await exits.enter_async_context(KvEventPublisher("tcp://127.0.0.1:*"))
                for _ in range(workers)
            ]
        )

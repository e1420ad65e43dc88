"""Giving an answer while it is generated: whole or streamed, to a client that may leave."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Coroutine
from typing import Any, TypeVar

from kvroute.engines.core import EngineCore
from kvroute.engines.errors import EngineStoppedError
from kvroute.engines.generation import Generation
from kvroute.engines.http_exchange import ClientGoneError, Exchange
from kvroute.engines.openai_responses import DONE, ResponseWriter
from kvroute.engines.transfer.faults import DroppedError, MalformedError
from kvroute.engines.transfer.role import Call, Leg

_T = TypeVar("_T")


async def unless_gone(watch: asyncio.Task[None], work: Coroutine[Any, Any, _T]) -> _T:
    """The result of `work`; ClientGoneError, and it is cancelled, when `watch` ends before it."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGoneError
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


class Answer:
    """The answer of one request.

    Args:
        exchange: where it goes.
        call: the request.
        leg: the engine's part in it.
        generations: what it is made of, one for each choice, prompt by prompt.
        core: the engine; counts what was finished.
    """

    def __init__(
        self,
        exchange: Exchange,
        call: Call,
        leg: Leg,
        generations: list[Generation],
        core: EngineCore,
    ) -> None:
        request = call.request
        request_id = call.request_id or uuid.uuid4().hex
        self._exchange = exchange
        self._request = request
        self._leg = leg
        self._generations = generations
        self._core = core
        self._faults = core.transfers.faults
        self._is_past_middle = leg.is_prefill
        self._writer = ResponseWriter(
            request_id,
            core.config.model,
            request.chat,
            generations,
            request.n,
            request.logprobs,
            core.config.report_cached,
            request.running_usage,
        )

    async def give(self, progress: asyncio.Event, watch: asyncio.Task[None]) -> None:
        """Answer as the generations go on, told so by `progress`, until their end."""
        while True:
            await progress.wait()
            progress.clear()
            if watch.done():
                raise ClientGoneError
            if any(one.failed for one in self._generations):
                raise EngineStoppedError("engine: stopped before the request ended")
            done = all(one.done for one in self._generations)
            if self._request.stream and not self._leg.is_prefill:
                await self._stream_on(done, watch)
            elif done:
                await self._finish(watch)
            if done:
                break
        now = time.monotonic()
        for one in self._generations:
            self._core.metrics.note_finished(one, now, one.ending.reason)

    async def _stream_on(self, done: bool, watch: asyncio.Task[None]) -> None:
        if not self._exchange.started:
            await self._exchange.start_stream()
        if not self._is_past_middle:
            if self._faults.is_set("decode_midway"):
                await self._exchange.write(self._writer.chunks(at_most=1))
            self._is_past_middle = True
            await unless_gone(watch, self._faults.reach("decode_midway"))
        chunks = self._writer.chunks()
        if done:
            await unless_gone(watch, self._leg.answer())
            await self._exchange.end(chunks + self._usage() + DONE)
        elif chunks:
            await self._exchange.write(chunks)

    async def _finish(self, watch: asyncio.Task[None]) -> None:
        faults = self._faults
        extra: dict[str, Any] = {}
        if self._leg.is_prefill:
            await unless_gone(watch, faults.reach("hold"))
        else:
            await unless_gone(watch, faults.reach("decode_midway"))
        self._leg.first_token = self._generations[0].output.ids(0, 1)[0]
        params = await unless_gone(watch, self._leg.answer())
        if self._leg.is_prefill:
            extra = {"kv_transfer_params": params}
        stream = self._request.stream
        body = self._stream_body() if stream else self._writer.body(extra)
        if self._leg.is_prefill:
            try:
                await unless_gone(watch, faults.reach("answer"))
            except DroppedError:
                await self._exchange.drop(body[: len(body) // 2])
                raise ClientGoneError from None
            except MalformedError:
                body = body[: len(body) // 2]
        if stream:
            await self._exchange.start_stream()
            await self._exchange.end(body)
        else:
            await self._exchange.respond(200, body)

    def _stream_body(self) -> bytes:
        return self._writer.chunks() + self._usage() + DONE

    def _usage(self) -> bytes:
        return self._writer.usage_chunk() if self._request.include_usage else b""

"""A simulated engine without HTTP, inside an application of its own (a Ray Serve replica, say)."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from types import TracebackType
from typing import Any

from kvroute.engines.config import EngineConfig
from kvroute.engines.core import EngineCore
from kvroute.engines.errors import EngineStoppedError
from kvroute.engines.generation import Generation
from kvroute.engines.openai_requests import GenerationRequest, parse_chat, parse_completion
from kvroute.engines.openai_responses import DONE, ResponseWriter
from kvroute.engines.submission import submit


class EmbeddedEngine:
    """An engine on the running event loop that answers OpenAI bodies, and publishes its events.

    ::

        async with EmbeddedEngine(model="m", kv_events="tcp://*:0") as engine:
            async for chunk in engine.answer({"prompt": "Hi", "max_tokens": 8, "stream": True}):
                ...

    Takes an `EngineConfig`, or the settings of one by name; of them ``host`` and ``port`` mean
    nothing here. Everything but `load` belongs to the loop on which it was entered.
    """

    def __init__(self, config: EngineConfig | None = None, **settings: Any) -> None:
        if config is not None and settings:
            raise TypeError("expected a config or settings, got both")
        self.config = EngineConfig(**settings) if config is None else config
        self.core = EngineCore(self.config)

    @property
    def kv_events(self) -> str | None:
        """Endpoint of the KV event PUB socket, as it was bound; None without one."""
        return None if self.core.kv_events is None else self.core.kv_events.endpoint

    @property
    def kv_replay(self) -> str | None:
        """Endpoint of the replay ROUTER socket; None without one."""
        return None if self.core.kv_events is None else self.core.kv_events.replay_endpoint

    @property
    def load(self) -> dict[str, float]:
        """Waiting and running requests, and the fraction of the KV cache in use."""
        scheduler = self.core.scheduler
        return {
            "waiting": scheduler.num_waiting,
            "running": scheduler.num_running,
            "kv_usage": self.core.cache.usage,
        }

    async def __aenter__(self) -> EmbeddedEngine:
        await self.core.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.core.__aexit__(kind, error, traceback)

    async def answer(
        self, document: dict[str, Any], token_ids: Sequence[int] | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Answers a completion's body, or a chat's (one with ``messages``).

        Yields server-sent events for a body that streams, else the one JSON answer.
        ``token_ids`` are the prompt's where the caller has them: nothing is tokenized then.
        Closing the generator gives the request up. Raises RequestRefusedError, EngineBusyError,
        EngineStoppedError.
        """
        parse = parse_chat if "messages" in document else parse_completion
        request = parse(
            document, self.core.tokenizer, None if token_ids is None else list(token_ids)
        )
        progress = asyncio.Event()
        generations = submit(self.core, request, progress.set)
        try:
            async for chunk in self._answer(request, generations, progress):
                yield chunk
        finally:
            self.core.abort(generations)

    async def _answer(
        self, request: GenerationRequest, generations: list[Generation], progress: asyncio.Event
    ) -> AsyncGenerator[bytes, None]:
        writer = ResponseWriter(
            uuid.uuid4().hex,
            self.config.model,
            request.chat,
            generations,
            request.n,
            request.logprobs,
            self.config.report_cached,
            request.running_usage,
        )
        done = False
        while not done:
            await progress.wait()
            progress.clear()
            if any(one.failed for one in generations):
                raise EngineStoppedError("engine: stopped before the request ended")
            done = all(one.done for one in generations)
            if request.stream:
                chunks = writer.chunks()
                if done:
                    chunks += (writer.usage_chunk() if request.include_usage else b"") + DONE
                if chunks:
                    yield chunks
            elif done:
                yield writer.body()
        now = time.monotonic()
        for one in generations:
            self.core.metrics.note_finished(one, now, one.ending.reason)

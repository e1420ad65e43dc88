"""What every raw POST path goes through: limits, the body, errors, and the watch for its client."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from kvroute.frontend.errors import ApiError, internal_error, overloaded
from kvroute.frontend.exchange import ClientGoneError, Exchange, Receive, Scope, Send
from kvroute.frontend.fleet import Fleet
from kvroute.frontend.model_group import ModelGroup
from kvroute.frontend.prompts import PromptRequest, TokenIds
from kvroute.frontend.protocols import Phase
from kvroute.frontend.settings import Settings

logger = logging.getLogger("kvroute.frontend")


@dataclass(slots=True)
class Job:
    """One request that was read, and what is known of it until its answer has begun."""

    exchange: Exchange
    body: bytes
    request: PromptRequest
    group: ModelGroup
    started: float
    session_id: str | None = None
    prompts: list[TokenIds] = field(default_factory=list)
    phase: Phase = "whole"

    def drop_inputs(self) -> None:
        """Frees body and prompts: a long answer must not hold a long prompt."""
        self.body = b""
        self.prompts = []
        self.request.drop_prompt()


Parse = Callable[[bytes], PromptRequest]
Serve = Callable[[Job], Awaitable[None]]


class Intake:
    """Reads requests within the configured limits and answers what goes wrong with them."""

    def __init__(self, settings: Settings, fleet: Fleet) -> None:
        self._fleet = fleet
        self._metrics = fleet.metrics
        self._max_body = settings.max_body_bytes
        self._max_running = settings.max_concurrent_requests
        self._client_timeout = settings.client_timeout_seconds
        self._session_key = settings.session_key
        self._running: set[Exchange] = set()

    async def __call__(
        self, scope: Scope, receive: Receive, send: Send, parse: Parse, serve: Serve
    ) -> None:
        """Reads one request with `parse` and has `serve` answer it; raises nothing but what
        cancels this task."""
        started = time.perf_counter()
        exchange = Exchange(scope, receive, send)
        self._running.add(exchange)
        try:
            if len(self._running) > self._max_running:
                raise overloaded(self._max_running)
            job = await self._read(exchange, parse, started)
            try:
                async with exchange:
                    await serve(job)
            except ClientGoneError:
                self._metrics.client_gone.labels(job.group.name).inc()
        except ClientGoneError:
            pass
        except ApiError as error:
            await self._reject(exchange, error)
        except Exception:
            logger.exception("request %s", exchange.request_id)
            if not exchange.started:
                await self._reject(exchange, internal_error())
        finally:
            self._running.discard(exchange)

    async def _read(self, exchange: Exchange, parse: Parse, started: float) -> Job:
        body = await exchange.read_body(self._max_body)
        request = parse(body)
        session_id = None
        if self._session_key is not None:
            session_id = exchange.header(self._session_key) or request.text(self._session_key)
        return Job(exchange, body, request, self._fleet.group(request.model), started, session_id)

    async def expire_clients(self) -> None:
        """Runs until cancelled: leaves clients that neither send nor read for too long."""
        while True:
            await asyncio.sleep(self._client_timeout / 8)
            before = time.monotonic() - self._client_timeout
            for exchange in list(self._running):
                exchange.expire(before)

    async def _reject(self, exchange: Exchange, error: ApiError) -> None:
        self._metrics.rejected.labels(str(error.status)).inc()
        await exchange.send_error(error)

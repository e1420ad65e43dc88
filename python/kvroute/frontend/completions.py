"""The hot paths: POST /v1/completions and /v1/chat/completions, as raw ASGI.

An ordinary FastAPI handler would cost two to three times as much and would not notice a client
that leaves while its prompt is computed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from kvroute.frontend.errors import (
    ApiError,
    engine_failed,
    engine_timed_out,
    internal_error,
    no_backend,
    overloaded,
)
from kvroute.frontend.exchange import ClientGoneError, Exchange, Receive, Scope, Send
from kvroute.frontend.fleet import Booking, Fleet, ModelGroup
from kvroute.frontend.prompts import PromptRequest, parse_chat, parse_completion
from kvroute.frontend.settings import Settings
from kvroute.frontend.token_source import TokenSource
from kvroute.frontend.upstream import (
    Headers,
    Upstream,
    UpstreamError,
    UpstreamResponse,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)

logger = logging.getLogger("kvroute.frontend")

Parser = Callable[[bytes], PromptRequest]
PARSERS: dict[str, Parser] = {
    "/v1/completions": parse_completion,
    "/v1/chat/completions": parse_chat,
}


class Completions:
    """Routes, forwards and streams completions. Every path releases what it booked."""

    def __init__(
        self, settings: Settings, fleet: Fleet, tokens: TokenSource, upstream: Upstream
    ) -> None:
        self._fleet = fleet
        self._metrics = fleet.metrics
        self._tokens = tokens
        self._upstream = upstream
        self._max_body = settings.max_body_bytes
        self._max_running = settings.max_concurrent_requests
        self._reroutes = settings.max_instance_failover_reroute_attempts
        self._client_timeout = settings.client_timeout_seconds
        self._running: set[Exchange] = set()

    async def __call__(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request; `path` is a key of PARSERS."""
        started = time.perf_counter()
        exchange = Exchange(scope, receive, send)
        self._running.add(exchange)
        try:
            if len(self._running) > self._max_running:
                raise overloaded(self._max_running)
            body = await exchange.read_body(self._max_body)
            request = PARSERS[path](body)
            group = self._fleet.group(request.model)
            try:
                async with exchange:
                    await self._serve(exchange, path, body, request, group, started)
            except ClientGoneError:
                self._metrics.client_gone.labels(group.name).inc()
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

    async def _serve(
        self,
        exchange: Exchange,
        path: str,
        body: bytes,
        request: PromptRequest,
        group: ModelGroup,
        started: float,
    ) -> None:
        prompts = await self._tokens.token_ids(group, request, headers=exchange.authorization())
        headers = exchange.forwarded_headers()
        failed: set[str] = set()
        last_error: UpstreamError | None = None
        for attempt in range(self._reroutes + 1):
            if len(failed) == len(group.backends):
                break
            if attempt:
                self._metrics.reroutes.labels(group.name).inc()
            booking = self._book(group, prompts, request, exchange.request_id, failed)
            try:
                await self._forward(exchange, booking, group, path, headers, body, started)
                return
            except UpstreamError as error:
                _count_failure(booking, error)
                logger.warning("request %s: %s", exchange.request_id, error)
                if exchange.started:
                    return  # the connection ends without the answer's end: the client sees it
                last_error = error
                failed.add(booking.backend.url)
                if isinstance(error, UpstreamUnreachableError):
                    group.failed(booking.backend)
            finally:
                booking.release()
        raise _gateway_error(last_error, len(failed))

    def _book(
        self,
        group: ModelGroup,
        prompts: list[list[int]],
        request: PromptRequest,
        request_id: str,
        failed: set[str],
    ) -> Booking:
        from_time = time.perf_counter()
        booking = group.reserve(
            prompts,
            request.copies,
            request_id=request_id,
            salt=request.salt,
            expected_output_tokens=request.max_output_tokens,
            excluded=failed,
        )
        self._metrics.decision_time.labels(group.name).observe(time.perf_counter() - from_time)
        metrics = booking.backend.metrics
        metrics.requests.inc()
        if prompts[0]:
            metrics.prompt_tokens.inc(len(prompts[0]))
            metrics.overlap_tokens.inc(booking.choice.cached_tokens)
        return booking

    async def _forward(
        self,
        exchange: Exchange,
        booking: Booking,
        group: ModelGroup,
        path: str,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
        started: float,
    ) -> None:
        """Sends the request to the booked worker and its answer to the client.

        Nothing goes to the client before the first byte of the body has come, so that a worker
        which dies while it computes the prompt can still be replaced.
        """
        backend, choice = booking.backend, booking.choice
        if backend.dp_ranks > 1:
            headers = [h for h in headers if h[0] != b"x-data-parallel-rank"]
            headers.append((b"x-data-parallel-rank", b"%d" % choice.dp_rank))
        response = await self._upstream.request("POST", backend.url + path, headers, body)
        try:
            chunk = await response.read_chunk()
            booking.first_token()
            group.answered(backend)
            backend.metrics.time_to_first_byte.observe(time.perf_counter() - started)
            if response.status >= 500:
                backend.metrics.failure("status_5xx")
            await exchange.start(response.status, response.headers, _route_headers(booking))
            await _relay(exchange, booking, response, chunk)
        finally:
            response.close()


async def _relay(
    exchange: Exchange, booking: Booking, response: UpstreamResponse, chunk: bytes
) -> None:
    events = _is_event_stream(response.headers)
    output_tokens = 0
    last = chunk
    try:
        while chunk:
            await exchange.send_chunk(chunk)
            if events:
                output_tokens += chunk.count(b"\n\n")
                booking.progress(output_tokens)
            last = chunk
            chunk = await response.read_chunk()
    except UpstreamError:
        if events and last.endswith(b"\n\n"):
            error = engine_failed("the engine's answer broke off")
            await exchange.send_chunk(b"data: " + error.body() + b"\n\n")
        raise
    await exchange.finish()


def _route_headers(booking: Booking) -> Headers:
    choice = booking.choice
    return (
        (b"x-kvroute-worker", booking.backend.url.encode()),
        (b"x-kvroute-dp-rank", b"%d" % choice.dp_rank),
        (b"x-kvroute-cached-tokens", b"%d" % choice.cached_tokens),
    )


def _is_event_stream(headers: Headers) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(b"text/event-stream")
        for name, value in headers
    )


def _count_failure(booking: Booking, error: UpstreamError) -> None:
    if isinstance(error, UpstreamUnreachableError):
        reason = "unreachable"
    elif isinstance(error, UpstreamTimeoutError):
        reason = "timeout"
    else:
        reason = "broken"
    booking.backend.metrics.failure(reason)


def _gateway_error(error: UpstreamError | None, tried: int) -> ApiError:
    message = f"{tried} of the engines tried did not answer; the last: {error}"
    if isinstance(error, UpstreamTimeoutError):
        return engine_timed_out(message)
    if isinstance(error, UpstreamUnreachableError):
        return no_backend(message)
    return engine_failed(message)

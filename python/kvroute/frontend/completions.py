"""The hot paths: POST /v1/completions and /v1/chat/completions, as raw ASGI.

An ordinary FastAPI handler would cost two to three times as much and would not notice a client
that leaves while its prompt is computed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection

from kvroute.frontend.answer_tail import TAIL_BYTES, Tail, new_tail
from kvroute.frontend.booking import Booking
from kvroute.frontend.errors import connections_exhausted, engine_failed, gateway_error
from kvroute.frontend.exchange import Exchange
from kvroute.frontend.fleet import Fleet
from kvroute.frontend.intake import Job
from kvroute.frontend.protocols import Selection
from kvroute.frontend.settings import Settings
from kvroute.frontend.token_source import TokenSource
from kvroute.frontend.upstream import (
    Headers,
    Upstream,
    UpstreamBusyError,
    UpstreamError,
    UpstreamResponse,
    UpstreamUnreachableError,
    failure_reason,
    is_event_stream,
)
from kvroute.frontend.waiting import Admission
from kvroute.frontend.worker_watch import expected_of

logger = logging.getLogger("kvroute.frontend")


class Completions:
    """Routes, forwards and streams completions. Every path releases what it booked."""

    def __init__(
        self,
        settings: Settings,
        fleet: Fleet,
        tokens: TokenSource,
        admission: Admission,
        upstream: Upstream,
    ) -> None:
        self._metrics = fleet.metrics
        self._admission = admission
        self._tokens = tokens
        self._upstream = upstream
        self._reroutes = settings.max_instance_failover_reroute_attempts

    async def serve(self, path: str, job: Job) -> None:
        """Answers a request to `path` with a worker's answer. Raises ApiError if none gave one."""
        job.prompts = await self._tokens.token_ids(
            job.group, job.request, headers=job.exchange.authorization()
        )
        await self.answer(path, job)

    async def answer(
        self, path: str, job: Job, lost: Collection[str] = (), at: Selection | None = None
    ) -> None:
        """The same for a job whose prompts' tokens are there. The backends `lost` failed before,
        and get it only where there is no other one. It goes first where the choice `at` says."""
        exchange, group = job.exchange, job.group
        failed = set(lost) if len(lost) < group.count(job.phase) else set()
        last_error: UpstreamError | None = None
        for attempt in range(self._reroutes + 1):
            if failed and len(failed) == group.count(job.phase):
                break
            if attempt:
                self._metrics.reroutes.labels(group.name).inc()
            chosen = at if attempt == 0 else None
            booking = await self._admission.book(job, failed, job.phase, at=chosen)
            booking.backend.metrics.requests.inc()
            try:
                await self._forward(job, booking, path)
                return
            except UpstreamBusyError as error:
                raise connections_exhausted(str(error)) from error
            except UpstreamError as error:
                booking.backend.metrics.failure(failure_reason(error))
                logger.warning("request %s: %s", exchange.request_id, error)
                if exchange.started:
                    return  # the connection ends without the answer's end: the client sees it
                last_error = error
                failed.add(booking.backend.url)
                if isinstance(error, UpstreamUnreachableError):
                    group.failed(booking.backend)
            finally:
                booking.release()
        reason = "none" if last_error is None else failure_reason(last_error)
        raise gateway_error(
            reason, f"{len(failed)} of the engines tried did not answer; the last: {last_error}"
        )

    async def _forward(self, job: Job, booking: Booking, path: str) -> None:
        """Sends the request to the booked worker and its answer to the client.

        Nothing goes to the client before the first byte of the body has come, so that a worker
        which dies while it computes the prompt can still be replaced.
        """
        backend, choice, exchange = booking.backend, booking.choice, job.exchange
        headers = exchange.forwarded_headers()
        if backend.dp_ranks > 1:
            headers = [h for h in headers if h[0] != b"x-data-parallel-rank"]
            headers.append((b"x-data-parallel-rank", b"%d" % choice.dp_rank))
        response = await self._upstream.request("POST", backend.url + path, headers, job.body)
        try:
            chunk = await response.read_chunk()
            events = is_event_stream(response.headers)
            if response.status < 400:
                job.group.answered(backend)
                backend.metrics.time_to_first_byte.observe(time.perf_counter() - job.started)
                if events:
                    # Only here is the first byte the first token: a whole answer comes when all of
                    # it was generated, an error when nothing was.
                    booking.first_token()
            elif response.status >= 500:
                backend.metrics.failure("status_5xx")
                if response.status != 501:  # that one is about the request
                    job.group.failed(backend)
            await exchange.start(response.status, response.headers, _route_headers(booking))
            expected = expected_of(job.request, job.prompts, choice)
            if exchange.started:
                job.drop_inputs()
            tail = new_tail()
            await _relay(exchange, booking, response, chunk, tail, events=events)
            if expected is not None and response.status == 200:
                backend.watch.answered(expected, tail, job.group.router)
        finally:
            response.close()


async def _relay(
    exchange: Exchange,
    booking: Booking,
    response: UpstreamResponse,
    chunk: bytes,
    tail: Tail,
    *,
    events: bool,
) -> None:
    output_tokens = 0
    last = chunk
    try:
        while chunk:
            await exchange.send_chunk(chunk)
            if events:
                output_tokens += chunk.count(b"\n\n")
                booking.progress(output_tokens)
            last = chunk
            tail.append(chunk[-TAIL_BYTES:])
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

"""One attempt to serve a request in two legs: what is sent when, and who hears of a failure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from kvroute.disagg.connector import AnswerRelay, HandoffError, Transfer
from kvroute.frontend.errors import engine_failed
from kvroute.frontend.exchange import Exchange
from kvroute.frontend.legs import Leg, LegFailedError, WholeAnswer, document_of
from kvroute.frontend.upstream import Headers, UpstreamError, UpstreamResponse, is_event_stream

_MAX_WHOLE_ANSWER = 64 << 20
_EVENT_END = b"\n\n"


class Handover:
    """Both legs of one attempt. `run` ends with the client's answer sent, or raises.

    Whatever ends it (an answer, a failure of either leg, the client's leaving, which cancels), no
    leg goes on: each connection that is still open is closed, which ends that engine's request.
    """

    def __init__(
        self,
        exchange: Exchange,
        transfer: Transfer,
        prefill: Leg,
        decode: Leg,
        *,
        prefill_timeout: float,
        answer_headers: Headers,
        began: Callable[[int], None],
    ) -> None:
        """`answer_headers` go to the client besides the engine's; `began` is called with the status
        when the answer's first byte is there."""
        self._exchange = exchange
        self._transfer = transfer
        self._prefill = prefill
        self._decode = decode
        self._prefill_timeout = prefill_timeout
        self._answer_headers = answer_headers
        self._began = began

    async def run_sequential(self) -> None:
        """Prefill, then decode. Raises LegFailedError (another attempt may do better, unless the
        client's answer has begun), UpstreamBusyError, ApiError."""
        transfer = self._transfer
        with _FailureOf(self._prefill):
            await transfer.prepare()
            answer = await self._prefill.ask(transfer.prefill(), self._prefill_timeout)
        if answer.status >= 400:  # it is about the request: no other engine would say otherwise
            await self._pass_on(answer)
            return
        self._prefill.booking.first_token()
        with _FailureOf(self._prefill):
            transfer.prefilled(document_of(self._prefill, answer))
            finished = transfer.finished()
        if finished is not None:
            self._prefill.booking.release()
            await self._give_finished(answer, finished)
            return
        relay = transfer.relay()
        await self._send_head(relay)
        with _FailureOf(self._prefill):
            await transfer.ready()
        response = await self._decode.send(transfer.decode())
        try:
            await self._relay(response, relay, self._prefill.booking.release)
        finally:
            response.close()

    async def run_concurrent(self) -> None:
        """Both legs at once; the decode leg's answer is the client's. Raises as above."""
        transfer = self._transfer
        with _FailureOf(self._prefill):
            await transfer.prepare()
        prefill = asyncio.ensure_future(self._run_prefill_beside())
        decode = asyncio.ensure_future(self._decode.send(transfer.decode()))
        try:
            response = await _first_failure_or(decode, prefill)
            try:
                await self._relay(response, transfer.relay(), _nothing, beside=prefill)
            finally:
                response.close()
        finally:
            # The decode leg first: an engine that waits for a prefill that was ended may hang.
            await _end(decode, lambda response: response.close())
            await _end(prefill, lambda _: None)

    async def _run_prefill_beside(self) -> None:
        answer = await self._prefill.ask(self._transfer.prefill(), self._prefill_timeout)
        if answer.status >= 400:
            text = answer.body[:200].decode(errors="replace")
            raise self._prefill.broken(f"it answered {answer.status}: {text}")
        self._prefill.booking.first_token()
        self._prefill.booking.release()

    async def _send_head(self, relay: AnswerRelay) -> None:
        """What a streaming client gets before the decode leg has answered."""
        head = relay.head()
        if not head:
            return
        self._began(200)
        self._decode.booking.first_token()
        await self._exchange.start(200, _STREAM_HEADERS, self._answer_headers)
        await self._exchange.send_chunk(head)

    async def _relay(
        self,
        response: UpstreamResponse,
        relay: AnswerRelay,
        transferred: Callable[[], None],
        beside: asyncio.Future[None] | None = None,
    ) -> None:
        """The decode leg's answer to the client. `transferred` is called when it has begun."""
        exchange, decode = self._exchange, self._decode
        chunk = await _first_chunk(decode, response, beside)
        transferred()
        streamed = is_event_stream(response.headers)
        if response.status >= 400 or (relay.is_identity and not streamed):
            await self._forward(response, chunk)
            return
        if not streamed:
            body = chunk + await decode.read_to_end(response, _MAX_WHOLE_ANSWER)
            self._began(response.status)
            await exchange.start(
                response.status, _without_length(response.headers), self._answer_headers
            )
            await exchange.send_chunk(relay.whole(body))
            await exchange.finish()
            return
        if not exchange.started:
            self._began(response.status)
            decode.booking.first_token()
            await exchange.start(response.status, response.headers, self._answer_headers)
        await self._stream(response, relay, chunk)

    async def _stream(self, response: UpstreamResponse, relay: AnswerRelay, chunk: bytes) -> None:
        exchange, decode = self._exchange, self._decode
        tokens = 0
        rest = b""
        try:
            while chunk:
                if relay.is_identity:
                    events, rest = chunk, b"" if chunk.endswith(_EVENT_END) else chunk
                else:
                    events, rest = _whole_events(rest + chunk)
                    events = relay.chunk(events) if events else b""
                if events:
                    tokens += events.count(_EVENT_END)
                    decode.booking.progress(tokens)
                    await exchange.send_chunk(events)
                chunk = await response.read_chunk()
        except UpstreamError as error:
            if not (relay.is_identity and rest):  # else the client is in the middle of an event
                fault = engine_failed("the engine's answer broke off")
                await exchange.send_chunk(b"data: " + fault.body() + _EVENT_END)
            raise decode.failed(error) from error
        await exchange.finish()

    async def _forward(self, response: UpstreamResponse, chunk: bytes) -> None:
        """An answer as it is: an error about the request, or one that needs no change."""
        self._began(response.status)
        await self._exchange.start(response.status, response.headers, self._answer_headers)
        try:
            while chunk:
                await self._exchange.send_chunk(chunk)
                chunk = await response.read_chunk()
        except UpstreamError as error:
            raise self._decode.failed(error) from error
        await self._exchange.finish()

    async def _pass_on(self, answer: WholeAnswer) -> None:
        self._began(answer.status)
        await self._exchange.start(
            answer.status, _without_length(answer.headers), self._answer_headers
        )
        await self._exchange.send_chunk(answer.body)
        await self._exchange.finish()

    async def _give_finished(self, answer: WholeAnswer, body: bytes) -> None:
        self._began(200)
        is_stream = body.startswith(b"data:")
        headers = _STREAM_HEADERS if is_stream else _without_length(answer.headers)
        await self._exchange.start(200, headers, self._answer_headers)
        await self._exchange.send_chunk(body)
        await self._exchange.finish()


_STREAM_HEADERS: Headers = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
)


class _FailureOf:
    """Turns a connector's HandoffError into the leg's failure."""

    def __init__(self, leg: Leg) -> None:
        self._leg = leg

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, HandoffError):
            reason = "timeout" if error.timed_out else "protocol"
            raise LegFailedError(self._leg.name, reason, str(error)) from error


async def _first_failure_or(
    wanted: asyncio.Future[UpstreamResponse], beside: asyncio.Future[None]
) -> UpstreamResponse:
    """The result of `wanted`; what `beside` fails with, if that comes first."""
    both: set[asyncio.Future[Any]] = {wanted, beside}
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    if not wanted.done():
        beside.result()  # raises what it failed with
        await asyncio.wait({wanted})
    return wanted.result()


async def _first_chunk(
    decode: Leg, response: UpstreamResponse, beside: asyncio.Future[None] | None
) -> bytes:
    reading = asyncio.ensure_future(_read(decode, response))
    try:
        if beside is None or beside.done():
            return await reading
        both: set[asyncio.Future[Any]] = {reading, beside}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not reading.done():
            beside.result()
        return await reading
    finally:
        await _end(reading, lambda _: None)


async def _read(leg: Leg, response: UpstreamResponse) -> bytes:
    try:
        return await response.read_chunk()
    except UpstreamError as error:
        raise leg.failed(error) from error


async def _end(task: asyncio.Future[Any], undo: Callable[[Any], None]) -> None:
    """Cancels the task if it still runs, and waits for its end; `undo` gets a result it had."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled() and task.exception() is None:
        undo(task.result())


def _whole_events(data: bytes) -> tuple[bytes, bytes]:
    """Server-sent events up to the last that is whole, and the rest."""
    end = data.rfind(_EVENT_END)
    return (b"", data) if end < 0 else (data[: end + 2], data[end + 2 :])


def _without_length(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in headers if name.lower() != b"content-length"]


def _nothing() -> None:
    pass

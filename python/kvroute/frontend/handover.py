"""One attempt to serve a request in two legs: what is sent when, and who hears of a failure."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace

import orjson

from kvroute.disagg import sse
from kvroute.disagg.connector import AnswerRelay, HandoffError, Transfer
from kvroute.disagg.legs import RANK_HEADER, LegRequest
from kvroute.frontend.errors import ApiError, engine_failed
from kvroute.frontend.exchange import Exchange
from kvroute.frontend.first_answer import end, first_answer
from kvroute.frontend.legs import Begun, Leg, LegFailedError, RefusedError, WholeAnswer, document_of
from kvroute.frontend.upstream import Headers, UpstreamBusyError, is_event_stream

logger = logging.getLogger("kvroute.frontend")

_MAX_WHOLE_ANSWER = 64 << 20
_PREFILL_ENDS = 1.0
"""Seconds for a prefill leg to end by itself once the decode leg has: its blocks were read."""


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
        may_go_whole: bool,
        began: Callable[[int], None],
        settled: Callable[[], None],
    ) -> None:
        """`answer_headers` go to the client besides the engine's; `began` is called with the status
        when the answer's first byte is there, `settled` when no other attempt can follow any more:
        what was kept for one may go."""
        self._exchange = exchange
        self._open: Transfer | None = transfer
        self._prefill = prefill
        self._decode = decode
        self._prefill_timeout = prefill_timeout
        self._answer_headers = answer_headers
        self._may_go_whole = may_go_whole
        self._began = began
        self._settled = settled
        self._headed: AnswerRelay | None = None
        """The relay whose head the client has, while it has nothing else."""
        self._rest: LegRequest | None = None
        """What goes on after the head."""

    @property
    def _transfer(self) -> Transfer:
        assert self._open is not None, "the answer has begun"
        return self._open

    async def run(self, *, concurrent: bool) -> None:
        """Both legs, at once or prefill first.

        Raises LegFailedError (another attempt may do better, unless the client's answer has begun),
        RefusedError if it `may_go_whole`, and UpstreamBusyError. Once a stream has begun, the
        client gets an error event and the stream's end before that, unless the failure's `resume`
        can still give it the rest.
        """
        try:
            with FailureOf(self._prefill):
                await self._transfer.prepare()
            await (self._run_concurrent() if concurrent else self._run_sequential())
        except (LegFailedError, UpstreamBusyError) as error:
            await self._note(error)
            self._close_transfer(failed=isinstance(error, LegFailedError))
            raise
        finally:
            self._close_transfer()

    def _close_transfer(self, *, failed: bool = False) -> None:
        transfer, self._open = self._open, None
        if transfer is None:
            return
        try:
            if failed:
                transfer.failed()
            transfer.close()
        except Exception:  # the answer is not its affair any more
            logger.exception("the connector failed")

    async def _note(self, error: LegFailedError | UpstreamBusyError) -> None:
        """Lets another leg give the rest where that can be, else ends a stream that broke off."""
        if self._headed is not None and isinstance(error, LegFailedError):
            with contextlib.suppress(LegFailedError):
                self._rest = self._rest or self._decode_request()
                error.resume = self._resume
                return
        if self._exchange.started:
            await self._exchange.end_with_error(engine_failed("the engine's answer broke off"))

    async def _resume(self, decode: Leg) -> None:
        """Gives the client what comes after the head. Raises as `run`."""
        assert self._rest is not None
        assert self._headed is not None
        self._decode = decode
        headers = [header for header in self._rest.headers if header[0] != RANK_HEADER]
        if decode.booking.backend.dp_ranks > 1:
            headers.append((RANK_HEADER, b"%d" % decode.booking.choice.dp_rank))
        try:
            await self._run_decode(replace(self._rest, headers=headers), self._headed)
        except (LegFailedError, UpstreamBusyError) as error:
            await self._note(error)
            raise

    async def _run_sequential(self) -> None:
        prefill = self._prefill
        answer = await prefill.ask(self._prefill_request(), self._prefill_timeout)
        if answer.status >= 400:
            await self._refused(answer)
            return
        prefill.booking.first_token()
        document = document_of(prefill, answer)
        with FailureOf(prefill):
            self._transfer.prefilled(document)
            finished = self._transfer.finished()
        if finished is not None:
            prefill.booking.release()
            is_stream = finished.startswith(b"data:")
            headers = _STREAM_HEADERS if is_stream else answer.headers
            await self._give(WholeAnswer(200, headers, finished))
            return
        with FailureOf(prefill):
            relay = self._transfer.relay()
            head = relay.head()
        if head:
            await self._send_head(head, relay)
        with FailureOf(prefill):
            await self._transfer.ready()
        await self._run_decode(self._decode_request(), relay)

    def _prefill_request(self) -> LegRequest:
        with FailureOf(self._prefill):
            return self._transfer.prefill()

    def _decode_request(self) -> LegRequest:
        with FailureOf(self._decode):
            return self._transfer.decode()

    async def _refused(self, answer: WholeAnswer) -> None:
        """The prefill leg asks for other things than the client: one token, of which a tool call
        cannot be made, say. Whether the request itself is wrong, another engine says of it whole;
        where none can, this is the answer."""
        if self._may_go_whole:
            raise RefusedError
        await self._give(answer)

    async def _run_decode(self, request: LegRequest, relay: AnswerRelay) -> None:
        begun = await self._decode.begin(request)
        del request  # large
        try:
            self._prefill.booking.release()
            await self._relay(begun, relay)
        finally:
            begun.response.close()

    async def _run_concurrent(self) -> None:
        # Both are there before either leg is under way, so that neither is left alone.
        asked, request = self._prefill_request(), self._decode_request()
        prefill = asyncio.ensure_future(self._prefill_beside(asked))
        decode = asyncio.ensure_future(self._decode.begin(request))
        del asked, request  # large
        try:
            first = await first_answer(prefill, decode)
            if isinstance(first, WholeAnswer):
                await self._refused(first)
                return
            with FailureOf(self._decode):
                relay = self._transfer.relay()
            await self._relay(first, relay)
            self._decode.booking.release()
            await asyncio.wait({prefill}, timeout=_PREFILL_ENDS)
        finally:
            # The decode leg first: an engine that waits for a prefill that was ended may hang.
            try:
                await end(decode, lambda begun: begun.response.close())
            finally:
                await end(prefill, lambda _: None)

    async def _prefill_beside(self, request: LegRequest) -> WholeAnswer:
        try:
            answer = await self._prefill.ask(request, self._prefill_timeout)
        except LegFailedError as error:
            # The task keeps it for as long as the decode leg streams without this one.
            del request
            raise error.without_frames() from None
        if answer.status < 400:
            self._prefill.booking.first_token()
            self._prefill.booking.release()
        return answer

    async def _send_head(self, head: bytes, relay: AnswerRelay) -> None:
        """What a streaming client gets before the decode leg has answered."""
        await self._start_stream(200, _STREAM_HEADERS)
        await self._exchange.send_chunk(head)
        self._headed = relay

    async def _relay(self, begun: Begun, relay: AnswerRelay) -> None:
        """The decode leg's answer to the client: a stream as it comes, any other one whole, so
        that until its end another attempt may still be made."""
        response, decode = begun.response, self._decode
        status = response.status
        if status >= 400 or not is_event_stream(response.headers):
            body = begun.first + await decode.read_to_end(response, _MAX_WHOLE_ANSWER)
            if self._headed is not None:
                if status < 400:
                    raise decode.broken("it answered with no stream")
                await self._exchange.end_with_error(_refusal(status, body))
                return
            if status < 400 and not relay.is_identity:
                with FailureOf(decode):
                    body = relay.whole(body)
            await self._give(WholeAnswer(status, response.headers, body))
            return
        if self._headed is None:
            await self._start_stream(status, response.headers)
        self._headed = self._rest = None
        self._close_transfer()
        self._settled()
        await self._stream(begun, relay)

    async def _stream(self, begun: Begun, relay: AnswerRelay) -> None:
        """Whole events only: what comes after a failure is not in the middle of one."""
        exchange, decode = self._exchange, self._decode
        splitter = sse.EventSplitter()
        tokens = 0
        chunk = begun.first
        while chunk:
            try:
                events = splitter.feed(chunk)
            except sse.EventTooLongError as error:
                raise decode.broken(str(error)) from error
            if events:
                tokens += events.count(b"\n\n")
                decode.booking.progress(tokens)
                await self._send_events(relay, events)
            chunk = await decode.read(begun.response)
        await self._send_events(relay, splitter.rest())
        await exchange.finish()

    async def _send_events(self, relay: AnswerRelay, events: bytes) -> None:
        if events and not relay.is_identity:
            with FailureOf(self._decode):
                events = relay.chunk(events)
        if events:
            await self._exchange.send_chunk(events)

    async def _start_stream(self, status: int, headers: Headers) -> None:
        self._began(status)
        self._decode.booking.first_token()
        await self._exchange.start(status, headers, self._answer_headers)

    async def _give(self, answer: WholeAnswer) -> None:
        self._began(answer.status)
        kept = [(n, v) for n, v in answer.headers if n.lower() != b"content-length"]
        if not is_event_stream(kept):
            kept.append((b"content-length", b"%d" % len(answer.body)))
        await self._exchange.start(answer.status, kept, self._answer_headers)
        await self._exchange.send_chunk(answer.body)
        await self._exchange.finish()


_STREAM_HEADERS: Headers = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
)


def _refusal(status: int, body: bytes) -> ApiError:
    """The error that an engine answered, for a client whose answer has begun."""
    try:
        error = orjson.loads(body)["error"]
        return ApiError(
            status, str(error["message"]), kind=str(error["type"]), param=error.get("param")
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        text = body[:200].decode(errors="replace")
        return ApiError(status, text, kind="invalid_request_error")


class FailureOf:
    """Turns whatever a connector raises into the failure of the leg, or of the one that a
    HandoffError names: an engine's answer may be of any shape, and a connector anybody's."""

    def __init__(self, leg: Leg) -> None:
        self._leg = leg

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, HandoffError):
            reason = "timeout" if error.timed_out else "protocol"
            raise LegFailedError(error.leg or self._leg.name, reason, str(error)) from error
        if isinstance(error, Exception):
            logger.warning("the connector failed", exc_info=error)
            message = f"the connector failed on this leg ({type(error).__name__})"
            raise self._leg.broken(message) from error

"""The two legs of a disaggregated request as HTTP: sending one, and what its failure is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from kvroute.deadline import within
from kvroute.disagg.legs import LegRequest
from kvroute.frontend.booking import Booking
from kvroute.frontend.upstream import (
    Headers,
    Upstream,
    UpstreamBusyError,
    UpstreamError,
    UpstreamResponse,
    failure_reason,
)

LegName = Literal["prefill", "decode"]

MAX_PREFILL_ANSWER = 16 << 20
"""Bytes of a prefill leg's answer: one token, its logprobs and the transfer's parameters."""


_NOT_NOW = (408, 429)


class LegFailedError(Exception):
    """One leg of this attempt failed, and another worker may do better.

    Attributes:
        reason: unreachable, timeout, broken, status_5xx, busy (408, 429), protocol.
        status: the worker's where that is the failure.
        retry_after: the seconds in its Retry-After.
        had_begun: the head of a good answer had come.
        was_silent: the connection ended before a byte of the answer had come: it may have been an
            old one that the worker had just closed.
        also: the other leg's failure, where both failed at once.
        resume: where the client has the prefill leg's token and nothing else: gives it the rest,
            from a decode leg on another worker, which computes what it does not hold.
    """

    def __init__(
        self, leg: LegName, reason: str, message: str, *, was_silent: bool = False
    ) -> None:
        super().__init__(message)
        self.leg = leg
        self.reason = reason
        self.was_silent = was_silent
        self.status: int | None = None
        self.retry_after: float | None = None
        self.had_begun = False
        self.also: LegFailedError | None = None
        self.resume: Callable[[Leg], Awaitable[None]] | None = None

    def without_frames(self) -> LegFailedError:
        """Itself, no longer holding what the attempt had in hand: it may outlive that by far."""
        self.__traceback__ = self.__cause__ = self.__context__ = None
        return self


@dataclass(frozen=True, slots=True)
class WholeAnswer:
    """An answer read to its end."""

    status: int
    headers: Headers
    body: bytes


class RefusedError(Exception):
    """The prefill worker refuses its leg (4xx, 501). That is not the client's request: asked for
    whole, it may be fine."""


@dataclass(frozen=True, slots=True)
class Begun:
    """An answer whose body has begun, with what has come of it. Its response is to be closed."""

    response: UpstreamResponse
    first: bytes


class Leg:
    """One leg on the worker that is booked for it.

    A leg is sent once: under most protocols it has a name that an engine takes only once, so that
    another try needs a whole new attempt.
    """

    def __init__(self, name: LegName, booking: Booking, upstream: Upstream) -> None:
        self.name = name
        self.booking = booking
        self._upstream = upstream
        self._has_begun = False

    async def send(self, request: LegRequest) -> UpstreamResponse:
        """The head of the worker's answer, unless its status says that another worker may do
        better: a 5xx but 501, which is about the request; 408, 429. Raises LegFailedError, and
        UpstreamBusyError where it is our own connections that are short."""
        backend = self.booking.backend
        backend.metrics.requests.inc()
        try:
            response = await self._upstream.request(
                "POST", backend.url + request.path, request.headers, request.body, resend=False
            )
        except UpstreamBusyError:
            raise
        except UpstreamError as error:
            raise self.failed(error) from error
        status = response.status
        if status in _NOT_NOW or (status >= 500 and status != 501):
            response.close()
            reason = "busy" if status in _NOT_NOW else "status_5xx"
            failure = self._counted(reason, f"{backend.url} answered {status}")
            failure.status, failure.retry_after = status, _retry_after(response.headers)
            raise failure
        self._has_begun = status < 400
        return response

    async def begin(self, request: LegRequest) -> Begun:
        """The worker's answer when its body begins. Raises as `send`."""
        response = await self.send(request)
        try:
            return Begun(response, await self.read(response))
        except BaseException:
            response.close()
            raise

    async def ask(self, request: LegRequest, timeout: float) -> WholeAnswer:
        """The worker's answer, whole, within `timeout` seconds. Raises as `send`."""
        try:
            return await within(timeout, self._ask(request))
        except asyncio.TimeoutError as error:
            message = f"{self.booking.backend.url}: no answer within {timeout:g} s"
            raise self._counted("timeout", message) from error

    async def _ask(self, request: LegRequest) -> WholeAnswer:
        response = await self.send(request)
        try:
            body = await self.read_to_end(response)
        finally:
            response.close()
        return WholeAnswer(response.status, response.headers, body)

    async def read_to_end(
        self, response: UpstreamResponse, limit: int = MAX_PREFILL_ANSWER
    ) -> bytes:
        """Raises LegFailedError, also above `limit` bytes."""
        chunks: list[bytes] = []
        size = 0
        while chunk := await self.read(response):
            size += len(chunk)
            if size > limit:
                raise self.broken(f"an answer above {limit} bytes")
            chunks.append(chunk)
        return b"".join(chunks)

    async def read(self, response: UpstreamResponse) -> bytes:
        """More of the answer, b"" at its end. Raises LegFailedError."""
        try:
            return await response.read_chunk()
        except UpstreamError as error:
            raise self.failed(error) from error

    def failed(self, error: UpstreamError) -> LegFailedError:
        """The failure that an error of the client to the engines is, counted."""
        reason = failure_reason(error)
        was_silent = reason == "broken" and not error.answered
        return self._counted(reason, str(error), was_silent=was_silent)

    def broken(self, message: str) -> LegFailedError:
        """The worker answered, and not as the protocol says; counted."""
        self.booking.backend.metrics.failure("broken")
        return self._error("protocol", f"{self.booking.backend.url}: {message}")

    def _counted(self, reason: str, message: str, *, was_silent: bool = False) -> LegFailedError:
        self.booking.backend.metrics.failure(reason)
        return self._error(reason, message, was_silent=was_silent)

    def _error(self, reason: str, message: str, *, was_silent: bool = False) -> LegFailedError:
        error = LegFailedError(self.name, reason, message, was_silent=was_silent)
        error.had_begun = self._has_begun
        return error


def _retry_after(headers: Headers) -> float | None:
    """The seconds of the header of that name; None without it, and for a date."""
    for name, value in headers:
        if name.lower() == b"retry-after" and value.isdigit() and len(value) < 10:
            return float(value)
    return None


def document_of(leg: Leg, answer: WholeAnswer) -> dict[str, Any]:
    """The JSON object of an answer. Raises LegFailedError for anything else."""
    try:
        document = orjson.loads(answer.body)
    except orjson.JSONDecodeError as error:
        raise leg.broken(f"expected a JSON object, got {error}") from error
    if not isinstance(document, dict):
        raise leg.broken("expected a JSON object")
    return document

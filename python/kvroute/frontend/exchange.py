"""One HTTP exchange with a client over raw ASGI."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from kvroute.frontend.errors import ApiError, engine_failed, too_large, too_slow
from kvroute.frontend.upstream import Headers

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
_NOT_FORWARDED = _HOP_BY_HOP | {b"host", b"content-length", b"expect", b"x-request-id"}
_NOT_RETURNED = _HOP_BY_HOP | {b"date", b"server", b"x-request-id"}
_MAX_REQUEST_ID = 256
_MAX_HELD_BYTES = 64 << 20


class ClientGoneError(Exception):
    """The client left before it had its answer."""


class Exchange:
    """Reading of the request and writing of the answer.

    While it is entered (`async with`), the client is watched: when it leaves, the task that
    entered is cancelled, which ends whatever it waits for, and `ClientGoneError` comes out of the
    block. The same happens to a client that neither sends nor reads: see `expire`.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._headers: Headers = scope["headers"]
        # HTTP/1.0 knows no chunks: such a client gets its answer whole.
        self._whole = scope.get("http_version") == "1.0"
        self._held: list[bytes] = []
        self._held_size = 0
        self._held_start: Message | None = None
        self._finished = False
        self._client_gone = False
        self._expired = False
        self._waiting_since = 0.0
        self._task = asyncio.current_task()
        self._watch: asyncio.Task[None] | None = None
        self.started = False
        """Whether any of the answer was sent."""
        self.request_id = _request_id(self._headers)

    def forwarded_headers(self) -> list[tuple[bytes, bytes]]:
        """The client's headers as an engine may see them, with the request's id."""
        dropped = _dropped(self._headers, _NOT_FORWARDED)
        headers = [(name, value) for name, value in self._headers if name.lower() not in dropped]
        headers.append((b"x-request-id", self.request_id.encode()))
        return headers

    def authorization(self) -> list[tuple[bytes, bytes]]:
        """The client's Authorization header alone, if there is one."""
        return [(n, v) for n, v in self._headers if n.lower() == b"authorization"]

    def header(self, name: str) -> str | None:
        """The first of the client's headers of this name, in any case."""
        wanted = name.lower().encode("latin-1", "replace")
        return next((v.decode("latin-1") for n, v in self._headers if n.lower() == wanted), None)

    async def read_body(self, limit: int) -> bytes:
        """The whole body. ApiError 413 above `limit` bytes, 408 if it expired; ClientGoneError."""
        declared = next((v for n, v in self._headers if n == b"content-length"), None)
        if declared is not None and declared.isdigit() and int(declared) > limit:
            raise too_large("the body is", limit, 413)
        try:
            return await self._read_to_end(limit)
        except asyncio.CancelledError:
            if not self._expired:
                raise
            _uncancel()
            raise too_slow() from None
        finally:
            self._waiting_since = 0.0

    async def _read_to_end(self, limit: int) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while True:
            self._waiting_since = time.monotonic()
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > limit:
                raise too_large("the body is", limit, 413)
            chunks.append(chunk)
            if not message.get("more_body", False):
                return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def start(self, status: int, headers: Headers, extra: Headers) -> None:
        """Sends the head: an engine's headers, with `extra` in place of those of the same name."""
        names = _dropped(headers, _NOT_RETURNED) | {name for name, _ in extra}
        lowered = [(name.lower(), value) for name, value in headers]
        kept = [(name, value) for name, value in lowered if name not in names]
        kept.extend(extra)
        kept.append((b"x-request-id", self.request_id.encode()))
        message: Message = {"type": "http.response.start", "status": status, "headers": kept}
        if self._client_gone:
            raise ClientGoneError
        if self._whole and not any(name == b"content-length" for name, _ in kept):
            self._held_start, self._held, self._held_size = message, [], 0
        else:
            self.started = True
            await self._deliver(message)

    async def send_chunk(self, chunk: bytes) -> None:
        """Sends a part of the body; waits while the client reads slowly."""
        if self._client_gone:
            raise ClientGoneError
        if self._held_start is None:
            await self._deliver({"type": "http.response.body", "body": chunk, "more_body": True})
            return
        self._held.append(chunk)
        self._held_size += len(chunk)
        if self._held_size > _MAX_HELD_BYTES:
            raise engine_failed(f"an answer above {_MAX_HELD_BYTES} bytes needs HTTP/1.1")

    async def finish(self) -> None:
        """Ends the answer."""
        self._finished = True
        body = b""
        if self._held_start is not None:
            body = b"".join(self._held)
            self._held_start["headers"].append((b"content-length", b"%d" % len(body)))
            self.started = True
            await self._deliver(self._held_start)
        await self._deliver({"type": "http.response.body", "body": body, "more_body": False})

    async def end_with_error(self, error: ApiError) -> None:
        """Ends a stream of events, of which some were sent, with one of the error."""
        await self.send_chunk(b"data: " + error.body() + b"\n\n")
        await self.finish()

    async def _deliver(self, message: Message) -> None:
        self._waiting_since = time.monotonic()
        await self._send(message)
        self._waiting_since = 0.0

    async def send_error(self, error: ApiError) -> None:
        """Answers with an error of our own; possible as long as nothing was sent."""
        body = error.body()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
        ]
        if error.status in (413, 431):
            headers.append((b"connection", b"close"))
        if error.retry_after is not None:
            headers.append((b"retry-after", b"%d" % error.retry_after))
        headers.append((b"x-request-id", self.request_id.encode()))
        self.started = self._finished = True
        await self._send(
            {"type": "http.response.start", "status": error.status, "headers": headers}
        )
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    def expire(self, before: float) -> None:
        """Gives the client up if we have waited for it since before this time (monotonic)."""
        if 0.0 < self._waiting_since < before and not self._expired and self._task is not None:
            self._expired = True
            self._task.cancel()

    async def __aenter__(self) -> Exchange:
        self._watch = asyncio.get_running_loop().create_task(self._watch_client())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._watch is not None:
            self._watch.cancel()
        if (self._client_gone or self._expired) and kind is asyncio.CancelledError:
            _uncancel()
            raise ClientGoneError

    async def _watch_client(self) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                break
        if not self._finished and self._task is not None:
            self._client_gone = True
            self._task.cancel()


def _uncancel() -> None:
    """Takes back one cancellation of this task; Python counts them from 3.11 on."""
    uncancel = getattr(asyncio.current_task(), "uncancel", None)
    if uncancel is not None:
        uncancel()


def _dropped(headers: Headers, always: frozenset[bytes]) -> frozenset[bytes] | set[bytes]:
    """Names not to pass on: `always`, and those that Connection headers list."""
    listed = [value for name, value in headers if name.lower() == b"connection"]
    if not listed:
        return always
    return always | {token.strip().lower() for value in listed for token in value.split(b",")}


def _request_id(headers: Headers) -> str:
    """The client's X-Request-Id if it is short and printable, else a new one."""
    for name, value in headers:
        if name == b"x-request-id" and 0 < len(value) <= _MAX_REQUEST_ID:
            text = value.decode("latin-1")
            if text.isascii() and text.isprintable():
                return text
    return uuid.uuid4().hex

"""One HTTP exchange over raw ASGI: reading a bounded body, answering, noticing who has left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Header: TypeAlias = tuple[bytes, bytes]

JSON = (b"content-type", b"application/json")
_MAX_BODY = 64 << 20


class ClientGoneError(Exception):
    """The client closed the connection before its answer was complete."""


class BodyTooLargeError(Exception):
    """The request's body exceeds 64 MiB."""


class Exchange:
    """A request and its answer. ``headers`` are the request's, names in lower case."""

    def __init__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.extra_headers: list[Header] = []
        self.started = False
        self._receive = receive
        self._send = send

    async def read_body(self) -> bytes:
        """The whole body; ClientGoneError when it never comes to its end."""
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            part: bytes = message.get("body", b"")
            size += len(part)
            if size > _MAX_BODY:
                raise BodyTooLargeError
            parts.append(part)
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    async def respond(self, status: int, body: bytes, content_type: Header = JSON) -> None:
        """The whole answer."""
        length = (b"content-length", str(len(body)).encode())
        await self._start(status, [content_type, length])
        await self._send({"type": "http.response.body", "body": body})

    async def start_stream(self) -> None:
        """The head of an event stream."""
        await self._start(
            200,
            [
                (b"content-type", b"text/event-stream; charset=utf-8"),
                (b"cache-control", b"no-cache"),
            ],
        )

    async def write(self, chunk: bytes) -> None:
        """More of a stream; waits while the client does not read."""
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def end(self, chunk: bytes) -> None:
        """The last of a stream."""
        await self._send({"type": "http.response.body", "body": chunk, "more_body": False})

    async def drop(self, part: bytes = b"") -> None:
        """Close the connection in the middle of the answer, after `part` of its body if any."""
        if part:
            await self._start(200, [JSON, (b"content-length", str(2 * len(part)).encode())])
            await self.write(part)
        cycle = getattr(self._send, "__self__", None)
        transport = getattr(cycle, "transport", None)
        if transport is not None:
            transport.abort() if not part else transport.close()
            while (await self._receive())["type"] != "http.disconnect":
                pass

    def watch_client(self, gone: Callable[[], None]) -> asyncio.Task[None]:
        """A task that ends, and calls ``gone``, when the client leaves; cancel it when done."""

        async def watch() -> None:
            while (await self._receive())["type"] != "http.disconnect":
                pass
            gone()

        return asyncio.create_task(watch())

    async def _start(self, status: int, headers: list[Header]) -> None:
        self.started = True
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [*headers, *self.extra_headers],
            }
        )

"""uvicorn's HTTP protocol with bounds on a request's head."""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_REFUSED = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)


class _Reading(Enum):
    NOTHING = auto()
    HEAD = auto()
    BODY = auto()


def bounded_protocol(max_head_bytes: int, head_timeout: float) -> type[HttpToolsProtocol]:
    """A protocol class that closes connections whose head is too large or takes too long.

    uvicorn keeps what comes of a head for as long as it has no end. Heads up to `max_head_bytes`
    reach the application, which has a limit (and a better answer) of its own. `head_timeout`, in
    seconds, is for a connection's first head from its start, and for every later one from its
    first byte; between requests uvicorn's keep-alive timeout holds.
    """

    class BoundedProtocol(HttpToolsProtocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._reading = _Reading.NOTHING
            self._heads = 0
            self._head_bytes = 0
            self._head_timer: asyncio.TimerHandle | None = None
            self._start_timer()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            super().connection_lost(exc)

        def on_message_begin(self) -> None:
            self._reading = _Reading.HEAD
            self._start_timer()
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self._reading = _Reading.BODY
            self._heads += 1
            self._head_bytes = 0
            self._stop_timer()
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            self._reading = _Reading.NOTHING
            super().on_message_complete()

        def data_received(self, data: bytes) -> None:
            in_body, heads = self._reading is _Reading.BODY, self._heads
            super().data_received(data)
            if in_body or self._heads != heads:
                return
            self._start_timer()  # also for blank lines, of which the parser tells nothing
            self._head_bytes += len(data)
            if self._head_bytes > max_head_bytes and not self.transport.is_closing():
                self.transport.write(_REFUSED)
                self.transport.close()

        def _start_timer(self) -> None:
            if self._head_timer is None:
                self._head_timer = self.loop.call_later(head_timeout, self._head_is_late)

        def _stop_timer(self) -> None:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

        def _head_is_late(self) -> None:
            self._head_timer = None
            if self.cycle is not None and not self.cycle.response_complete:
                self._start_timer()  # the head of a next request must not end this one's answer
            else:
                self.transport.close()

    return BoundedProtocol

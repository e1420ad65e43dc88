"""uvicorn's HTTP protocol with bounds on a request's head."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_REFUSED = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)


def bounded_protocol(max_head_bytes: int, head_timeout: float) -> type[HttpToolsProtocol]:
    """A protocol class that closes connections whose head is too large or takes too long.

    uvicorn keeps what comes of a head for as long as it has no end. Heads up to `max_head_bytes`
    reach the application, which has a limit (and a better answer) of its own; `head_timeout`, in
    seconds, is for a connection's first head: later ones have uvicorn's keep-alive timeout.
    """

    class BoundedProtocol(HttpToolsProtocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._in_head = True
            self._head_bytes = 0
            self._head_timer: asyncio.TimerHandle | None = self.loop.call_later(
                head_timeout, transport.close
            )

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            super().connection_lost(exc)

        def on_message_begin(self) -> None:
            self._in_head = True
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self._in_head = False
            self._head_bytes = 0
            self._stop_timer()
            super().on_headers_complete()

        def data_received(self, data: bytes) -> None:
            goes_on = self._in_head
            super().data_received(data)
            if goes_on and self._in_head:
                self._head_bytes += len(data)
                if self._head_bytes > max_head_bytes and not self.transport.is_closing():
                    self.transport.write(_REFUSED)
                    self.transport.close()

        def _stop_timer(self) -> None:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

    return BoundedProtocol

"""Runs the frontend under uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator

import uvicorn

from kvroute.frontend.app import create_app
from kvroute.frontend.http_protocol import bounded_protocol
from kvroute.frontend.settings import Settings

# Longer than the minute for which common balancers keep a connection: they, not we, close it.
_KEEP_ALIVE = 75


class _Server(uvicorn.Server):
    """Says on standard output when it is ready, and where; a signal is an orderly end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        signals = (signal.SIGTERM, signal.SIGINT)
        for number in signals:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            ready = {"event": "ready", "http": f"http://{shown}:{port}", "pid": os.getpid()}
            print(json.dumps(ready), flush=True)


def serve(settings: Settings) -> int:
    """Serves until SIGTERM or SIGINT; gives the process's exit status. Raises as create_app.

    Prints one line of JSON when ready: ``{"event": "ready", "http": URL, "pid": N}``. A signal
    stops the listening and gives status 0; requests have `graceful_shutdown_seconds` to end.
    """
    config = uvicorn.Config(
        create_app(settings),
        loop="uvloop",
        http=bounded_protocol(2 * settings.max_header_bytes, settings.client_timeout_seconds),
        ws="none",
        lifespan="on",
        log_level=settings.log_level,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, round(settings.graceful_shutdown_seconds)),
    )
    try:
        listener = socket.create_server(
            (settings.host, settings.port),
            family=socket.AF_INET6 if ":" in settings.host else socket.AF_INET,
            backlog=2048,
        )
    except OSError as error:
        print(f"kvroute: {settings.host}:{settings.port}: {error}", file=sys.stderr)
        return 1
    server = _Server(config)
    with listener:
        server.run(sockets=[listener])
    return 0 if server.started else 3

"""Runs the frontend under uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator

import uvicorn
from uvicorn.config import LOG_LEVELS

from kvroute.frontend.app import create_app
from kvroute.frontend.http_protocol import bounded_protocol
from kvroute.frontend.settings import Settings

logger = logging.getLogger("kvroute.frontend")

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
    kvroute's loggers get `log_level`, and standard error where nobody has given them a handler;
    the process may open as many files as its hard limit allows.
    """
    _configure_logging(settings.log_level)
    _raise_file_limit()
    config = uvicorn.Config(
        create_app(settings),
        loop="uvloop",
        http=bounded_protocol(2 * settings.max_header_bytes, settings.client_timeout_seconds),
        ws="none",
        lifespan="on",
        log_level=settings.log_level,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # a client's address is the connection's, whatever headers say
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


def _configure_logging(level: str) -> None:
    ours = logging.getLogger("kvroute")
    ours.setLevel(LOG_LEVELS[level])
    if not ours.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        ours.addHandler(handler)


def _raise_file_limit() -> None:
    """Every engine takes several descriptors and every client one; soft limits are often 1,024."""
    try:
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ImportError, ValueError, OSError) as error:
        logger.debug("the limit on open files stays: %s", error)
    else:
        logger.debug("the limit on open files: %d, raised from %d", hard, soft)

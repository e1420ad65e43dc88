"""What both HTTP services of the example share: their flags, a bound on bodies, the server."""

from __future__ import annotations

import argparse
import json
import os
import socket
from collections.abc import Mapping
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


def add_port_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that router.py and api.py have in common."""
    parser.add_argument("--num-workers", type=int, default=2, help="number of engines")
    parser.add_argument("--block-size", type=int, default=64, help="tokens in a KV cache block")
    parser.add_argument(
        "--base-kv-events-port", type=int, default=5557, help="worker i publishes on this + i"
    )
    parser.add_argument(
        "--base-kv-replay-port", type=int, default=5757, help="worker i replays on this + i"
    )
    parser.add_argument(
        "--base-metrics-port", type=int, default=5657, help="worker i reports load on this + i"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to serve on and to reach all")


class BodyLimit:
    """ASGI middleware: a request whose body exceeds `max_bytes` is answered 413."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        received = 0

        async def receive_within_limit() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                raise HTTPException(413, f"body: expected at most {self.max_bytes} bytes")
            return message

        await self.app(scope, receive_within_limit, send)


class AnnouncedServer(uvicorn.Server):
    """Prints one JSON line on stdout once it accepts connections."""

    announcement: Mapping[str, Any] = {}

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if not self.started:
            return
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        line = {"event": "ready", "http": f"http://{host}:{port}", **self.announcement}
        print(json.dumps({**line, "pid": os.getpid()}), flush=True)


async def serve(app: FastAPI, host: str, port: int, announcement: Mapping[str, Any]) -> bool:
    """Serves until SIGINT or SIGTERM; False if it could not start.

    `announcement` is read when the service is up, so its start-up code may still add to it.
    """
    config = uvicorn.Config(
        app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=5
    )
    server = AnnouncedServer(config)
    server.announcement = announcement
    try:
        await server.serve()
    except SystemExit:  # how uvicorn reports a port that is taken; it has logged the reason
        return False
    return server.started

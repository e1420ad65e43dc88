"""A bound ZMQ socket of an event loop, and the loop that reads it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket as sockets
from collections.abc import Callable

import zmq
import zmq.asyncio

_MAX_MESSAGE_BYTES = 4096
_MAX_QUEUED = 10_000
_TURN = 64


class ZmqBinding:
    """Hands each message of a bound socket to a function. One event loop's; bounded.

    A message of more than 4096 bytes ends its sender's connection; 10,000 wait for each sender.

    Args:
        kind: zmq.PULL or zmq.ROUTER.
        host: a name or address to bind; "*" or "0.0.0.0" is every IPv4 address.
        port: 0 lets the system choose, see `endpoint`.
        take: gets the frames of each message. It must not raise.
        name: of the configuration's fields, for errors.
    """

    def __init__(
        self, kind: int, host: str, port: int, take: Callable[[list[bytes]], None], name: str
    ) -> None:
        self._kind = kind
        self._host = host
        self._port = port
        self._take = take
        self._name = name
        self._context: zmq.asyncio.Context | None = None
        self._reader: asyncio.Task[None] | None = None
        self._endpoint = ""

    @property
    def endpoint(self) -> str:
        """What is bound, such as "tcp://127.0.0.1:8500"; "" where nothing is."""
        return self._endpoint

    async def open(self) -> None:
        """Binds and begins to read. Raises OSError naming the address."""
        with contextlib.ExitStack() as undo:
            context = zmq.asyncio.Context()
            undo.callback(context.destroy, linger=0)
            socket = context.socket(self._kind)
            socket.setsockopt(zmq.RCVHWM, _MAX_QUEUED)
            socket.setsockopt(zmq.MAXMSGSIZE, _MAX_MESSAGE_BYTES)
            try:
                where = await _resolved(self._host)
                socket.setsockopt(zmq.IPV6, int(":" in where))
                socket.bind(f"tcp://{where}:{self._port or '*'}")
            except (zmq.ZMQError, OSError) as error:
                message = f"{self._name}: cannot bind {self._host}:{self._port} ({error})"
                raise OSError(message) from error
            self._endpoint = socket.getsockopt_string(zmq.LAST_ENDPOINT)
            undo.pop_all()
        self._context = context
        self._reader = asyncio.create_task(self._read(socket), name=f"kvroute-{self._name}")

    async def close(self) -> None:
        """Stops reading and unbinds. Idempotent."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reader
        context, self._context = self._context, None
        if context is not None:
            context.destroy(linger=0)
        self._endpoint = ""

    async def _read(self, socket: zmq.asyncio.Socket) -> None:
        for turn in itertools.count(1):
            self._take(await socket.recv_multipart())
            if turn % _TURN == 0:  # a flood does not stop what else this loop does
                await asyncio.sleep(0)


async def _resolved(host: str) -> str:
    """What ZMQ binds: it takes addresses, not names."""
    if host in ("*", "0.0.0.0"):
        return host
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=sockets.SOCK_STREAM)
    addresses = sorted({str(info[4][0]) for info in found}, key=lambda one: (":" in one, one))
    return f"[{addresses[0]}]" if ":" in addresses[0] else addresses[0]

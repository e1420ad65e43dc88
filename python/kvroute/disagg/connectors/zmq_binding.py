"""A bound socket to which ZMQ's sockets of other processes send messages."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket as sockets
from collections import Counter
from collections.abc import Callable
from typing import cast

from kvroute.disagg.connectors.zmtp import Receiver, SocketKind, ZmtpError

logger = logging.getLogger("kvroute.disagg")

_READ_BYTES = 8192
_MAX_UNSENT = 4096
_MAX_PEERS = 4096
_MAX_PEERS_OF_ADDRESS = 256
_HANDSHAKE_SECONDS = 10.0

Take = Callable[[list[bytes], str], None]


class ZmqBinding:
    """Hands each message of a bound socket to a function. One event loop's.

    Memory is bounded, whoever connects and whatever is sent: 4096 connections, 256 from one
    address, each with at most two times 8192 bytes and a message of at most 4096 bytes and 8
    frames. A connection that goes beyond is ended; a message is handed on as soon as it is there.

    Args:
        kind: "PULL" for senders that are PUSH sockets, "ROUTER" for DEALER and REQ; nothing is ever
            sent back.
        host: a name or address to bind; "*" or "0.0.0.0" is every IPv4 address.
        port: 0 lets the system choose, see `endpoint`.
        take: gets the frames of each message and the sender's IP address; no frames for what a
            sender was cut off for. It must not raise.
        name: of the configuration's fields, for errors.
    """

    def __init__(self, kind: SocketKind, host: str, port: int, take: Take, name: str) -> None:
        self._kind = kind
        self._host = host
        self._port = port
        self._take = take
        self._name = name
        self._server: asyncio.AbstractServer | None = None
        self._peers: set[_Peer] = set()
        self._addresses: Counter[str] = Counter()
        self._endpoint = ""

    @property
    def endpoint(self) -> str:
        """What is bound, such as "tcp://127.0.0.1:8500"; "" where nothing is."""
        return self._endpoint

    async def open(self) -> None:
        """Binds and begins to read. Raises OSError naming the address."""
        loop = asyncio.get_running_loop()
        try:
            where = await _resolved(self._host)
            self._server = await loop.create_server(self._peer, where, self._port)
        except OSError as error:
            message = f"{self._name}: cannot bind {self._host}:{self._port} ({error})"
            raise OSError(message) from error
        port = self._server.sockets[0].getsockname()[1]
        self._endpoint = f"tcp://[{where}]:{port}" if ":" in where else f"tcp://{where}:{port}"

    async def close(self) -> None:
        """Stops reading and unbinds. Idempotent."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for peer in list(self._peers):
            peer.cut()
        await asyncio.sleep(0)  # connections are closed in the loop's next turn
        self._endpoint = ""

    def _peer(self) -> _Peer:
        return _Peer(Receiver(self._kind), self._take, self._enter, self._leave)

    def _enter(self, peer: _Peer) -> bool:
        """Whether there is room for one more."""
        if (
            len(self._peers) >= _MAX_PEERS
            or self._addresses.get(peer.address, 0) >= _MAX_PEERS_OF_ADDRESS
        ):
            return False
        self._peers.add(peer)
        self._addresses[peer.address] += 1
        return True

    def _leave(self, peer: _Peer) -> None:
        if peer in self._peers:
            self._peers.remove(peer)
            self._addresses[peer.address] -= 1
            if not self._addresses[peer.address]:
                del self._addresses[peer.address]


class _Peer(asyncio.BufferedProtocol):
    """One connection. What it reads at once has a fixed size: asyncio's streams take 256 KiB."""

    def __init__(
        self,
        receiver: Receiver,
        take: Take,
        enter: Callable[[_Peer], bool],
        leave: Callable[[_Peer], None],
    ) -> None:
        self.address = ""
        self._receiver = receiver
        self._take = take
        self._enter = enter
        self._leave = leave
        self._buffer = memoryview(bytearray(_READ_BYTES))
        self._transport: asyncio.Transport | None = None
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclasses of it
        self.address = plain_address(str((transport.get_extra_info("peername") or ("",))[0]))
        if not self._enter(self):
            self.cut()
            return
        with contextlib.suppress(OSError):
            socket = transport.get_extra_info("socket")
            socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_KEEPALIVE, 1)
        loop = asyncio.get_running_loop()
        self._late = loop.call_later(_HANDSHAKE_SECONDS, self._end_if_unready)
        self._reply()

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        try:
            for frames in self._receiver.feed(self._buffer[:nbytes]):
                self._take(frames, self.address)
        except ZmtpError as error:
            logger.debug("%s: %s", self.address, error)
            if self._receiver.is_ready:
                self._take([], self.address)
            self.cut()
        else:
            self._reply()

    def connection_lost(self, _error: Exception | None) -> None:
        if self._late is not None:
            self._late.cancel()
        self._leave(self)

    def cut(self) -> None:
        """Ends the connection, with all that was read of it and not handed on."""
        if self._transport is not None:
            self._transport.abort()

    def _reply(self) -> None:
        replies, transport = self._receiver.replies, self._transport
        if replies and transport is not None:
            transport.write(bytes(replies))
            replies.clear()
            if transport.get_write_buffer_size() > _MAX_UNSENT:  # it asks and does not read
                self.cut()

    def _end_if_unready(self) -> None:
        if not self._receiver.is_ready:
            self.cut()


def plain_address(address: str) -> str:
    """An IP address in the form in which two are equal; what is none as it is."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)


async def _resolved(host: str) -> str:
    """One address: names may have several, of which each would get a port of its own."""
    if host in ("*", "0.0.0.0"):
        return "0.0.0.0"
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=sockets.SOCK_STREAM)
    return sorted({str(info[4][0]) for info in found}, key=lambda one: (":" in one, one))[0]

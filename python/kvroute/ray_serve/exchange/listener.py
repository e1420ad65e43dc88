"""Connections that peers make to this process: what they say goes to RemoteBookings."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable

from kvroute.ray_serve.exchange import wire
from kvroute.ray_serve.exchange.frames import BROKEN, receive
from kvroute.ray_serve.exchange.limits import ExchangeLimits
from kvroute.ray_serve.exchange.operations import Operation, WireError
from kvroute.ray_serve.exchange.remote_bookings import RemoteBookings
from kvroute.ray_serve.exchange.rendezvous import Member
from kvroute.ray_serve.exchange.tally import Tally

_STRANGERS = 64  # connections that may be open without having shown that they know the secret
_AT_ONCE = 64  # operations applied before others get their turn


class _Connection:
    """One of them. `peer` is empty until it has shown that it knows the secret."""

    __slots__ = ("heard_at", "peer", "transport")

    def __init__(self, transport: asyncio.WriteTransport, now: float) -> None:
        self.transport = transport
        self.heard_at = now
        self.peer = ""


class Listener:
    """Takes connections, lets in whoever proves to know the secret and counts blocks alike, and
    cuts off whoever says nothing, too little at a time, or nonsense. For one event loop alone."""

    def __init__(
        self,
        name: str,
        block_size: int,
        secret: Callable[[], bytes],
        remote: RemoteBookings,
        met: Callable[[Member], None],
        limits: ExchangeLimits,
        tally: Tally,
    ) -> None:
        """`name` is this member's; `secret` gives the one that holds now; `met` is told of each
        peer that was let in."""
        self._name = name
        self._block_size = block_size
        self._secret = secret
        self._remote = remote
        self._met = met
        self._limits = limits
        self._tally = tally
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str) -> int:
        """Listens there; the port that the system chose. Raises OSError."""
        self._server = await asyncio.start_server(self._serve, host, 0)
        return int(self._server.sockets[0].getsockname()[1])

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            connection.transport.abort()

    @property
    def peers(self) -> int:
        """Peers that are connected. May be called from any thread."""
        return len({one.peer for one in list(self._connections) if one.peer})

    def beat(self, now: float) -> None:
        """Tells peers that this side lives, and cuts off who is silent. To be called every
        `beat_s`."""
        for connection in list(self._connections):
            patience = self._limits.silence_s if connection.peer else self._limits.connect_s
            if now - connection.heard_at > patience:
                self._reject("silent", f"silent for {patience} s")
                connection.transport.abort()
            elif connection.peer:
                self._write_beat(connection)

    # A peer that does not read is no reason to keep beats for it.
    def _write_beat(self, connection: _Connection) -> None:
        if connection.transport.get_write_buffer_size() == 0:
            connection.transport.write(wire.BEAT)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(writer.transport, asyncio.get_running_loop().time())
        self._make_room()
        self._connections.add(connection)
        on_purpose = False
        try:
            await self._greet(connection, reader)
            on_purpose = await self._listen(connection, reader)
        except WireError as error:
            self._reject("nonsense", str(error))
        except (*BROKEN, asyncio.CancelledError):
            pass  # it connects again if it lives; or the loop ends, and asyncio would log that
        finally:
            connection.transport.abort()
            self._connections.discard(connection)
            self._remote.disconnected(connection.peer, connection, on_purpose=on_purpose)

    # A peer says who it is at once, so of many strangers it is never the oldest for long.
    def _make_room(self) -> None:
        strangers = [one for one in self._connections if not one.peer]
        if len(strangers) >= _STRANGERS:
            oldest = min(strangers, key=lambda one: one.heard_at)
            self._reject("too many", f"more than {_STRANGERS} that do not say who they are")
            self._connections.remove(oldest)
            oldest.transport.abort()

    async def _greet(self, connection: _Connection, reader: asyncio.StreamReader) -> None:
        hello, received = await receive(reader, wire.MAX_HELLO_BYTES)
        self._tally.received_bytes += received
        if not isinstance(hello, wire.Hello):
            raise WireError("expected a hello first")
        proof = wire.proof_of(self._secret(), hello.member, self._name)
        if not hmac.compare_digest(proof, hello.proof):
            raise WireError(
                "a peer knows another secret (as it may before this side has met the rendezvous), "
                "or looks for somebody else"
            )
        if hello.block_size != self._block_size:
            raise WireError(
                f"a peer's blocks are of {hello.block_size} tokens, expected {self._block_size}"
            )
        for other in self._connections:
            if other.peer == hello.member:
                other.transport.abort()  # half open: the peer has begun anew
        if not self._remote.connected(hello.member, connection):
            raise WireError(f"expected at most {self._limits.max_peers} peers")
        connection.peer = hello.member
        connection.heard_at = asyncio.get_running_loop().time()
        self._write_beat(connection)
        self._met(Member(hello.member, hello.host, hello.port))

    async def _listen(self, connection: _Connection, reader: asyncio.StreamReader) -> bool:
        """Until the peer ends on purpose: True. Raises what breaks the connection."""
        loop = asyncio.get_running_loop()
        while True:
            message, received = await receive(reader, wire.MAX_MESSAGE_BYTES)
            connection.heard_at = loop.time()
            self._tally.received_bytes += received
            if isinstance(message, wire.Batch):
                self._tally.received_batches += 1
                self._tally.received_operations += len(message.operations)
                await self._apply(connection, message.operations)
            elif isinstance(message, wire.SnapshotEnd):
                self._remote.snapshot_ended(connection.peer, connection)
            elif isinstance(message, wire.Bye):
                return True
            elif isinstance(message, wire.Hello):
                raise WireError("a second hello")

    async def _apply(self, connection: _Connection, operations: list[Operation]) -> None:
        for begin in range(0, len(operations), _AT_ONCE):
            if begin:
                await asyncio.sleep(0)
            self._remote.apply(connection.peer, connection, operations[begin : begin + _AT_ONCE])

    def _reject(self, reason: str, details: str) -> None:
        self._tally.rejected += 1
        self._tally.log_once(reason, "The exchange of bookings cut off a connection: %s", details)

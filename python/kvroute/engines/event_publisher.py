"""The ZMQ sockets on which a simulated engine publishes its KV events and replays them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from types import TracebackType

import zmq
import zmq.asyncio

from kvroute.engines.errors import InvalidConfigError

END_SEQ = b"\xff" * 8
"""Stands for the sequence number in the message that ends a replay."""

_REPLAY_SEND_TIMEOUT = 2.0
_MAX_REPLAY_REQUEST = 1024


def open_publisher(
    context: zmq.Context[zmq.Socket[bytes]], endpoint: str, connect: bool
) -> tuple[zmq.Socket[bytes], str]:
    """A PUB socket on ``endpoint``, and the endpoint it got (``tcp://host:0``: any free port).

    It never blocks: a subscriber that reads too slowly loses messages, as vLLM's do. Raises
    InvalidConfigError for an endpoint that cannot be used.
    """
    socket = context.socket(zmq.PUB)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, 10_000)
    try:
        if connect:
            socket.connect(endpoint)
            return socket, endpoint
        return socket, bind(socket, endpoint)
    except zmq.ZMQError as error:
        socket.close()
        raise InvalidConfigError(f"endpoint {endpoint}: {error.strerror}") from error


def bind(socket: zmq.Socket[bytes] | zmq.asyncio.Socket, endpoint: str) -> str:
    """Bind and say where; a wildcard host comes back as 127.0.0.1, which reaches it."""
    socket.bind(endpoint)
    bound = socket.getsockopt(zmq.LAST_ENDPOINT)
    assert isinstance(bound, bytes)
    return bound.rstrip(b"\0").decode().replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")


class KvEventPublisher:
    """Numbers batches from 0, sends them on a PUB socket, keeps the last ones, and replays.

    A batch is three frames: topic, sequence number (8 bytes, big-endian), payload. The replay
    socket (ROUTER) takes ``[identity, b"", first sequence number]`` and answers, as vLLM >= 0.26
    does, ``[b"", topic, sequence number, payload]`` for each batch kept from there on, then
    ``[b"", b"", END_SEQ, b""]``. A request of another shape gets no answer. Replays are served by
    the event loop, also while the engine is idle; a peer that stops reading is given up on.

    Everything runs on one event loop. The buffer is bounded by count and by bytes.

    Args:
        endpoint: of the PUB socket.
        connect: connect it, where the router binds.
        replay_endpoint: of the ROUTER socket, None for none.
        topic: the first frame.
        buffer_steps: batches kept for replay.
        buffer_bytes: payload bytes kept for replay at most.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        connect: bool = False,
        replay_endpoint: str | None = None,
        topic: str = "",
        buffer_steps: int = 10_000,
        buffer_bytes: int = 256 << 20,
    ) -> None:
        self._topic = topic.encode()
        self._buffer: deque[tuple[bytes, bytes]] = deque()
        self._buffer_steps = buffer_steps
        self._buffer_bytes = buffer_bytes
        self._bytes_kept = 0
        self._next_seq = 0
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._replay: zmq.asyncio.Socket | None = None
        self._replay_task: asyncio.Task[None] | None = None
        self.replay_endpoint: str | None = None
        try:
            self._pub, self.endpoint = open_publisher(self._context, endpoint, connect)
            if replay_endpoint is not None:
                self._replay = self._open_replay(replay_endpoint)
        except InvalidConfigError:
            self._context.destroy(linger=0)
            raise

    async def __aenter__(self) -> KvEventPublisher:
        if self._replay is not None:
            self._replay_task = asyncio.create_task(self._serve_replays(self._replay))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._replay_task is not None:
            self._replay_task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._replay_task
        if self._replay is not None:
            self._replay.close(linger=0)
        self._context.destroy(linger=0)

    @property
    def next_seq(self) -> int:
        """The number that the next batch gets: how many were published."""
        return self._next_seq

    def publish(self, payload: bytes) -> int:
        """Send one batch and keep it for replay; returns its sequence number. Never blocks."""
        seq = self._next_seq
        self._next_seq = seq + 1
        frame = seq.to_bytes(8, "big")
        with contextlib.suppress(zmq.Again):
            self._pub.send_multipart((self._topic, frame, payload), zmq.NOBLOCK)
        buffer = self._buffer
        buffer.append((frame, payload))
        self._bytes_kept += len(payload)
        while len(buffer) > self._buffer_steps or self._bytes_kept > self._buffer_bytes:
            self._bytes_kept -= len(buffer.popleft()[1])
        return seq

    def _open_replay(self, endpoint: str) -> zmq.asyncio.Socket:
        socket = zmq.asyncio.Context(self._context).socket(zmq.ROUTER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        socket.setsockopt(zmq.MAXMSGSIZE, _MAX_REPLAY_REQUEST)
        try:
            self.replay_endpoint = bind(socket, endpoint)
        except zmq.ZMQError as error:
            socket.close()
            raise InvalidConfigError(f"endpoint {endpoint}: {error.strerror}") from error
        return socket

    async def _serve_replays(self, socket: zmq.asyncio.Socket) -> None:
        while True:
            frames = await socket.recv_multipart()
            if len(frames) != 3 or frames[1] or len(frames[2]) != 8:
                continue
            with contextlib.suppress(zmq.ZMQError, asyncio.TimeoutError):
                await self._replay_from(socket, frames[0], int.from_bytes(frames[2], "big"))

    async def _replay_from(self, socket: zmq.asyncio.Socket, peer: bytes, first: int) -> None:
        oldest = self._next_seq - len(self._buffer)
        kept = list(self._buffer)[max(0, first - oldest) :]
        for frame, payload in kept:
            await _send(socket, [peer, b"", self._topic, frame, payload])
        await _send(socket, [peer, b"", b"", END_SEQ, b""])


async def _send(socket: zmq.asyncio.Socket, frames: list[bytes]) -> None:
    # Not asyncio.wait_for: before Python 3.12 it loses a cancellation that comes with the result.
    sending = asyncio.ensure_future(socket.send_multipart(frames))
    if not sending.done():
        await asyncio.wait([sending], timeout=_REPLAY_SEND_TIMEOUT)
    if not sending.done():
        sending.cancel()
        raise asyncio.TimeoutError
    sending.result()

"""What ZMQ's sockets send arrives whole, and what anybody else sends takes no memory."""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import zmq
import zmq.asyncio
from kvroute.disagg.connectors import zmq_binding
from kvroute.disagg.connectors.zmq_binding import ZmqBinding
from kvroute.disagg.connectors.zmtp import Receiver, SocketKind, ZmtpError

pytestmark = [pytest.mark.timeout(60)]

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(16) + bytes(32)
READY = b"\x04\x1a\x05READY\x0bSocket-Type" + struct.pack(">I", 4) + b"PUSH"


def frame(body: bytes, *, more: bool = False, long: bool = False) -> bytes:
    if long or len(body) > 255:
        return bytes([2 | more]) + struct.pack(">Q", len(body)) + body
    return bytes([more, len(body)]) + body


async def send_for_ever(writer: asyncio.StreamWriter, data: bytes) -> None:
    while True:
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(0)


class Listening:
    """A binding and what it has handed on."""

    def __init__(self, kind: SocketKind) -> None:
        self.binding = ZmqBinding(kind, "127.0.0.1", 0, self._take, "port")
        self.taken: asyncio.Queue[tuple[list[bytes], str]] = asyncio.Queue()
        self.writers: list[asyncio.StreamWriter] = []

    def _take(self, frames: list[bytes], address: str) -> None:
        self.taken.put_nowait((frames, address))

    async def connect(self, hello: bytes = GREETING + READY) -> Any:
        port = int(self.binding.endpoint.rsplit(":", 1)[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        self.writers.append(writer)
        writer.write(hello)
        return reader, writer


@asynccontextmanager
async def listening(kind: SocketKind = "PULL") -> AsyncIterator[Listening]:
    made = Listening(kind)
    await made.binding.open()
    try:
        yield made
    finally:
        await made.binding.close()
        for writer in made.writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@pytest.fixture
def context() -> Iterator[zmq.asyncio.Context]:
    made = zmq.asyncio.Context()
    yield made
    made.destroy(linger=0)


@pytest.mark.parametrize(
    ("kind", "sender", "sent", "taken"),
    [
        ("PULL", zmq.PUSH, [b"a"], [b"a"]),
        ("PULL", zmq.PUSH, [b"", b"b" * 255, b"c" * 256], [b"", b"b" * 255, b"c" * 256]),
        ("PULL", zmq.PUSH, [b"x" * 4096], [b"x" * 4096]),
        ("ROUTER", zmq.DEALER, [b"a"], [b"a"]),
        ("ROUTER", zmq.REQ, [b"a"], [b"", b"a"]),
    ],
)
async def test_zmq_s_own_sockets_are_understood(
    context: zmq.asyncio.Context,
    kind: SocketKind,
    sender: int,
    sent: list[bytes],
    taken: list[bytes],
) -> None:
    async with listening(kind) as made:
        with context.socket(sender) as socket:
            socket.setsockopt(zmq.HEARTBEAT_IVL, 50)
            socket.connect(made.binding.endpoint)
            await socket.send_multipart(sent)
            assert await made.taken.get() == (taken, "127.0.0.1")


async def test_a_sender_finds_a_binding_that_is_opened_again(context: zmq.asyncio.Context) -> None:
    made = Listening("PULL")
    await made.binding.open()
    port = int(made.binding.endpoint.rsplit(":", 1)[1])
    with context.socket(zmq.PUSH) as socket:
        socket.setsockopt(zmq.RECONNECT_IVL, 10)
        socket.connect(made.binding.endpoint)
        await socket.send(b"one")
        assert (await made.taken.get())[0] == [b"one"]
        await made.binding.close()
        again = ZmqBinding("PULL", "127.0.0.1", port, made._take, "port")
        await again.open()
        try:
            await socket.send(b"two")
            assert (await made.taken.get())[0] == [b"two"]
        finally:
            await again.close()


def test_a_heartbeat_is_answered() -> None:
    receiver = Receiver("PULL")
    receiver.replies.clear()
    assert list(receiver.feed(GREETING + READY + b"\x04\x0a\x04PING\x00\x64abc")) == []
    assert receiver.replies == b"\x04\x08\x04PONGabc"


@pytest.mark.parametrize(
    "flood",
    [
        frame(b"x" * 4000, more=True),
        frame(b"", more=True),
        frame(b"x" * 4097, long=True),
        b"\x02" + struct.pack(">Q", (1 << 63) - 1) + bytes(4096),
        b"\x06" + struct.pack(">Q", (1 << 63) - 1) + bytes(4096),
        b"\x08\x00",
        b"\x04\x08\x05ERROR\x00\x00",
    ],
    ids=["frames", "empty-frames", "long", "endless", "endless-command", "flags", "error"],
)
async def test_a_message_beyond_the_limits_ends_its_sender_s_connection(flood: bytes) -> None:
    async with listening() as made:
        _, writer = await made.connect()
        with pytest.raises(ConnectionError):
            await send_for_ever(writer, flood)
        assert await made.taken.get() == ([], "127.0.0.1")
        assert not made.binding._peers


async def test_whatever_the_bytes_a_receiver_keeps_two_reads_at_most() -> None:
    randomly = random.Random(5)
    parts = [frame(b"x" * size, more=more) for size in (0, 9, 255, 300) for more in (True, False)]
    parts += [b"\x04\x07\x04PING\x00\x00", bytes([2]) + struct.pack(">Q", 4096)]
    for _ in range(300):
        receiver = Receiver("PULL")
        list(receiver.feed(GREETING + READY))
        with contextlib.suppress(ZmtpError):
            for _ in range(3000):
                replies = len(receiver.replies)
                read = b"".join(randomly.choices(parts, k=20))[: randomly.randrange(1, 8192)]
                list(receiver.feed(read))
                assert len(receiver._buffer) <= 2 * 8192
                assert receiver._size <= 4096
                assert len(receiver.replies) - replies <= 8192


@pytest.mark.parametrize(
    "hello",
    [
        b"GET / HTTP/1.1\r\nHost: kvroute.example:30001\r\nAccept: */*\r\n\r\n" + bytes(64),
        GREETING.replace(b"NULL", b"CURV"),
        GREETING + frame(b"a message before READY"),
        GREETING + READY.replace(b"PUSH", b"PULL"),
        GREETING + b"\x04\x05\x05READ",
    ],
    ids=["http", "mechanism", "not-ready", "receiver", "cut-off"],
)
async def test_who_does_not_shake_hands_is_cut_off(hello: bytes) -> None:
    async with listening() as made:
        reader, _ = await made.connect(hello)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(10_000)
        assert made.taken.empty()


async def test_who_says_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zmq_binding, "_HANDSHAKE_SECONDS", 0.05)
    async with listening() as made:
        reader, _ = await made.connect(GREETING)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(10_000)


async def test_who_asks_and_does_not_read_is_cut_off() -> None:
    async with listening() as made:
        _, writer = await made.connect()
        with pytest.raises(ConnectionError):
            await send_for_ever(writer, (b"\x04\x17\x04PING\x00\x00" + b"x" * 16) * 1000)


async def test_one_address_takes_no_more_than_its_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(zmq_binding, "_MAX_PEERS_OF_ADDRESS", 3)
    async with listening() as made:
        first = [await made.connect() for _ in range(3)]
        for reader, _ in first:
            await reader.readexactly(64)
        over, _ = await made.connect()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await over.readexactly(64)
        first[0][1].close()
        while len(made.binding._peers) == 3:  # noqa: ASYNC110 - the close has to arrive
            await asyncio.sleep(0.01)
        again, _ = await made.connect()
        await again.readexactly(64)


def test_the_loop_that_the_frontend_runs_on_hands_messages_on_too() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def one_message() -> list[bytes]:
        async with listening() as made:
            _, writer = await made.connect(GREETING + READY + frame(b"a"))
            frames, _ = await asyncio.wait_for(made.taken.get(), 10)
            writer.close()
            return frames

    loop = uvloop.new_event_loop()
    try:
        assert loop.run_until_complete(one_message()) == [b"a"]
    finally:
        loop.close()

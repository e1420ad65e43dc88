"""ZMTP 3, the protocol of ZMQ's sockets over TCP, as a receiver speaks it: no I/O, and bounded.

Source: https://rfc.zeromq.org/spec/23/ (ZMTP 3.0, the mechanism NULL) and spec/37 (3.1's PING).
libzmq keeps the frames of a message that has no end without any limit; here a message may have 8
frames and 4096 bytes, whatever the peer announces.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

SocketKind = Literal["PULL", "ROUTER"]

MAX_MESSAGE_BYTES = 4096
_MAX_FRAMES = 8
_MORE, _LONG, _COMMAND = 1, 2, 4
_GREETING_BYTES = 64
_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
_SENDERS = {"PULL": (b"PUSH",), "ROUTER": (b"DEALER", b"REQ", b"ROUTER")}


class ZmtpError(ValueError):
    """The peer does not speak the protocol, or goes beyond its limits."""


class Receiver:
    """One peer's side of a connection: bytes in, whole messages out.

    Attributes:
        is_ready: whether both have shaken hands.
        replies: what the peer is to be sent; whoever sends it empties it.
    """

    def __init__(self, kind: SocketKind) -> None:
        self.is_ready = False
        self.replies = bytearray(_GREETING + _ready(kind))
        self._kind = kind
        self._is_greeted = False
        self._buffer = bytearray()
        self._frames: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes | memoryview) -> Iterator[list[bytes]]:
        """The messages that these bytes end, each a list of its frames. Raises ZmtpError, after
        which the connection is to be closed."""
        self._buffer += data
        if not self._is_greeted:
            if len(self._buffer) < _GREETING_BYTES:
                return
            _check_greeting(self._buffer)
            del self._buffer[:_GREETING_BYTES]
            self._is_greeted = True
        while (frame := self._frame()) is not None:
            flags, body = frame
            if flags & _COMMAND:
                self._command(body)
                continue
            if not self.is_ready:
                raise ZmtpError("expected READY before any message")
            self._size += len(body)
            self._frames.append(body)
            if self._size > MAX_MESSAGE_BYTES or len(self._frames) > _MAX_FRAMES:
                raise ZmtpError(
                    f"a message above {MAX_MESSAGE_BYTES} bytes or {_MAX_FRAMES} frames"
                )
            if not flags & _MORE:
                message, self._frames, self._size = self._frames, [], 0
                yield message

    def _frame(self) -> tuple[int, bytes] | None:
        """The next frame, flags and body, where all of it is there."""
        buffer = self._buffer
        if not buffer:
            return None
        flags = buffer[0]
        if flags > (_MORE | _LONG | _COMMAND) or (flags & _COMMAND and flags & _MORE):
            raise ZmtpError(f"a frame with the flags {flags}")
        start = 9 if flags & _LONG else 2
        if len(buffer) < start:
            return None
        size = int.from_bytes(buffer[1:start], "big")
        if size > MAX_MESSAGE_BYTES:
            raise ZmtpError(f"a frame of {size} bytes")
        if len(buffer) < start + size:
            return None
        body = bytes(buffer[start : start + size])
        del buffer[: start + size]
        return flags, body

    def _command(self, body: bytes) -> None:
        name, rest = _short_text(body)
        if name == b"READY":
            if _socket_type(rest) not in _SENDERS[self._kind]:
                raise ZmtpError(f"a socket that sends nothing to {self._kind}")
            self.is_ready = True
        elif name == b"ERROR":
            raise ZmtpError("the peer refuses")
        elif name == b"PING":
            self.replies += _command(b"PONG", rest[2:18])


def _ready(kind: SocketKind) -> bytes:
    value = kind.encode()
    return _command(b"READY", b"\x0bSocket-Type" + len(value).to_bytes(4, "big") + value)


def _command(name: bytes, rest: bytes) -> bytes:
    body = bytes([len(name)]) + name + rest
    return bytes([_COMMAND, len(body)]) + body


def _check_greeting(greeting: bytearray) -> None:
    if greeting[0] != 0xFF or not greeting[9] & 1 or greeting[10] < 3:
        raise ZmtpError("expected the greeting of ZMTP 3")
    if bytes(greeting[12:32]).rstrip(b"\0") != b"NULL":
        raise ZmtpError("expected the mechanism NULL")


def _short_text(body: bytes) -> tuple[bytes, bytes]:
    if not body or len(body) < 1 + body[0]:
        raise ZmtpError("a command without its name")
    return body[1 : 1 + body[0]], body[1 + body[0] :]


def _socket_type(properties: bytes) -> bytes:
    while properties:
        name, rest = _short_text(properties)
        size = int.from_bytes(rest[:4], "big")
        if len(rest) < 4 + size:
            raise ZmtpError("a property without its value")
        if name.lower() == b"socket-type":
            return rest[4 : 4 + size]
        properties = rest[4 + size :]
    return b""

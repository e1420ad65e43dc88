"""What the exchanges of one deployment say to each other, byte for byte.

A message is a length (u32, of what follows), the format's version (u8), its kind (u8) and a body;
all numbers are little-endian. Every length is checked against its bound and against the bytes that
are there before anything is made of it, so that a message takes memory in proportion to its own
bytes, at most MAX_MESSAGE_BYTES of them, and nothing in it nests: no general format promises that.
`decode` raises WireError for whatever is no message, and nothing else.

Who connects sends Hello, then its bookings in Batches: first those that run, up to SnapshotEnd,
mixed with what changes meanwhile; then the changes. Bye ends them all. Both sides send Beat while
they have nothing else to say; the first Beat of who was connected to says that it took the Hello.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kvroute.ray_serve.exchange.operations import Operation, WireError, read

VERSION = 1
MAX_MESSAGE_BYTES = 1 << 20  # version, kind and body
MAX_HELLO_BYTES = 512
MAX_OPERATIONS = 4096  # in one batch
LENGTH_BYTES = 4
MEMBER_BYTES = 8
SECRET_BYTES = 32

_HELLO, _BATCH, _SNAPSHOT_END, _BEAT, _BYE = range(1, 6)

_LENGTH = struct.Struct("<I")
_FRAME = struct.Struct("<IBB")
_HELLO_HEAD = struct.Struct(
    f"<{MEMBER_BYTES}s32sIHB"
)  # member, proof, block size, port, host's size
_COUNT = struct.Struct("<I")


class Hello(NamedTuple):
    """Who connects, where it listens itself, and what shows that it knows the secret."""

    member: str
    host: str
    port: int
    block_size: int
    proof: bytes


class Batch(NamedTuple):
    operations: list[Operation]


class SnapshotEnd(NamedTuple):
    """What of the sender's was not told since Hello runs no more."""


class Beat(NamedTuple):
    """The sender lives."""


class Bye(NamedTuple):
    """The sender ends on purpose: nothing of it runs any more."""


Message = Hello | Batch | SnapshotEnd | Beat | Bye


def proof_of(secret: bytes, sender: str, receiver: str) -> bytes:
    """What shows `receiver`, and nobody else, that `sender` knows the secret.

    It keeps strangers and members of other deployments out. Members trust one another: each knows
    the secret, and may speak as any other. Nothing is encrypted, and the proof holds as long as the
    secret: who reads the traffic may say it again.
    """
    return hashlib.blake2b(
        bytes.fromhex(sender) + bytes.fromhex(receiver),
        digest_size=32,
        key=secret,
        person=b"kvroute-exchange",
    ).digest()


def _message(kind: int, body: bytes = b"") -> bytes:
    return _FRAME.pack(len(body) + 2, VERSION, kind) + body


SNAPSHOT_END = _message(_SNAPSHOT_END)
BEAT = _message(_BEAT)
BYE = _message(_BYE)


def hello(message: Hello) -> bytes:
    """WireError where the host's name is too long, or a number does not fit."""
    try:
        host = message.host.encode()
        head = _HELLO_HEAD.pack(
            bytes.fromhex(message.member),
            message.proof,
            message.block_size,
            message.port,
            len(host),
        )
    except (struct.error, UnicodeEncodeError) as error:
        raise WireError(f"hello: {error}") from error
    return _message(_HELLO, head + host)


def batches(operations: Iterable[bytes]) -> Iterator[bytes]:
    """Messages of these operations, in their order, as few as the bounds allow."""
    body: list[bytes] = []
    size = 0
    for operation in operations:
        full = size + len(operation) > MAX_MESSAGE_BYTES - 2 - _COUNT.size
        if body and (full or len(body) == MAX_OPERATIONS):
            yield _batch(body)
            body, size = [], 0
        body.append(operation)
        size += len(operation)
    if body:
        yield _batch(body)


def _batch(operations: list[bytes]) -> bytes:
    return _message(_BATCH, _COUNT.pack(len(operations)) + b"".join(operations))


def length_of(head: bytes, limit: int) -> int:
    """Bytes that follow the first LENGTH_BYTES of a message. WireError beyond the limit."""
    (length,) = _LENGTH.unpack(head)
    if not 2 <= length <= limit:
        raise WireError(f"length: expected 2 to {limit}, got {length}")
    return int(length)


def decode(payload: bytes) -> Message:
    """A message without its length. Raises WireError alone."""
    if not 2 <= len(payload) <= MAX_MESSAGE_BYTES:
        raise WireError(f"length: expected 2 to {MAX_MESSAGE_BYTES}, got {len(payload)}")
    version, kind = payload[0], payload[1]
    if version != VERSION:
        raise WireError(f"version: expected {VERSION}, got {version}")
    try:
        if kind == _BATCH:
            return Batch(_operations(payload))
        if kind == _HELLO:
            return _hello(payload)
    except (struct.error, UnicodeDecodeError) as error:
        raise WireError(f"message {kind}: {error}") from error
    if len(payload) == 2:
        if kind == _SNAPSHOT_END:
            return SnapshotEnd()
        if kind == _BEAT:
            return Beat()
        if kind == _BYE:
            return Bye()
    raise WireError(f"kind: got {kind} with {len(payload) - 2} bytes")


def _hello(payload: bytes) -> Hello:
    member, proof, block_size, port, host_bytes = _HELLO_HEAD.unpack_from(payload, 2)
    host = payload[2 + _HELLO_HEAD.size :]
    if len(host) != host_bytes:
        raise WireError(f"host: expected {host_bytes} bytes, got {len(host)}")
    return Hello(member.hex(), host.decode(), port, block_size, proof)


def _operations(payload: bytes) -> list[Operation]:
    (count,) = _COUNT.unpack_from(payload, 2)
    if count > MAX_OPERATIONS:
        raise WireError(f"operations: expected at most {MAX_OPERATIONS}, got {count}")
    found: list[Operation] = []
    at = 2 + _COUNT.size
    for _ in range(count):
        operation, at = read(payload, at)
        found.append(operation)
    if at != len(payload):
        raise WireError(f"batch: {len(payload) - at} bytes too many")
    return found

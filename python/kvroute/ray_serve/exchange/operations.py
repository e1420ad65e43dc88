"""What is told of bookings: each operation's bytes, and back.

All numbers are little-endian, and hashes travel as they lie in memory there. Every length is
checked against its bound and against the bytes that are there before anything is made of it.
"""

from __future__ import annotations

import struct
import sys
from array import array
from typing import NamedTuple

MAX_WORKER_BYTES = 1024  # of a worker's name in UTF-8
MAX_HASHES = 1 << 16  # of one booking; a longer prompt is told by its first blocks

_BOOKED, _FIRST_TOKEN, _PROGRESS, _RELEASED = range(1, 5)
_NO_EXPECTATION = (1 << 32) - 1
_FLAG_FIRST_TOKEN, _FLAG_ENDED = 1, 2

_STATE = struct.Struct("<BQBI")  # operation, booking, flags, output tokens
_PLACE = struct.Struct("<IIIHI")  # rank, tokens, expected, bytes of the worker's name, hashes
_FIRST_TOKEN_OP = struct.Struct("<BQ")
_COUNTED_OP = struct.Struct("<BQI")  # of progress and released


class WireError(ValueError):
    """What came is no message of the exchange's format, or what is told does not fit into one."""


class Booked(NamedTuple):
    """A request of the sender's that runs on (worker, dp_rank), as far as it has come.

    ended: it is over already; its blocks are all that is left of it.
    """

    booking_id: int
    worker: str
    dp_rank: int
    num_tokens: int
    expected_output_tokens: int | None
    local_hashes: array[int]
    first_token: bool
    output_tokens: int
    ended: bool


class FirstToken(NamedTuple):
    booking_id: int


class Progress(NamedTuple):
    """`output_tokens` in all so far."""

    booking_id: int
    output_tokens: int


class Released(NamedTuple):
    """Over, after `output_tokens` in all."""

    booking_id: int
    output_tokens: int


Operation = Booked | FirstToken | Progress | Released


def place(
    worker: str,
    dp_rank: int,
    num_tokens: int,
    local_hashes: array[int],
    expected_output_tokens: int | None,
) -> bytes:
    """What of a booking never changes. WireError: a value that the format cannot hold."""
    try:
        name = worker.encode()
        if len(name) > MAX_WORKER_BYTES or local_hashes.typecode != "Q":
            raise WireError(f"booking: {len(name)} bytes of name, hashes {local_hashes.typecode!r}")
        hashes = local_hashes[:MAX_HASHES]
        if sys.byteorder == "big":
            hashes.byteswap()
        expected = _NO_EXPECTATION if expected_output_tokens is None else expected_output_tokens
        head = _PLACE.pack(dp_rank, num_tokens, expected, len(name), len(hashes))
    except (struct.error, AttributeError, UnicodeEncodeError) as error:
        raise WireError(f"booking: {error}") from error
    return head + name + hashes.tobytes()


def booked(
    booking_id: int, placed: bytes, *, first_token: bool, output_tokens: int, ended: bool
) -> bytes:
    """An operation; `placed` is what `place` gave, the other numbers must have passed `fits`."""
    flags = _FLAG_FIRST_TOKEN * first_token | _FLAG_ENDED * ended
    return _STATE.pack(_BOOKED, booking_id, flags, output_tokens) + placed


def first_token(booking_id: int) -> bytes:
    return _FIRST_TOKEN_OP.pack(_FIRST_TOKEN, booking_id)


def progress(booking_id: int, output_tokens: int) -> bytes:
    return _COUNTED_OP.pack(_PROGRESS, booking_id, output_tokens)


def released(booking_id: int, output_tokens: int) -> bytes:
    return _COUNTED_OP.pack(_RELEASED, booking_id, output_tokens)


def fits(number: object, bits: int) -> bool:
    """Whether it is an integer that a field of so many bits holds."""
    return isinstance(number, int) and 0 <= number < 1 << bits


def read(payload: bytes, at: int) -> tuple[Operation, int]:
    """The operation that begins there, and where the next one does."""
    tag = payload[at] if at < len(payload) else None
    if tag == _BOOKED:
        return _booked(payload, at)
    if tag == _FIRST_TOKEN:
        _, booking_id = _FIRST_TOKEN_OP.unpack_from(payload, at)
        return FirstToken(booking_id), at + _FIRST_TOKEN_OP.size
    if tag not in (_PROGRESS, _RELEASED):
        raise WireError(f"operation: got {tag}")
    _, booking_id, output_tokens = _COUNTED_OP.unpack_from(payload, at)
    kind = Progress if tag == _PROGRESS else Released
    return kind(booking_id, output_tokens), at + _COUNTED_OP.size


def _booked(payload: bytes, at: int) -> tuple[Booked, int]:
    _, booking_id, flags, output_tokens = _STATE.unpack_from(payload, at)
    at += _STATE.size
    dp_rank, num_tokens, expected, name_bytes, hash_count = _PLACE.unpack_from(payload, at)
    name_at = at + _PLACE.size
    hashes_at = name_at + name_bytes
    end = hashes_at + 8 * hash_count
    if flags > (_FLAG_FIRST_TOKEN | _FLAG_ENDED) or name_bytes > MAX_WORKER_BYTES:
        raise WireError(f"booking: flags {flags}, {name_bytes} bytes of name")
    if hash_count > MAX_HASHES or end > len(payload):
        raise WireError(f"booking: {hash_count} hashes in {len(payload) - hashes_at} bytes")
    hashes = array("Q")
    hashes.frombytes(memoryview(payload)[hashes_at:end])
    if sys.byteorder == "big":
        hashes.byteswap()
    booking = Booked(
        booking_id=booking_id,
        worker=payload[name_at:hashes_at].decode(),
        dp_rank=dp_rank,
        num_tokens=num_tokens,
        expected_output_tokens=None if expected == _NO_EXPECTATION else expected,
        local_hashes=hashes,
        first_token=bool(flags & _FLAG_FIRST_TOKEN),
        output_tokens=output_tokens,
        ended=bool(flags & _FLAG_ENDED),
    )
    return booking, end

"""The exchange's message format: what is written is read, and nonsense is refused and no more."""

from __future__ import annotations

import random
import tracemalloc
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kvroute.ray_serve.exchange import operations, wire
from kvroute.ray_serve.exchange.operations import (
    Booked,
    FirstToken,
    Operation,
    Progress,
    Released,
    WireError,
)

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
BOOKINGS = st.builds(
    Booked,
    booking_id=U64,
    worker=NAMES,
    dp_rank=U32,
    num_tokens=U32,
    expected_output_tokens=st.none() | st.integers(0, 2**32 - 2),
    local_hashes=st.lists(U64, max_size=8).map(lambda hashes: array("Q", hashes)),
    first_token=st.booleans(),
    output_tokens=U32,
    ended=st.booleans(),
)
OPERATIONS: st.SearchStrategy[Operation] = st.one_of(
    BOOKINGS,
    st.builds(FirstToken, U64),
    st.builds(Progress, U64, U32),
    st.builds(Released, U64, U32),
)


def written(operation: Operation) -> bytes:
    if isinstance(operation, FirstToken):
        return operations.first_token(operation.booking_id)
    if isinstance(operation, Progress):
        return operations.progress(operation.booking_id, operation.output_tokens)
    if isinstance(operation, Released):
        return operations.released(operation.booking_id, operation.output_tokens)
    placed = operations.place(
        operation.worker,
        operation.dp_rank,
        operation.num_tokens,
        operation.local_hashes,
        operation.expected_output_tokens,
    )
    return operations.booked(
        operation.booking_id,
        placed,
        first_token=operation.first_token,
        output_tokens=operation.output_tokens,
        ended=operation.ended,
    )


def payload(message: bytes) -> bytes:
    """What follows the length, which is checked."""
    length = wire.length_of(message[: wire.LENGTH_BYTES], wire.MAX_MESSAGE_BYTES)
    assert length == len(message) - wire.LENGTH_BYTES
    return message[wire.LENGTH_BYTES :]


def decoded(messages: list[bytes]) -> list[Operation]:
    found = []
    for message in messages:
        batch = wire.decode(payload(message))
        assert isinstance(batch, wire.Batch)
        found += batch.operations
    return found


def booking(number: int, hashes: int, worker: str = "w0") -> bytes:
    placed = operations.place(worker, 0, 16 * hashes, array("Q", range(hashes)), None)
    return operations.booked(number, placed, first_token=False, output_tokens=0, ended=False)


@given(st.lists(OPERATIONS, max_size=20))
def test_what_is_written_is_read(told: list[Operation]) -> None:
    assert decoded(list(wire.batches(map(written, told)))) == told


@given(st.binary(min_size=8, max_size=8), NAMES, st.integers(0, 65535), U32)
def test_a_hello_is_read_as_it_was_written(
    member: bytes, host: str, port: int, block_size: int
) -> None:
    proof = wire.proof_of(b"s" * wire.SECRET_BYTES, member.hex(), "00" * 8)
    hello = wire.Hello(member.hex(), host, port, block_size, proof)
    assert wire.decode(payload(wire.hello(hello))) == hello
    assert len(wire.hello(hello)) <= wire.MAX_HELLO_BYTES


@pytest.mark.parametrize(
    ("message", "meaning"),
    [
        (wire.BEAT, wire.Beat()),
        (wire.BYE, wire.Bye()),
        (wire.SNAPSHOT_END, wire.SnapshotEnd()),
    ],
)
def test_short_messages_are_read(message: bytes, meaning: wire.Message) -> None:
    read = wire.decode(payload(message))
    assert type(read) is type(meaning)


def test_many_operations_go_in_several_messages_within_the_bounds() -> None:
    many = [operations.first_token(n) for n in range(2 * wire.MAX_OPERATIONS + 1)]
    large = [booking(n, 40_000) for n in range(7)]  # 320,000 bytes each
    messages = list(wire.batches(many + large))
    assert len(messages) == 5, "two full ones, one with both, three large ones, and the last"
    assert all(len(message) <= wire.MAX_MESSAGE_BYTES + wire.LENGTH_BYTES for message in messages)
    assert len(decoded(messages)) == len(many) + len(large)


def test_the_largest_booking_fits_into_a_message() -> None:
    (message,) = wire.batches([booking(1, wire.MAX_OPERATIONS + operations.MAX_HASHES, "w" * 1024)])
    (read,) = decoded([message])
    assert isinstance(read, Booked)
    assert len(read.local_hashes) == operations.MAX_HASHES, "the first blocks of a longer prompt"


@pytest.mark.parametrize(
    "place",
    [
        ("w" * 1025, 0, 16, array("Q", [1]), None),
        ("\ud800", 0, 16, array("Q", [1]), None),
        (7, 0, 16, array("Q", [1]), None),
        ("w0", -1, 16, array("Q", [1]), None),
        ("w0", 0, 2**32, array("Q", [1]), None),
        ("w0", 0, 16, array("I", [1]), None),
        ("w0", 0, 16, [1], None),
        ("w0", 0, 16, array("Q", [1]), "many"),
    ],
)
def test_what_the_format_cannot_hold_is_refused(place: tuple[object, ...]) -> None:
    with pytest.raises(WireError):
        operations.place(*place)  # type: ignore[arg-type] # mistakes on purpose


def test_a_proof_holds_for_one_sender_and_one_receiver_of_one_secret() -> None:
    secret, a, b = b"s" * 32, "0a" * 8, "0b" * 8
    proofs = {
        wire.proof_of(secret, a, b),
        wire.proof_of(secret, b, a),
        wire.proof_of(secret, a, a),
        wire.proof_of(b"t" * 32, a, b),
    }
    assert len(proofs) == 4
    assert secret not in b"".join(proofs)


@settings(max_examples=500)
@given(st.binary(max_size=200))
def test_random_bytes_are_refused_or_read(data: bytes) -> None:
    for body in (data, bytes([wire.VERSION]) + data, bytes([wire.VERSION, 2]) + data):
        try:
            wire.decode(body)
        except WireError:
            continue


def test_mutated_messages_are_refused_or_read_without_much_memory() -> None:
    rng = random.Random(7)
    valid = [
        payload(message)
        for message in wire.batches(
            [
                booking(1, 3),
                operations.first_token(1),
                operations.progress(1, 40),
                booking(2, 50, "replica#2"),
                operations.released(2, 8),
            ]
        )
    ]
    valid.append(payload(wire.hello(wire.Hello("ab" * 8, "10.0.0.1", 4711, 16, b"p" * 32))))
    refused = 0
    tracemalloc.start()
    try:
        for _ in range(20_000):
            body = bytearray(rng.choice(valid))
            for _ in range(rng.randint(1, 4)):
                mutate(body, rng)
            try:
                wire.decode(bytes(body))
            except WireError:
                refused += 1
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 5_000 < refused < 20_000
    assert peak < 200_000, "memory follows the bytes that came, not the numbers in them"


def mutate(body: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(body) + 1)
    change = rng.randrange(4)
    if change == 0 and at < len(body):
        body[at] = rng.randrange(256)
    elif change == 1 and at + 4 <= len(body):
        body[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\0\0\0\x80", b"\0\0\1\0"])
    elif change == 2:
        del body[at:]
        body += b"\0" * max(0, 2 - len(body))
    else:
        body[at:at] = rng.randbytes(rng.randrange(12))


@pytest.mark.parametrize("length", [0, 1, wire.MAX_MESSAGE_BYTES + 1, 2**32 - 1])
def test_a_length_beyond_its_bounds_is_refused(length: int) -> None:
    with pytest.raises(WireError, match="length"):
        wire.length_of(length.to_bytes(4, "little"), wire.MAX_MESSAGE_BYTES)


def test_another_version_is_refused() -> None:
    with pytest.raises(WireError, match="version: expected 1, got 9"):
        wire.decode(bytes([9]) + payload(wire.BEAT)[1:])

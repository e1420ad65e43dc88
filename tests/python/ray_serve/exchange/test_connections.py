"""Connections between exchanges: whoever may not speak, does not, or speaks nonsense is cut off."""

from __future__ import annotations

import contextlib
import random
import socket
import time
from array import array
from collections.abc import Iterator
from dataclasses import replace

import pytest
from exchange_harness import QUICK, Member, eventually
from kvroute.ray_serve.exchange import ExchangeLimits, LocalRendezvous, operations, wire
from kvroute.ray_serve.exchange import Member as Listed

STRANGER = "5a" * wire.MEMBER_BYTES
PATIENT = replace(QUICK, silence_s=60.0, beat_s=60.0, heartbeat_s=60.0)


def address_of(member: Member) -> Listed:
    """Where it listens, as soon as it does."""

    def found() -> Listed | None:
        loop = member.exchange._loop
        return None if loop is None else loop._me

    eventually(lambda: found() is not None)
    listed = found()
    assert listed is not None
    return listed


class Target:
    """One exchange, and what a peer of it knows."""

    def __init__(self, limits: ExchangeLimits = QUICK) -> None:
        self.member = Member(LocalRendezvous(), limits=limits)
        self.listed = address_of(self.member)
        assert self.member.exchange._loop is not None
        self.secret = self.member.exchange._loop._attendance.secret

    def requests(self) -> int:
        return self.member.loads().get("w0", (0, 0, 0))[0]

    def connect(self) -> socket.socket:
        return socket.create_connection((self.listed.host, self.listed.port), timeout=20)

    def hello(self, member: str = STRANGER, secret: bytes | None = None) -> bytes:
        proof = wire.proof_of(secret or self.secret, member, self.listed.name)
        return wire.hello(wire.Hello(member, "127.0.0.1", 1, 16, proof))

    def friend(self, member: str = STRANGER) -> socket.socket:
        """A connection that was let in."""
        connection = self.connect()
        connection.sendall(self.hello(member))
        assert connection.recv(len(wire.BEAT)) == wire.BEAT
        return connection


def is_cut_off(connection: socket.socket) -> bool:
    """Waits until it is; beats are passed over."""
    try:
        while connection.recv(4096):
            pass
    except ConnectionError:
        pass
    return True


def snapshot_of(connection: socket.socket) -> set[int]:
    """The bookings that are told until the snapshot's end."""
    told: set[int] = set()
    stream = connection.makefile("rb")
    while True:
        length = wire.length_of(stream.read(4), wire.MAX_MESSAGE_BYTES)
        message = wire.decode(stream.read(length))
        if isinstance(message, wire.Batch):
            told |= {one.booking_id for one in message.operations}
        if isinstance(message, wire.SnapshotEnd):
            return told


@pytest.fixture
def target() -> Iterator[Target]:
    made = Target()
    yield made
    made.member.close()


def booking(number: int) -> bytes:
    placed = operations.place("w0", 0, 165, array("Q", range(10)), None)
    return operations.booked(number, placed, first_token=False, output_tokens=0, ended=False)


def test_who_knows_the_secret_is_heard(target: Target) -> None:
    with target.friend() as connection:
        for message in wire.batches([booking(1), booking(2)]):
            connection.sendall(message)
        eventually(lambda: target.member.loads() == {"w0": (2, 10, 170)})
        connection.sendall(wire.BYE)
        assert is_cut_off(connection)
    eventually(lambda: not target.member.loads())
    assert target.member.number("rejected") == 0


@pytest.mark.parametrize("how", ["secret", "replay", "block size", "version", "no hello", "twice"])
def test_who_may_not_speak_is_cut_off(
    target: Target, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    said = {
        "secret": target.hello(secret=b"x" * 32),
        "replay": wire.hello(
            wire.Hello(STRANGER, "h", 1, 16, wire.proof_of(target.secret, "00" * 8, "11" * 8))
        ),
        "block size": wire.hello(
            wire.Hello(
                STRANGER, "h", 1, 32, wire.proof_of(target.secret, STRANGER, target.listed.name)
            )
        ),
        "version": target.hello().replace(bytes([wire.VERSION]), bytes([9]), 1),
        "no hello": next(iter(wire.batches([booking(1)]))),
        "twice": target.hello() * 2,
    }[how]
    for _ in range(3):
        with target.connect() as connection:
            connection.sendall(said)
            assert is_cut_off(connection)
    eventually(lambda: target.member.number("rejected") == 3)
    assert target.member.loads() == {}
    assert len([one for one in caplog.records if "cut off" in one.message]) == 1, "logged once"


def test_who_says_nothing_or_too_little_at_a_time_is_cut_off(target: Target) -> None:
    began = time.monotonic()
    with target.connect() as silent, target.connect() as slow:
        slow.sendall(target.hello()[:7])
        assert is_cut_off(silent)
        assert is_cut_off(slow)
    assert time.monotonic() - began < 20
    eventually(lambda: target.member.number("rejected") == 2)


def test_a_peer_that_falls_silent_is_cut_off(target: Target) -> None:
    with target.friend() as connection:
        connection.sendall(next(iter(wire.batches([booking(1)]))))
        eventually(lambda: bool(target.member.loads()))
        assert is_cut_off(connection)
    eventually(lambda: not target.member.loads())


@pytest.mark.parametrize("length", [wire.MAX_MESSAGE_BYTES + 1, 2**32 - 1, 0, 1])
def test_a_length_beyond_the_bounds_cuts_a_peer_off(target: Target, length: int) -> None:
    with target.friend() as connection:
        connection.sendall(length.to_bytes(4, "little"))
        assert is_cut_off(connection)
    assert target.member.number("rejected") == 1


def test_nonsense_from_strangers_and_peers_harms_nobody(target: Target) -> None:
    rng = random.Random(3)
    for number in range(40):
        with target.friend() if number % 2 else target.connect() as connection:
            body = rng.randbytes(rng.randrange(2, 300))
            try:
                connection.sendall(len(body).to_bytes(4, "little") + body)
                connection.shutdown(socket.SHUT_WR)
            except ConnectionError:
                continue
            assert is_cut_off(connection)
    with target.friend() as connection:
        connection.sendall(next(iter(wire.batches([booking(1)]))))
        eventually(lambda: bool(target.member.loads()))


def test_a_peer_that_begins_anew_replaces_its_half_open_connection(target: Target) -> None:
    with target.friend() as old:
        old.sendall(next(iter(wire.batches([booking(1), booking(2)]))))
        eventually(lambda: target.requests() == 2)
        with target.friend() as new:
            assert is_cut_off(old)
            new.sendall(next(iter(wire.batches([booking(2)]))) + wire.SNAPSHOT_END)
            eventually(lambda: target.requests() == 1)
    assert target.member.number("rejected") == 0


def test_a_peer_that_does_not_read_is_dropped_and_gets_a_snapshot_when_it_comes_back() -> None:
    small = replace(PATIENT, max_queue_bytes=100_000, heartbeat_s=0.05)
    rendezvous = LocalRendezvous()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        rendezvous.meet(Listed(STRANGER, *server.getsockname()), b"s" * 32)
        member = Member(rendezvous, limits=small)
        try:
            with server.accept()[0] as deaf:
                deaf.sendall(wire.BEAT)
                eventually(lambda: member.number("peers") == 1)
                numbers = iter(range(100_000))

                def dropped() -> bool:
                    for _ in range(20):
                        member.book(next(numbers), "w0", blocks=600)
                    return member.number("resyncs") == 1

                eventually(dropped)
            with server.accept()[0] as reading:
                reading.sendall(wire.BEAT)
                assert snapshot_of(reading) == set(member.own)
        finally:
            member.close()


def test_a_snapshot_of_many_bookings_reaches_a_peer_that_falls_behind_while_others_are_made() -> (
    None
):
    small = replace(PATIENT, max_queue_bytes=400_000, heartbeat_s=0.05)
    rendezvous = LocalRendezvous()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        member = Member(rendezvous, limits=small)
        try:
            for number in range(2000):  # more bytes than the system keeps for a connection
                member.book(number, "w0", blocks=600)
            eventually(lambda: member.number("live") == 2000)
            rendezvous.meet(Listed(STRANGER, *server.getsockname()), b"s" * 32)
            with server.accept()[0] as slow:
                slow.sendall(wire.BEAT)
                eventually(lambda: member.number("peers") == 1)
                for number in range(2000, 2005):
                    sent = member.number("sent_operations")
                    member.book(number, "w0")
                    eventually(lambda sent=sent: member.number("sent_operations") > sent)
                assert snapshot_of(slow) == set(range(2005))
            assert member.number("resyncs") == 0
        finally:
            member.close()


def test_strangers_are_bounded_in_number_and_keep_no_peer_out() -> None:
    few = replace(PATIENT, max_peers=2, connect_s=60.0)
    target = Target(few)
    with target.friend() as friend, contextlib.ExitStack() as strangers:
        for _ in range(80):
            strangers.enter_context(target.connect())
        eventually(lambda: target.member.number("rejected") == 80 - 64)
        with target.friend(member="5b" * wire.MEMBER_BYTES):
            assert target.member.number("incoming") == 2
            friend.sendall(next(iter(wire.batches([booking(1)]))))
            eventually(lambda: target.requests() == 1)
    target.member.close()


def test_members_beyond_the_most_peers_are_counted() -> None:
    rendezvous = LocalRendezvous()
    for number in range(3):
        rendezvous.meet(Listed(f"{number:016x}", "127.0.0.1", 1), b"s" * 32)
    member = Member(rendezvous, limits=replace(QUICK, max_peers=1))
    eventually(lambda: member.number("unmet") >= 2)
    member.close()

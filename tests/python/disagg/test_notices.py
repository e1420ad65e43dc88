from __future__ import annotations

import asyncio
from typing import Any

import msgpack
import pytest
import zmq
from kvroute.disagg.connector import HandoffError
from kvroute.disagg.connectors.notices import NoticeCounts, Notices


def notice(req_id: Any, kind: str = "ProxyNotif") -> bytes:
    packed = msgpack.packb({"type": kind, "req_id": req_id})
    assert isinstance(packed, bytes)
    return packed


def unbound() -> Notices:
    return Notices("127.0.0.1", 0)


@pytest.mark.parametrize("kind", ["ProxyNotif", "PDMsg"])
async def test_a_handoff_is_ready_when_each_rank_has_sent_one(kind: str) -> None:
    notices = unbound()
    notices.expect("a", 2)
    notices.take(notice("a", kind))
    with pytest.raises(HandoffError, match="1 of the prefill engine's ranks") as caught:
        await notices.wait("a", 0.001)
    assert caught.value.timed_out
    notices.take(notice("a", kind))
    await notices.wait("a", 0.001)


async def test_a_notice_that_comes_before_the_wait_counts() -> None:
    notices = unbound()
    notices.expect("a", 1)
    notices.take(notice("a"))
    await notices.wait("a", 0.001)


def test_duplicate_late_and_unknown_notices_are_counted_and_dropped() -> None:
    notices = unbound()
    notices.expect("a", 1)
    for _ in range(3):
        notices.take(notice("a"))
    notices.forget("a")
    notices.forget("a")
    notices.take(notice("a"))
    notices.take(notice("b"))
    assert notices.counts == NoticeCounts(taken=1, surplus=2, late=1, unknown=1)
    assert notices.expected == 0


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xc1",
        b"\x93",
        b"\xdf\xff\xff\xff\xff",
        b"\x91" * 2000,
        msgpack.packb(7),
        msgpack.packb({"type": "AllocRequest", "req_id": "a"}),
        msgpack.packb({"type": "ProxyNotif"}),
        msgpack.packb({"type": "ProxyNotif", "req_id": 5}),
        msgpack.packb({"type": ["ProxyNotif"], "req_id": "a"}),
        b"\x82\xa4type\xaaProxyNotif\xa6req_id\xa2\xff\xfe",
        b"\x81\x90\x01",
    ],
)
def test_what_is_no_notice_is_counted_and_dropped(message: bytes) -> None:
    notices = unbound()
    notices.expect("a", 1)
    notices.take(message)
    assert notices.counts == NoticeCounts(malformed=1)


def test_a_flood_of_unknown_notices_leaves_nothing_behind() -> None:
    notices = unbound()
    for number in range(20_000):
        notices.take(notice(f"x{number}"))
    assert (notices.counts.unknown, notices.expected) == (20_000, 0)
    for number in range(10_000):
        notices.expect(str(number), 1)
        notices.forget(str(number))
    notices.take(notice("9999"))
    notices.take(notice("0"))
    assert (notices.counts.late, notices.counts.unknown) == (1, 20_001)


async def test_a_flood_on_the_socket_does_not_keep_a_handoff_waiting() -> None:
    notices = unbound()
    await notices.open()
    context = zmq.Context()
    try:
        socket = context.socket(zmq.PUSH)
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.connect(notices.endpoint)
        notices.expect("a", 1)
        for number in range(3000):
            socket.send(notice(f"x{number}"))
        socket.send(b"x" * 100)
        socket.send_multipart([notice("a"), b"more"])
        socket.send(notice("a"))
        await notices.wait("a", 30)
        assert (notices.counts.unknown, notices.counts.malformed) == (3000, 2)
    finally:
        context.destroy(linger=0)
        await notices.close()


async def test_closing_ends_who_waits() -> None:
    notices = unbound()
    await notices.open()
    notices.expect("a", 1)
    waiting = asyncio.create_task(notices.wait("a", 60))
    await asyncio.sleep(0)
    await notices.close()
    with pytest.raises(HandoffError, match="closed while waiting"):
        await waiting
    assert notices.endpoint == ""


async def test_waiting_for_what_is_not_expected_or_twice_is_refused() -> None:
    notices = unbound()
    with pytest.raises(HandoffError, match="no notice is expected of handoff a"):
        await notices.wait("a", 1)
    notices.expect("a", 1)
    with pytest.raises(ValueError, match="req_id: expected a new one"):
        notices.expect("a", 1)


async def test_a_port_in_use_names_the_address_and_a_name_is_resolved() -> None:
    first = Notices("localhost", 0)
    await first.open()
    try:
        host, port = first.endpoint.removeprefix("tcp://").rsplit(":", 1)
        second = Notices(host.strip("[]"), int(port))
        with pytest.raises(OSError, match=f"proxy_host, proxy_port: cannot bind .*:{port}"):
            await second.open()
        await second.close()
    finally:
        await first.close()

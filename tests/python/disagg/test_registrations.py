"""P2P NCCL's engines say where they are, and nobody says so for them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from functools import partial

import msgpack
import pytest
import zmq
import zmq.asyncio
from handoffs import client_request, handoff, header_of
from kvroute.disagg.connector import HandoffError
from kvroute.disagg.connectors.p2p_nccl import P2pNcclConnector, P2pNcclOptions
from kvroute.disagg.connectors.registrations import Registrations
from kvroute.disagg.connectors.worker_hosts import WorkerHosts
from kvroute.disagg.legs import Worker

NAMES = {"p": ["10.0.0.1", "::ffff:10.0.0.9"], "d": ["10.0.0.2"], "10.0.0.3": ["10.0.0.3"]}
WORKERS = ("http://P:1/", "http://d:2", "http://10.0.0.3:3")


def registration(kind: str, http: object, address: object) -> bytes:
    packed = msgpack.packb({"type": kind, "http_address": http, "zmq_address": address})
    assert isinstance(packed, bytes)
    return packed


async def resolve(name: str) -> Collection[str]:
    if name not in NAMES:
        raise OSError("no such host")
    return NAMES[name]


class Fleet:
    """The registrations of WORKERS, with a clock that is set."""

    def __init__(self, others: str | Collection[str] = ()) -> None:
        self.now = 0.0
        self.hosts = WorkerHosts(others, resolve)
        self.engines = Registrations({}, "127.0.0.1", None, 10, self.hosts, clock=lambda: self.now)
        self.engines.workers_are(WORKERS)

    async def __aenter__(self) -> Fleet:
        await self.hosts.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.hosts.close()

    def say(self, http: object, address: object, peer: str, kind: str = "P") -> None:
        self.engines.take([registration(kind, http, address)], peer)


async def test_p2p_nccl_learns_addresses_from_engines_that_register(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = P2pNcclOptions(registration_host="127.0.0.1", registration_port=0)
    connector = P2pNcclConnector(options)
    prefill, decode = Worker("http://localhost:8100"), Worker("http://localhost:8200")
    connector.workers_are([prefill], [decode])
    started = handoff(
        client_request({"prompt": [1], "max_tokens": 1}), prefill=prefill, decode=decode
    )
    with pytest.raises(HandoffError, match="http://localhost:8100 has not registered"):
        connector.begin(started)
    both = asyncio.Event()
    take = Registrations.take

    def taken(engines: Registrations, frames: list[bytes], peer: str) -> None:
        take(engines, frames, peer)
        if engines.zmq_address(decode.url) is not None:
            both.set()

    monkeypatch.setattr(
        connector.registrations._binding, "_take", partial(taken, connector.registrations)
    )
    await connector.open()
    context = zmq.asyncio.Context()
    try:
        socket = context.socket(zmq.DEALER)
        socket.connect(connector.registrations.endpoint)
        await socket.send(registration("P", "127.0.0.1:8100", "10.0.0.1:21001"))
        await socket.send(registration("D", "localhost:8200", "10.0.0.2:22001"))
        await both.wait()
        leg = connector.begin(started).prefill()
        assert b"10.0.0.1:21001" in header_of(leg, b"x-request-id")[0]
        assert connector.messages() == {"taken": 2, "malformed": 0, "refused": 0}
    finally:
        context.destroy(linger=0)
        await connector.close()


async def test_an_engine_that_is_not_heard_again_is_forgotten() -> None:
    async with Fleet() as fleet:
        fleet.say("P:1", "a:2", "10.0.0.1")
        fleet.now = 10.0
        assert fleet.engines.zmq_address("http://p:1/") == "a:2"
        fleet.say("p:1", "b:2", "10.0.0.1")
        fleet.now = 20.1
        assert fleet.engines.zmq_address("http://p:1") is None


@pytest.mark.parametrize(
    ("http", "peer", "worker"),
    [
        ("p:1", "10.0.0.1", "http://p:1"),
        ("10.0.0.1:1", "10.0.0.1", "http://p:1"),
        ("10.0.0.9:1", "10.0.0.1", "http://p:1"),
        ("p:1", "10.0.0.9", "http://p:1"),
        ("10.0.0.3:3", "10.0.0.3", "http://10.0.0.3:3"),
    ],
)
async def test_an_engine_is_known_by_its_name_and_its_addresses(
    http: str, peer: str, worker: str
) -> None:
    async with Fleet() as fleet:
        fleet.say(http, "a:2", peer)
        assert fleet.engines.zmq_address(worker) == "a:2"


@pytest.mark.parametrize(
    ("http", "peer"),
    [
        ("d:2", "10.0.0.1"),
        ("d:2", "6.6.6.6"),
        ("6.6.6.6:2", "6.6.6.6"),
        ("d:1", "10.0.0.2"),
        ("10.0.0.2:1", "10.0.0.2"),
        ("d:" + "2" * 5000, "10.0.0.2"),
    ],
)
async def test_nobody_registers_an_engine_but_its_own_host(http: str, peer: str) -> None:
    async with Fleet() as fleet:
        fleet.say("d:2", "right:1", "10.0.0.2", "D")
        fleet.say(http, "forged:1", peer, "D")
        assert (fleet.engines.taken, fleet.engines.refused) == (1, 1)
        assert fleet.engines.zmq_address("http://d:2") == "right:1"


async def test_invented_engines_put_no_real_one_out_and_take_no_memory() -> None:
    async with Fleet() as fleet:
        fleet.say("p:1", "right:1", "10.0.0.1")
        for number in range(5000):
            fleet.say(f"x{number}:1", "y:1", "10.0.0.1")
        assert fleet.engines.zmq_address("http://p:1") == "right:1"
        assert len(fleet.engines._heard) == 1


@pytest.mark.parametrize(("others", "taken"), [(["6.6.6.6"], 1), ("any", 2), ([], 0)])
async def test_who_else_may_register_is_an_option(others: str | list[str], taken: int) -> None:
    async with Fleet(others) as fleet:
        fleet.say("d:2", "a:1", "6.6.6.6", "D")
        fleet.say("d:2", "a:1", "7.7.7.7", "D")
        fleet.say("x:2", "a:1", "6.6.6.6", "D")
        assert fleet.engines.taken == taken


async def test_a_fleet_that_changes_and_a_name_that_cannot_be_resolved_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Fleet() as fleet:
        fleet.say("d:2", "a:1", "10.0.0.2", "D")
        monkeypatch.delitem(NAMES, "d")
        await fleet.hosts._refresh()
        fleet.say("d:2", "b:1", "10.0.0.2", "D")
        assert fleet.engines.zmq_address("http://d:2") == "b:1"
        fleet.engines.workers_are(WORKERS[:1])
        assert fleet.engines.zmq_address("http://d:2") is None
        fleet.say("d:2", "c:1", "10.0.0.2", "D")
        assert fleet.engines.refused == 1


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b"", b"", registration("P", "p:1", "a:2")],
        [b"\xc1"],
        [registration("X", "p:1", "a:2")],
        [registration("P", 5, "a:2")],
        [registration("P", "p:1", "a")],
        [registration("P", "p:1", "a:2\r\nx: 3")],
        [registration("P", "p:1", "a___decode_addr_b:2")],
    ],
)
async def test_what_is_no_registration_is_counted_and_dropped(frames: list[bytes]) -> None:
    async with Fleet() as fleet:
        fleet.engines.take(frames, "10.0.0.1")
        assert fleet.engines.malformed == 1
        assert fleet.engines.zmq_address("http://p:1") is None

"""SGLang and Mooncake: both legs at once."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from handoffs import body_of, client_request, handoff, header_of
from kvroute.disagg.connector import Connector, HandoffError
from kvroute.disagg.connectors.engine_ids import EngineIds
from kvroute.disagg.legs import Worker
from kvroute.disagg.registry import ConnectorError, make_connector

FIELDS: dict[str, Any] = {"prompt": "x", "stream": True, "max_tokens": 20}
TWO_RANKS = b'{"0": {"engine_id": "e0", "more": 1}, "1": {"engine_id": "e1"}}'


def test_sglang_gives_both_legs_one_room() -> None:
    transfer = make_connector("sglang").begin(handoff(client_request(FIELDS)))
    prefill, decode = body_of(transfer.prefill()), body_of(transfer.decode())
    assert prefill == decode
    room = prefill.pop("bootstrap_room")
    assert 0 <= room < 2**63
    assert prefill == {**FIELDS, "bootstrap_host": "prefill", "bootstrap_port": 8998}
    body = b'{"usage":{"prompt_tokens_details":{"cached_tokens":3}}}'
    assert transfer.relay().whole(body) == body


def test_sglang_rooms_are_unique() -> None:
    connector = make_connector("sglang")
    started = [connector.begin(handoff(client_request(FIELDS))) for _ in range(100)]
    assert len({body_of(one.prefill())["bootstrap_room"] for one in started}) == 100


@pytest.mark.parametrize("prompt", [["a", "b", "c"], [[1], [2], [3]], ["a"], [[1, 2]]])
def test_sglang_gives_each_prompt_of_a_batch_a_room(prompt: list[Any]) -> None:
    transfer = make_connector("sglang").begin(handoff(client_request({"prompt": prompt})))
    body = body_of(transfer.prefill())
    assert body == body_of(transfer.decode())
    count = len(prompt)
    assert body["bootstrap_host"] == ["prefill"] * count
    assert body["bootstrap_port"] == [8998] * count
    assert len(set(body["bootstrap_room"])) == count


def test_sglang_tells_the_ranks() -> None:
    workers = handoff(client_request(FIELDS), Worker("http://[::1]:1", 2), Worker("http://d", 0))
    transfer = make_connector("sglang").begin(workers)
    prefill, decode = body_of(transfer.prefill()), body_of(transfer.decode())
    assert prefill["bootstrap_host"] == decode["bootstrap_host"] == "::1"
    assert prefill["routed_dp_rank"] == 2
    assert "disagg_prefill_dp_rank" not in prefill
    assert (decode["routed_dp_rank"], decode["disagg_prefill_dp_rank"]) == (0, 2)
    assert header_of(transfer.prefill(), b"x-data-parallel-rank") == [b"2"]


def test_a_worker_may_have_a_bootstrap_port_of_its_own() -> None:
    ports = {"bootstrap_port": 9000, "bootstrap_ports": {"http://PREFILL:8100/": 9001}}
    connector = make_connector("sglang", ports)
    other = Worker("http://other:8100")
    legs = [connector.begin(handoff(client_request(FIELDS))).prefill()]
    legs.append(connector.begin(handoff(client_request(FIELDS), other)).prefill())
    assert [body_of(leg)["bootstrap_port"] for leg in legs] == [9001, 9000]


class Servers:
    """Bootstrap servers that answer `body`, or fail with an exception."""

    def __init__(self, body: bytes | Exception) -> None:
        self.body = body
        self.asked: list[str] = []
        self.was_asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def fetch(self, url: str) -> bytes:
        self.asked.append(url)
        self.was_asked.set()
        await self.may_answer.wait()
        if isinstance(self.body, Exception):
            raise self.body
        return self.body


async def mooncake(servers: Servers, **options: Any) -> Connector:
    connector = make_connector("mooncake", options)
    await connector.open(servers.fetch)
    return connector


async def test_mooncake_names_transfer_engine_and_bootstrap_server() -> None:
    servers = Servers(TWO_RANKS)
    connector = await mooncake(servers)
    started = handoff(client_request(FIELDS), Worker("http://prefill:8100", 1))
    transfer = connector.begin(started)
    await transfer.prepare()
    assert servers.asked == ["http://prefill:8998/query"]
    transfer_id = f"xfer-{started.transfer_id}"
    assert body_of(transfer.prefill()) == {
        "prompt": "x",
        "stream": False,
        "max_tokens": 1,
        "kv_transfer_params": {
            "do_remote_prefill": False,
            "do_remote_decode": True,
            "transfer_id": transfer_id,
        },
    }
    assert header_of(transfer.prefill(), b"x-data-parallel-rank") == [b"1"]
    assert body_of(transfer.decode()) == {
        **FIELDS,
        "kv_transfer_params": {
            "do_remote_prefill": True,
            "do_remote_decode": False,
            "transfer_id": transfer_id,
            "remote_bootstrap_addr": "http://prefill:8998",
            "remote_engine_id": "e1",
        },
    }
    assert header_of(transfer.decode(), b"x-data-parallel-rank") == []
    await connector.close()


async def test_mooncake_pins_the_prefill_leg_to_the_rank_whose_engine_it_names() -> None:
    connector = await mooncake(Servers(TWO_RANKS))
    seen = set()
    for _ in range(40):
        transfer = connector.begin(handoff(client_request(FIELDS)))
        await transfer.prepare()
        (rank,) = header_of(transfer.prefill(), b"x-data-parallel-rank")
        engine = body_of(transfer.decode())["kv_transfer_params"]["remote_engine_id"]
        assert engine == f"e{rank.decode()}"
        seen.add(engine)
    assert seen == {"e0", "e1"}


async def test_mooncake_tells_no_cached_tokens_that_nobody_counted() -> None:
    connector = await mooncake(Servers(TWO_RANKS))
    transfer = connector.begin(handoff(client_request(FIELDS)))
    await transfer.prepare()
    body = orjson.dumps({"usage": {"prompt_tokens_details": {"cached_tokens": 9}}})
    assert orjson.loads(transfer.relay().whole(body)) == {"usage": {"prompt_tokens_details": None}}


async def test_a_bootstrap_server_is_asked_once_until_a_leg_fails() -> None:
    servers = Servers(TWO_RANKS)
    connector = await mooncake(servers)
    transfers = [connector.begin(handoff(client_request(FIELDS))) for _ in range(5)]
    await asyncio.gather(*(one.prepare() for one in transfers))
    await transfers[0].prepare()
    assert len(servers.asked) == 1
    transfers[0].failed()
    await transfers[1].prepare()
    assert len(servers.asked) == 2


async def test_an_answer_is_believed_for_a_while() -> None:
    now = [0.0]
    servers = Servers(TWO_RANKS)
    ids = EngineIds(servers.fetch, timeout=1, lifetime=10, clock=lambda: now[0])
    assert await ids.of("http://s") == {0: "e0", 1: "e1"}
    now[0] = 9.9
    await ids.of("http://s")
    assert len(servers.asked) == 1
    now[0] = 10.0
    await ids.of("http://s")
    assert len(servers.asked) == 2


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (OSError("refused"), "cannot GET http://prefill:8998/query"),
        (b"<html>", "expected a JSON object keyed by rank"),
        (b"[]", "expected a JSON object keyed by rank"),
        (b"{}", "expected engine_id of at least one rank"),
        (b'{"x": {"engine_id": "e"}}', "expected engine_id of at least one rank"),
        (b'{"0": {"engine_id": 5}}', "expected engine_id of at least one rank"),
    ],
)
async def test_a_bad_bootstrap_server_ends_the_handoff_and_is_asked_again(
    body: bytes | Exception, message: str
) -> None:
    servers = Servers(body)
    connector = await mooncake(servers)
    transfer = connector.begin(handoff(client_request(FIELDS)))
    with pytest.raises(HandoffError, match=message):
        await transfer.prepare()
    servers.body = TWO_RANKS
    await transfer.prepare()
    assert len(servers.asked) == 2


async def test_a_rank_that_the_server_does_not_know_is_asked_for_again() -> None:
    servers = Servers(TWO_RANKS)
    connector = await mooncake(servers)
    transfer = connector.begin(handoff(client_request(FIELDS), Worker("http://prefill:8100", 2)))
    for _ in range(2):
        with pytest.raises(HandoffError, match="knows no engine at rank 2"):
            await transfer.prepare()
    assert len(servers.asked) == 2


async def test_a_bootstrap_server_that_is_silent_times_out() -> None:
    servers = Servers(TWO_RANKS)
    servers.may_answer.clear()
    connector = await mooncake(servers, query_timeout=0.01)
    with pytest.raises(HandoffError, match="did not answer within 0.01 s") as caught:
        await connector.begin(handoff(client_request(FIELDS))).prepare()
    assert caught.value.timed_out


async def test_one_asker_that_leaves_does_not_stop_another_and_closing_stops_all() -> None:
    servers = Servers(TWO_RANKS)
    servers.may_answer.clear()
    ids = EngineIds(servers.fetch, timeout=60, lifetime=10)
    first, second = (asyncio.create_task(ids.of("http://s")) for _ in range(2))
    await servers.was_asked.wait()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    servers.may_answer.set()
    assert await second == {0: "e0", 1: "e1"}
    servers.may_answer.clear()
    servers.was_asked.clear()
    third = asyncio.create_task(ids.of("http://t"))
    await servers.was_asked.wait()
    await ids.close()
    with pytest.raises(HandoffError, match="closed while asking"):
        await third


async def test_mooncake_needs_something_to_ask_with() -> None:
    connector = make_connector("mooncake")
    with pytest.raises(ValueError, match="fetch: mooncake asks bootstrap servers"):
        await connector.open()
    with pytest.raises(HandoffError, match="not open"):
        connector.begin(handoff(client_request(FIELDS)))


@pytest.mark.parametrize("name", ["sglang", "mooncake"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bootstrap_port": 0}, "bootstrap_port: expected a port"),
        ({"bootstrap_ports": {"p": 1}}, "bootstrap_ports key: expected an http"),
        ({"bootstrap_ports": {"http://p": "1"}}, r"bootstrap_ports\['http://p'\]: expected a port"),
        ({"bootstrap_ports": []}, "bootstrap_ports: expected an object"),
    ],
)
def test_wrong_bootstrap_ports_are_refused(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConnectorError, match=message):
        make_connector(name, options)

"""LMCache through the frontend: whose receiver is named, the notices, what is lost on the way."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import msgpack
import orjson
import pytest
import zmq
import zmq.asyncio
from disagg_harness import CHAT, PROMPT, Deployment, deployment, events, reason_of, text_of
from frontend_harness import running_app
from kvroute.disagg.connectors.lmcache import LmcacheConnector
from kvroute.disagg.connectors.notices import Notices
from kvroute.engines import SimulatedEngine
from kvroute.frontend import Settings, create_app
from kvroute.frontend.protocols import core_router
from kvroute.frontend.services import Services
from leaping_clock import LeapingClock

pytestmark = pytest.mark.timeout(120)

COMPLETION = "/v1/completions"
CHATS = "/v1/chat/completions"
RANKS = {"tensor_parallel_size": 2}
EVERY = 100  # as often as a test may ask
PATIENCE = 20.0


def notices_of(fleet: Deployment) -> Notices:
    services = fleet.frontend.app.services
    assert services is not None
    assert isinstance(services._connector, LmcacheConnector)
    return services._connector.notices


def received(engines: Any) -> list[int]:
    return [engine.core.transfers.ledger.received for engine in engines]


async def check(fleet: Deployment, path: str, stream: bool, **body: Any) -> None:
    """One request whose answer is the single engine's."""
    wanted = await fleet.single_answer(path, **body, stream=stream)
    if stream:
        status, answer, done = await fleet.stream(path, **body)
        assert done, answer
    else:
        status, answer, _ = await fleet.ask(path, **body)
    assert status == 200, answer
    assert (text_of(answer), reason_of(answer)) == (text_of(wanted), reason_of(wanted))
    await fleet.settled(2 * PATIENCE)
    assert notices_of(fleet).expected == 0


BODIES = [(COMPLETION, {"prompt": PROMPT, "max_tokens": 20}), (CHATS, {"messages": CHAT})]
both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
both_paths = pytest.mark.parametrize(("path", "body"), BODIES, ids=["completion", "chat"])


@both_ways
@both_paths
async def test_the_decode_leg_waits_for_the_notice_of_each_rank(
    tmp_path: Path, path: str, body: dict[str, Any], stream: bool
) -> None:
    async with deployment("lmcache", 1, 1, tmp_path, engines=RANKS) as fleet:
        await check(fleet, path, stream, **body)
        (prefill,), (decode,) = fleet.prefill, fleet.decode
        assert prefill.core.transfers.ledger.notices == 2
        assert notices_of(fleet).counts.taken == 2
        ledger = decode.core.transfers.ledger
        assert (ledger.received, dict(ledger.missed)) == (1, {})


async def test_the_spec_is_that_of_the_decoder_used(tmp_path: Path) -> None:
    """#890's test: 2P4D with a registry."""
    async with deployment("lmcache", 2, 4, tmp_path, engines=RANKS) as fleet:
        for number in range(12):
            prompt = [number, *PROMPT]
            before = received(fleet.decode)
            status, _, headers = await fleet.ask(COMPLETION, prompt=prompt, max_tokens=4)
            assert status == 200
            used = [e.http_url for e in fleet.decode].index(headers["x-kvroute-worker"])
            before[used] += 1
            assert received(fleet.decode) == before
        assert received(fleet.decode) == [3, 3, 3, 3]
        assert received(fleet.prefill) == [0, 0]


@both_ways
async def test_after_a_failover_the_spec_is_that_of_the_other_decoder(
    tmp_path: Path, stream: bool
) -> None:
    async with deployment("lmcache", 1, 2, tmp_path, engines=RANKS) as fleet:
        await fleet.fault(fleet.decode[0], "decode_start", "error500")
        for number in range(2):  # one of them meets it
            await check(fleet, COMPLETION, stream, prompt=[number, *PROMPT], max_tokens=9)
        failures = {"model": "m", "leg": "decode", "reason": "status_5xx"}
        assert await fleet.frontend.metric("kvroute_disagg_leg_failures_total", **failures) == 1
        missed = fleet.decode[1].core.transfers.ledger.missed
        if stream:  # the first token is out: the other decoder goes on after it by itself
            assert (received(fleet.decode), sum(missed.values())) == ([1, 1], 1)
        else:
            assert (received(fleet.decode), dict(missed)) == ([1, 2], {})


@both_ways
@pytest.mark.parametrize("times", [1, EVERY], ids=["once", "always"])
async def test_a_lost_notice_costs_its_timeout_and_nothing_else(
    tmp_path: Path, times: int, stream: bool
) -> None:
    async with deployment(
        "lmcache",
        2,
        2,
        tmp_path,
        engines={**RANKS, "transfer_expiry": PATIENCE},
        transfer_timeout_seconds=PATIENCE,
    ) as fleet:
        for engine in fleet.prefill if times > 1 else fleet.prefill[:1]:
            await fleet.fault(engine, "notice", "error500", count=times)
        with LeapingClock().leaping():
            for number in range(2):  # one for each prefill engine
                await check(fleet, COMPLETION, stream, prompt=[number, *PROMPT], max_tokens=9)
        failures = {"model": "m", "leg": "prefill", "reason": "timeout"}
        failed = await fleet.frontend.metric("kvroute_disagg_leg_failures_total", **failures)
        assert failed == (1 if times == 1 else 2 if stream else 4)


@both_ways
async def test_a_late_notice_is_counted_and_dropped(tmp_path: Path, stream: bool) -> None:
    async with deployment("lmcache", 1, 1, tmp_path, transfer_timeout_seconds=PATIENCE) as fleet:
        late = 1.5 * PATIENCE
        await fleet.fault(fleet.prefill[0], "notice", "delay", seconds=late, count=EVERY)
        with LeapingClock().leaping():
            await check(fleet, COMPLETION, stream, prompt=PROMPT, max_tokens=9)
            counts = notices_of(fleet).counts
            while not counts.late:  # noqa: ASYNC110 - sockets tell nobody
                await asyncio.sleep(0.01)
        assert (counts.late, counts.taken, counts.unknown) == (1, 0, 0)


async def test_forged_and_broken_notices_are_counted_and_dropped(tmp_path: Path) -> None:
    async with deployment("lmcache", 1, 1, tmp_path, engines=RANKS) as fleet:
        notices = notices_of(fleet)
        context = zmq.asyncio.Context()
        try:
            forger = context.socket(zmq.PUSH)
            forger.connect(notices.endpoint)
            for number in range(500):
                await forger.send(msgpack.packb({"type": "ProxyNotif", "req_id": f"f{number}"}))
                await forger.send(b"\xc1 no notice")
            for _ in range(3):
                await check(fleet, COMPLETION, True, prompt=PROMPT, max_tokens=9)
            counts = notices.counts
            while counts.unknown + counts.malformed < 1000:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        finally:
            context.destroy(linger=0)
        for outcome, count in (("unknown", 500), ("malformed", 500), ("taken", 6), ("late", 0)):
            name = "kvroute_disagg_messages_total"
            assert await fleet.frontend.metric(name, outcome=outcome) == count
        assert notices.expected == 0


async def test_notices_of_both_names_are_taken(tmp_path: Path) -> None:
    engines = {**RANKS, "kv_notice": "PDMsg"}
    async with deployment("lmcache", 1, 1, tmp_path, engines=engines) as fleet:
        await check(fleet, COMPLETION, False, prompt=PROMPT, max_tokens=9)
        assert notices_of(fleet).counts.taken == 2


@pytest.mark.parametrize("host", ["::1", "localhost"])
async def test_receivers_may_be_named_or_have_ipv6_addresses(tmp_path: Path, host: str) -> None:
    if not has_address(host):
        pytest.skip(f"this machine has no {host}")
    async with deployment("lmcache", 1, 1, tmp_path, engines={**RANKS, "host": host}) as fleet:
        await check(fleet, COMPLETION, False, prompt=PROMPT, max_tokens=9)
        assert received(fleet.decode) == [1]


def has_address(host: str) -> bool:
    try:
        family, kind, *_, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.bind(address)
    except OSError:
        return False
    return True


async def test_one_decoder_needs_no_registry(tmp_path: Path) -> None:
    async with deployment("lmcache", 2, 1, tmp_path) as fleet:
        told = fleet.decode[0].kv_transfer or {}
        settings = static_settings(fleet.prefill, fleet.decode, told)
        app = create_app(Settings(**settings), make_router=core_router)
        async with running_app(app) as url:
            body = {"model": "m", "prompt": PROMPT, "max_tokens": 9}
            async with fleet.frontend.client.post(url + COMPLETION, json=body) as response:
                # The engines tell the other frontend: nobody hears of the transfer here.
                assert response.status == 200
                answer = await response.json()
        wanted = await fleet.single_answer(COMPLETION, prompt=PROMPT, max_tokens=9)
        assert text_of(answer) == text_of(wanted)
        assert received(fleet.decode) == [1]


async def test_two_decoders_need_one(tmp_path: Path) -> None:
    async with deployment("lmcache", 1, 2, tmp_path) as fleet:
        told = fleet.decode[0].kv_transfer or {}
        with pytest.raises(ValueError, match="decoder_registry: no entry for decoder http://127"):
            await opened(static_settings(fleet.prefill, fleet.decode, told))


async def test_a_proxy_port_in_use_is_a_clear_error_at_the_start(tmp_path: Path) -> None:
    async with deployment("lmcache", 1, 1, tmp_path) as fleet:
        told = fleet.decode[0].kv_transfer or {}
        port = int(notices_of(fleet).endpoint.rpartition(":")[2])
        settings = static_settings(fleet.prefill, fleet.decode, told)
        with pytest.raises(OSError, match=f"proxy_host, proxy_port: cannot bind 127.0.0.1:{port}"):
            await opened({**settings, "proxy_port": port})


async def opened(settings: dict[str, Any]) -> None:
    """Starts what a frontend consists of, and ends it."""
    services = Services(Settings(**settings), core_router, None)
    try:
        await services.open()
    finally:
        await services.close()


def static_settings(
    prefill: Any, decode: list[SimulatedEngine], told: dict[str, Any]
) -> dict[str, Any]:
    """Of a second frontend before the same engines, with `--decoder-*` for a registry."""
    engines = [*prefill, *decode]
    return {
        "static_backends": [engine.http_url for engine in engines],
        "static_models": ["m"],
        "engine_stats_interval": 0,
        "routing_logic": "disaggregated_prefill_orchestrated",
        "static_model_labels": ["p"] * len(prefill) + ["d"] * len(decode),
        "prefill_model_labels": ["p"],
        "decode_model_labels": ["d"],
        "disagg_connector_type": "lmcache",
        "decoder_host": told["receiver_host"],
        "decoder_init_port": ",".join(map(str, told["receiver_init_port"])),
        "decoder_alloc_port": ",".join(map(str, told["receiver_alloc_port"])),
        "proxy_host": "127.0.0.1",
        "proxy_port": 0,
        "transfer_timeout_seconds": 0.1,
        "max_instance_failover_reroute_attempts": 0,
    }


@pytest.mark.parametrize("fails", [False, True], ids=["", "after-a-failover"])
async def test_an_old_client_gets_the_stream_whole(tmp_path: Path, fails: bool) -> None:
    """HTTP/1.0 has no chunks: the first token waits for the others."""
    async with deployment("lmcache", 1, 2, tmp_path) as fleet:
        if fails:
            await fleet.fault(fleet.decode[0], "decode_start", "error500")
        wanted = await fleet.single_answer(COMPLETION, prompt=PROMPT, max_tokens=9)
        for _ in range(2):  # one of them meets the failure
            body = orjson.dumps({"model": "m", "prompt": PROMPT, "max_tokens": 9, "stream": True})
            head = f"POST {COMPLETION} HTTP/1.0\r\ncontent-length: {len(body)}\r\n\r\n"
            reader, writer = await fleet.frontend.connect()
            writer.write(head.encode() + body)
            answer = await reader.read()
            writer.close()
            assert b" 200 " in answer.split(b"\r\n")[0]
            found, done = events(answer.partition(b"\r\n\r\n")[2])
            assert done
            assert text_of(found) == text_of(wanted)
        await fleet.settled()


@both_paths
async def test_a_request_that_the_engine_refuses_is_refused_in_its_words(
    tmp_path: Path, path: str, body: dict[str, Any]
) -> None:
    async with deployment("lmcache", 1, 1, tmp_path) as fleet:
        for wrong in (
            {"min_tokens": "x"},
            {"seed": "x"},
            {"stop": [1]},
            {"stream": True, "stream_options": {"include_usage": "x"}},
        ):
            refused = {"model": "m", **body, **wrong}
            answers = []
            for url in (fleet.single.http_url, fleet.frontend.url):
                async with fleet.frontend.client.post(url + path, json=refused) as response:
                    answers.append((response.status, await response.json()))
            assert answers[0][0] == 400
            assert answers[1] == answers[0]
            await fleet.settled()


@both_ways
async def test_a_decode_leg_that_is_refused_is_one_clear_error(
    tmp_path: Path, stream: bool
) -> None:
    """After the first token no room is left: the prefill leg could not tell."""
    limit = {"max_model_len": len(PROMPT) + 1}
    async with deployment("lmcache", 1, 2, tmp_path, engines=limit) as fleet:
        body = {"prompt": PROMPT, "max_tokens": None}
        if stream:
            status, answer, done = await fleet.stream(COMPLETION, **body)
            *before, last = answer
            assert (status, len(before), done) == (200, 1, False)
            assert last["error"]["code"] == 400
        else:
            status, last, _ = await fleet.ask(COMPLETION, **body)
            assert status == 400
        assert last["error"]["message"].startswith("prompt: ")
        name = "kvroute_disagg_leg_failures_total"
        assert await fleet.frontend.metric(name) == 0
        await fleet.settled()


@both_ways
@pytest.mark.parametrize("role", ["prefill", "decode"])
@pytest.mark.parametrize("is_only", [False, True], ids=["another-there", "no-other"])
async def test_an_engine_that_is_not_there(
    tmp_path: Path, role: str, is_only: bool, stream: bool
) -> None:
    sizes = (1, 1) if is_only else (2, 2)
    async with deployment("lmcache", *sizes, tmp_path) as fleet:
        engines = fleet.prefill if role == "prefill" else fleet.decode
        await engines[0].__aexit__(None, None, None)
        if is_only and role == "decode":
            body = {"model": "m", "prompt": PROMPT, "max_tokens": 9, "stream": stream}
            async with fleet.frontend.client.post(
                fleet.frontend.url + COMPLETION, json=body
            ) as response:
                answer = await response.read()
            # The receiver is not there either, so the prefill leg fails before the first token.
            assert response.status == 503, answer
            assert engines[0].http_url.encode() in answer
            return
        for number in range(2):  # one of them meets it
            prompt = [number, *PROMPT]
            wanted = await fleet.single_answer(COMPLETION, prompt=prompt, max_tokens=9)
            body = {"prompt": prompt, "max_tokens": 9}
            if stream:
                status, answer, done = await fleet.stream(COMPLETION, **body)
                assert done, answer
            else:
                status, answer, _ = await fleet.ask(COMPLETION, **body)
            assert (status, text_of(answer)) == (200, text_of(wanted))

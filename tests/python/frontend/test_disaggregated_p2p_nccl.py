"""P2P NCCL through the frontend: engines that register, that have not, and that left."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from disagg_harness import CHAT, PROMPT, Deployment, deployment, reason_of, reserved_port, text_of
from kvroute.disagg.connectors.p2p_nccl import P2pNcclConnector
from kvroute.disagg.connectors.registrations import Registrations
from kvroute.engines import SimulatedEngine

pytestmark = pytest.mark.timeout(120)

COMPLETION = "/v1/completions"
CHATS = "/v1/chat/completions"
both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


def registrations_of(fleet: Deployment) -> Registrations:
    services = fleet.frontend.app.services
    assert services is not None
    assert isinstance(services._connector, P2pNcclConnector)
    return services._connector.registrations


@pytest.fixture
def registering(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What a deployment is given for engines that register."""
    with reserved_port() as port:
        file = tmp_path / "registering.json"
        options = {"registration_host": "127.0.0.1", "registration_port": port, "addresses": {}}
        file.write_bytes(orjson.dumps(options))
        yield {"engines": {"kv_proxy_port": port}, "disagg_options": file}


async def have_registered(fleet: Deployment, *engines: SimulatedEngine) -> None:
    known = registrations_of(fleet)
    while not all(known.zmq_address(engine.http_url) for engine in engines):  # noqa: ASYNC110
        await asyncio.sleep(0.01)


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


@both_ways
async def test_engines_that_register_hand_over(
    tmp_path: Path, registering: dict[str, Any], stream: bool
) -> None:
    async with deployment("p2p_nccl", 2, 4, tmp_path, **registering) as fleet:
        await have_registered(fleet, *fleet.prefill, *fleet.decode)
        for number in range(4):
            await check(fleet, COMPLETION, stream, prompt=[number, *PROMPT], max_tokens=9)
        await check(fleet, CHATS, stream, messages=CHAT, max_tokens=9)
        await fleet.settled()
        assert sum(e.core.transfers.ledger.received for e in fleet.decode) == 5
        registered = {"outcome": "taken"}
        assert await fleet.frontend.metric("kvroute_disagg_messages_total", **registered) >= 6


@both_ways
@pytest.mark.parametrize("role", ["prefill", "decode"])
async def test_an_engine_that_has_not_registered_is_done_without(
    tmp_path: Path, registering: dict[str, Any], role: str, stream: bool
) -> None:
    async with deployment("p2p_nccl", 2, 2, tmp_path, **registering) as fleet:
        await have_registered(fleet, *fleet.prefill, *fleet.decode)
        engine = (fleet.prefill if role == "prefill" else fleet.decode)[0]
        del registrations_of(fleet)._heard[engine.http_url]
        for number in range(2):  # one of them meets it
            await check(fleet, COMPLETION, stream, prompt=[number, *PROMPT], max_tokens=9)
        await fleet.settled()
        failures = {"leg": role, "reason": "protocol"}
        failed = await fleet.frontend.metric("kvroute_disagg_leg_failures_total", **failures)
        assert failed <= 2  # none where it has registered again in the meantime


async def test_where_no_engine_has_registered_the_error_says_so(
    tmp_path: Path, registering: dict[str, Any]
) -> None:
    del registering["engines"]
    async with deployment("p2p_nccl", 1, 1, tmp_path, **registering) as fleet:
        status, answer, _ = await fleet.ask(COMPLETION, prompt=PROMPT, max_tokens=9)
        assert status == 502
        assert re.search("prefill worker .* has not registered", answer["error"]["message"])
        await fleet.settled()


@both_ways
@pytest.mark.parametrize("role", ["prefill", "decode"])
async def test_an_engine_that_is_not_there(tmp_path: Path, role: str, stream: bool) -> None:
    timeouts = {"backend_read_timeout_seconds": 1.0}
    async with deployment("p2p_nccl", 2, 2, tmp_path, **timeouts) as fleet:
        engines = fleet.prefill if role == "prefill" else fleet.decode
        await engines[0].__aexit__(None, None, None)
        for number in range(2):  # one of them meets it
            await check(fleet, COMPLETION, stream, prompt=[number, *PROMPT], max_tokens=9)


@both_ways
async def test_both_legs_bear_one_id_and_the_client_gets_its_own(
    tmp_path: Path, stream: bool
) -> None:
    async with deployment("p2p_nccl", 1, 1, tmp_path) as fleet:
        body = {"model": "m", "prompt": PROMPT, "max_tokens": 9, "stream": stream}
        headers = {"X-Request-Id": "mine"}
        url = fleet.frontend.url + COMPLETION
        async with fleet.frontend.client.post(url, json=body, headers=headers) as response:
            answer = await response.read()
            assert response.headers["X-Request-Id"] == "mine"
        prefill, decode = (
            (engine.kv_transfer or {})["zmq_address"]
            for engine in (fleet.prefill[0], fleet.decode[0])
        )
        told = f"cmpl-___prefill_addr_{prefill}___decode_addr_{decode}_".encode()
        assert told in answer
        await fleet.settled()

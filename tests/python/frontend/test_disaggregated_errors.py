"""Two legs whose engines refuse, are not there, or never hand over; and the id that both bear."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from disagg_harness import CONNECTORS, PROMPT, Deployment, deployment, text_of
from failure_matrix import together
from leaping_clock import LeapingClock

pytestmark = [pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]

PATH = "/v1/completions"
MOST = 160  # tokens of prompt and answer that the engines take
EXPIRY = 20.0
SERVES_NOTHING_WHOLE = ("sglang", "p2p_nccl")

both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@pytest_asyncio.fixture(params=CONNECTORS, scope="module", loop_scope="module")
async def fleet(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Deployment]:
    engines = {"max_model_len": MOST, "transfer_expiry": EXPIRY}
    folder = tmp_path_factory.mktemp(request.param)
    async with deployment(request.param, 1, 1, folder, engines=engines) as made:
        yield made


async def ask(fleet: Deployment, stream: bool, **body: Any) -> tuple[int, Any]:
    """Status and JSON; of a stream that has begun its last event, with the status that it tells."""
    if not stream:
        status, answer, _ = await fleet.ask(PATH, **body)
        return status, answer
    status, events, _ = await fleet.stream(PATH, **body)
    error = events[-1].get("error")
    return (status if error is None else error["code"]), events[-1] if error else events


@both_ways
@pytest.mark.parametrize(
    ("tokens", "limit"), [(MOST + 20, 9), (MOST - 10, 50)], ids=["by-both", "by-decode-alone"]
)
async def test_what_an_engine_refuses_is_the_client_s_answer(
    fleet: Deployment, tokens: int, limit: int, stream: bool
) -> None:
    prompt = list(range(tokens))
    status, answer = await ask(fleet, stream, prompt=prompt, max_tokens=limit)
    assert (status, answer["error"]["param"]) == (400, "prompt")
    assert f"maximum context length is {MOST}" in answer["error"]["message"]
    assert await fleet.frontend.metric("kvroute_disagg_leg_failures_total") == 0
    await fleet.settled(expire=True)


@both_ways
async def test_both_legs_bear_the_client_s_id(
    fleet: Deployment, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: dict[str, str] = {}
    for role, engines in (("prefill", fleet.prefill), ("decode", fleet.decode)):
        transfers = engines[0].core.transfers

        def leg(call: Any, role: str = role, known: Any = transfers.leg) -> Any:
            heard[role] = call.request_id
            return known(call)

        monkeypatch.setattr(transfers, "leg", leg)
    body = {"model": "m", "prompt": PROMPT, "max_tokens": 9, "stream": stream}
    headers = {"X-Request-Id": "mine"}
    url = fleet.frontend.url + PATH
    async with fleet.frontend.client.post(url, json=body, headers=headers) as response:
        await response.read()
        assert (response.status, response.headers["X-Request-Id"]) == (200, "mine")
    if fleet.prefill[0].config.kv_connector == "p2p_nccl":  # the id that tells the addresses
        assert heard["prefill"] == heard["decode"] != "mine"
    else:
        assert heard == {"prefill": "mine", "decode": "mine"}
    await fleet.settled()


async def test_blocks_that_were_read_are_no_leak(fleet: Deployment) -> None:
    ledgers = [engine.core.transfers.ledger for engine in (*fleet.prefill, *fleet.decode)]
    before = [ledger.leaked + ledger.unclaimed for ledger in ledgers]
    received = ledgers[1].received
    for number in range(3):
        status, _ = await ask(fleet, False, prompt=[number, *PROMPT], max_tokens=9)
        assert status == 200
    await fleet.settled()
    with LeapingClock().leaping():
        await asyncio.sleep(1.5 * EXPIRY)  # what nobody had read would have leaked by now
    assert [ledger.leaked + ledger.unclaimed for ledger in ledgers] == before
    assert ledgers[1].received == received + 3


@both_ways
@pytest.mark.parametrize(("prefills", "decodes"), [(1, 1), (2, 2)], ids=["1P1D", "2P2D"])
@pytest.mark.parametrize("role", ["prefill", "decode"])
async def test_an_engine_that_is_not_there(
    tmp_path: Path, role: str, prefills: int, decodes: int, stream: bool
) -> None:
    contexts = {}
    for connector in CONNECTORS:
        folder = tmp_path / connector
        folder.mkdir()
        contexts[connector] = deployment(connector, prefills, decodes, folder)

    async def outcomes(connector: str, fleet: Deployment) -> None:
        engines = fleet.prefill if role == "prefill" else fleet.decode
        await engines[0].__aexit__(None, None, None)
        for number in range(2):  # with two of them, one request meets it
            body = {"prompt": [number, *PROMPT], "max_tokens": 9}
            status, answer = await ask(fleet, stream, **body)
            if len(engines) == 1 and (role == "decode" or connector in SERVES_NOTHING_WHOLE):
                assert (connector, status) == (connector, 503)
                message = answer["error"]["message"]
                assert role in message or engines[0].http_url in message
                continue
            assert (connector, status) == (connector, 200), answer
            wanted = await fleet.single_answer(PATH, **body, stream=stream)
            assert text_of(answer) == text_of(wanted)

    async with together(contexts) as fleets:
        await asyncio.gather(*(outcomes(name, fleet) for name, fleet in fleets.items()))

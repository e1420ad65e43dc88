"""Failures on command: each step, each action, as often as asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest
from transfer_harness import PROMPT, Pair, Until, pair

ASK = {"do_remote_decode": True, "do_remote_prefill": False}
PREFILL = {"prompt": PROMPT, "max_tokens": 1, "kv_transfer_params": ASK}
DECODE = {"prompt": PROMPT, "max_tokens": 30}
PREFILL_STEPS = ("accepted", "prefill", "hold", "answer")
DECODE_STEPS = ("accepted", "decode_start", "decode_midway")


@pytest.fixture
async def engines() -> AsyncIterator[Pair]:
    async with pair("nixl", transfer_expiry=0.1) as made:
        yield made


async def leg(engines: Pair, step: str) -> Any:
    """The leg that comes to a step."""
    if step in DECODE_STEPS[1:]:
        return await engines.post(engines.decode, DECODE)
    return await engines.post(engines.prefill, PREFILL)


@pytest.mark.parametrize("step", sorted({*PREFILL_STEPS, *DECODE_STEPS}))
async def test_an_error_is_answered_as_often_as_asked_for(
    engines: Pair, until: Until, step: str
) -> None:
    for engine in (engines.prefill, engines.decode):
        await engines.fault(engine, step, "error500", count=2)
    for expected in (500, 500, 200):
        status, answer = await leg(engines, step)
        assert status == expected
        if expected == 500:
            assert answer["error"]["type"] == "InternalServerError"
            assert step in answer["error"]["message"]
    cache = engines.prefill.core.cache
    await until(lambda: cache.usage == 0.0)  # what was held expires
    engines.check_nothing_is_held()


@pytest.mark.parametrize("step", sorted({*PREFILL_STEPS, *DECODE_STEPS}))
async def test_a_connection_is_closed(engines: Pair, until: Until, step: str) -> None:
    for engine in (engines.prefill, engines.decode):
        await engines.fault(engine, step, "close")
    with pytest.raises(aiohttp.ClientError):
        await leg(engines, step)
    assert (await leg(engines, step))[0] == 200
    await until(lambda: engines.prefill.core.cache.usage == 0.0)


@pytest.mark.parametrize("step", sorted({*PREFILL_STEPS, *DECODE_STEPS}))
async def test_what_hangs_ends_with_its_client(engines: Pair, until: Until, step: str) -> None:
    for engine in (engines.prefill, engines.decode):
        await engines.fault(engine, step, "hang")
    reached = engines.decode if step in DECODE_STEPS[1:] else engines.prefill
    hanging = asyncio.ensure_future(leg(engines, step))
    await until(lambda: not reached.core.transfers.faults.is_set(step))
    assert not hanging.done()
    hanging.cancel()
    await until(lambda: reached.core.scheduler.num_running == 0)
    await until(lambda: reached.core.cache.usage == 0.0)


async def test_a_delay_only_delays(engines: Pair) -> None:
    await engines.fault(engines.prefill, "prefill", "delay", seconds=0.05)
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert (await engines.post(engines.prefill, PREFILL))[0] == 200
    assert loop.time() - began >= 0.05


async def test_a_malformed_answer_is_half_of_one(engines: Pair) -> None:
    await engines.fault(engines.prefill, "answer", "malformed")
    with pytest.raises(orjson.JSONDecodeError):
        await engines.post(engines.prefill, PREFILL)


async def read_stream(engines: Pair) -> bytes:
    url = f"{engines.decode.http_url}/v1/completions"
    async with engines.session.post(url, json={**DECODE, "stream": True}) as response:
        assert response.status == 200
        return await response.read()


async def test_a_stream_fails_in_its_middle_with_an_error_event(engines: Pair) -> None:
    await engines.fault(engines.decode, "decode_midway", "error500")
    first, *_, error, end = (await read_stream(engines)).removesuffix(b"\n\n").split(b"\n\n")
    assert orjson.loads(first[6:])["choices"][0]["finish_reason"] is None
    assert orjson.loads(error[6:])["error"]["code"] == 500
    assert end == b"data: [DONE]"
    assert engines.decode.core.cache.usage == 0.0


async def test_a_stream_breaks_in_its_middle(engines: Pair) -> None:
    await engines.fault(engines.decode, "decode_midway", "close")
    with pytest.raises(aiohttp.ClientError):
        await read_stream(engines)
    assert (await read_stream(engines)).endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("action", ["error500", "close"])
async def test_a_transfer_that_fails_fails_the_decode_leg(action: str) -> None:
    async with pair("nixl") as engines:
        _, answer = await engines.post(engines.prefill, PREFILL)
        await engines.fault(engines.prefill, "transfer", action)
        body = {**DECODE, "kv_transfer_params": answer["kv_transfer_params"]}
        assert (await engines.post(engines.decode, body))[0] == 500
        assert (await engines.post(engines.decode, body))[0] == 200


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({}, "step"),
        ({"step": "x", "action": "close"}, "step"),
        ({"step": "prefill"}, "action"),
        ({"step": "prefill", "action": "x"}, "action"),
        ({"step": "prefill", "action": "close", "count": 0}, "count"),
        ({"step": "prefill", "action": "close", "seconds": 1}, "seconds"),
        ({"step": "prefill", "action": "malformed"}, "step"),
        ({"step": "prefill", "action": "delay"}, "seconds"),
        ({"step": "prefill", "action": "delay", "seconds": -1}, "seconds"),
        ({"step": "prefill", "action": "close", "often": 2}, "often"),
    ],
)
async def test_a_wrong_fault_is_refused_by_its_field(
    engines: Pair, body: dict[str, Any], name: str
) -> None:
    status, answer = await engines.post(engines.prefill, body, path="/debug/faults")
    assert (status, answer["error"]["param"]) == (400, name)


async def test_faults_are_shown_and_cleared(engines: Pair) -> None:
    await engines.fault(engines.prefill, "hold", "hang", count=3)
    url = f"{engines.prefill.http_url}/debug/faults"
    async with engines.session.get(url) as response:
        (fault,) = (await response.json())["faults"]
    assert fault == {"step": "hold", "action": "hang", "count": 3, "seconds": 0.0}
    async with engines.session.delete(url) as response:
        assert (await response.json())["faults"] == []
    assert (await engines.post(engines.prefill, PREFILL))[0] == 200

"""NIXL between two engines: what is answered, read, refused, given back and leaked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from kvroute.engines import SimulatedEngine
from kvroute.engines.config import KvRole
from transfer_harness import BLOCK, FAST, PROMPT, SHORT, Pair, Until, changed, pair

ASK = {
    "do_remote_decode": True,
    "do_remote_prefill": False,
    "remote_engine_id": None,
    "remote_block_ids": None,
    "remote_host": None,
    "remote_port": None,
}
PREFILL = {"prompt": PROMPT, "max_tokens": 1, "stream": False, "kv_transfer_params": ASK}
DECODE = {"prompt": PROMPT, "max_tokens": 30}
BLOCKS = len(PROMPT) // BLOCK


@pytest.fixture
async def engines() -> AsyncIterator[Pair]:
    async with pair("nixl") as made:
        yield made


async def prefilled(engines: Pair, body: dict[str, Any] = PREFILL) -> Any:
    status, answer = await engines.post(engines.prefill, body)
    assert status == 200, answer
    return answer["kv_transfer_params"]


async def test_two_legs_say_what_one_engine_says(engines: Pair) -> None:
    whole = await engines.text(engines.single, DECODE)
    status, first = await engines.post(engines.prefill, PREFILL)
    assert status == 200
    params = first["kv_transfer_params"]
    assert first["choices"][0]["text"] == whole[0]
    assert len(params["remote_block_ids"][0]) == BLOCKS
    assert (params["do_remote_prefill"], params["do_remote_decode"]) == (True, False)
    assert params["remote_engine_id"] == engines.prefill.kv_transfer["engine_id"]
    assert engines.prefill.core.cache.usage == BLOCKS / 256
    status, second = await engines.post(engines.decode, {**DECODE, "kv_transfer_params": params})
    assert status == 200
    assert second["choices"][0]["text"] == whole
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] == BLOCKS * BLOCK
    state = await engines.state(engines.prefill)
    assert (state["held"], state["read"], state["leaked"]) == (1, 1, 0)
    state = await engines.state(engines.decode)
    assert (state["received"], state["received_blocks"]) == (1, BLOCKS)
    engines.check_nothing_is_held()


async def test_a_prompt_shorter_than_a_block_has_no_params(engines: Pair) -> None:
    assert await prefilled(engines, {**PREFILL, "prompt": SHORT}) is None
    body = {"prompt": SHORT, "max_tokens": 9, "kv_transfer_params": None}
    assert await engines.text(engines.decode, body) == await engines.text(engines.single, body)
    engines.check_nothing_is_held()


async def test_a_flat_list_of_blocks_is_as_good(engines: Pair) -> None:
    params = await prefilled(engines)
    params["remote_block_ids"] = params["remote_block_ids"][0]
    await engines.text(engines.decode, {**DECODE, "kv_transfer_params": params})
    engines.check_nothing_is_held()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("kv_transfer_params", "x"),
        ("kv_transfer_params", {}),
        ("kv_transfer_params.do_remote_decode", ...),
        ("kv_transfer_params.do_remote_decode", "true"),
        ("kv_transfer_params.do_remote_decode", None),
        ("kv_transfer_params.do_remote_prefill", 0),
        ("kv_transfer_params.do_remote_prefill", True),
        ("kv_transfer_params.remote_engine_id", "e"),
        ("kv_transfer_params.remote_block_ids", []),
        ("kv_transfer_params.remote_host", "h"),
        ("kv_transfer_params.remote_port", 1),
        ("kv_transfer_params.ret_first_tok", True),
        ("max_tokens", ...),
        ("max_tokens", 2),
        ("max_completion_tokens", 30),
        ("min_tokens", 2),
        ("stream", True),
        ("n", 2),
        ("prompt", [PROMPT, PROMPT]),
    ],
)
async def test_a_wrong_prefill_leg_is_refused_by_its_field(
    engines: Pair, path: str, value: Any
) -> None:
    body = {"prompt": PROMPT, "max_tokens": 1, "kv_transfer_params": dict(ASK)}
    status, answer = await engines.post(engines.prefill, changed(body, path, value))
    assert (status, answer["error"]["type"]) == (400, "BadRequestError")
    assert answer["error"]["param"].startswith(path)
    assert answer["error"]["message"].startswith(path)
    assert sum((await engines.state(engines.prefill))["refused"].values()) == 1
    engines.check_nothing_is_held()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("do_remote_prefill", ...),
        ("do_remote_prefill", False),
        ("do_remote_decode", None),
        ("remote_engine_id", ...),
        ("remote_engine_id", ""),
        ("remote_block_ids", None),
        ("remote_block_ids", [[1]]),
        ("remote_block_ids", [[1] * BLOCKS, [1] * BLOCKS]),
        ("remote_block_ids", ["1"] * BLOCKS),
        ("remote_host", None),
        ("remote_host", 1),
        ("remote_port", ...),
        ("remote_port", 0),
        ("remote_port", 65536),
        ("remote_port", "5600"),
        ("remote_request_id", ...),
        ("tp_size", 0),
        ("tp_size", ...),
        ("remote_num_tokens", -1),
        ("transfer_id", "x"),
    ],
)
async def test_a_wrong_decode_leg_is_refused_by_its_field(
    engines: Pair, path: str, value: Any
) -> None:
    params = await prefilled(engines)
    body = {**DECODE, "kv_transfer_params": changed(params, path, value)}
    status, answer = await engines.post(engines.decode, body)
    assert status == 400
    assert answer["error"]["param"].startswith(f"kv_transfer_params.{path}")
    assert engines.prefill.core.cache.usage == BLOCKS / 256


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("remote_engine_id", "other", "engine_id"),
        ("remote_request_id", "other", "request_id"),
        ("remote_block_ids", [99] * BLOCKS, "block_ids"),
        ("remote_port", None, "unreachable"),
    ],
)
async def test_what_the_prefill_engine_does_not_know_fails_the_request(
    engines: Pair, unused_port: int, name: str, value: Any, reason: str
) -> None:
    params = await prefilled(engines)
    params[name] = unused_port if value is None else value
    status, answer = await engines.post(engines.decode, {**DECODE, "kv_transfer_params": params})
    assert (status, answer["error"]["type"]) == (500, "InternalServerError")
    assert (await engines.state(engines.decode))["failed"] == {reason: 1}
    assert (await engines.state(engines.prefill))["held_blocks"] == BLOCKS


async def test_another_prompt_s_blocks_are_not_read(engines: Pair) -> None:
    params = await prefilled(engines)
    body = {"prompt": PROMPT[::-1], "max_tokens": 3, "kv_transfer_params": params}
    status, answer = await engines.post(engines.decode, body)
    assert status == 500
    assert "another prompt" in answer["error"]["message"]


async def test_blocks_are_read_once(engines: Pair) -> None:
    body = {**DECODE, "kv_transfer_params": await prefilled(engines)}
    assert (await engines.post(engines.decode, body))[0] == 200
    assert (await engines.post(engines.decode, body))[0] == 500
    engines.check_nothing_is_held()


@pytest.mark.parametrize("role", [KvRole.PREFILL, KvRole.DECODE])
async def test_a_leg_of_the_other_role_is_refused(engines: Pair, role: KvRole) -> None:
    params = await prefilled(engines)
    if role is KvRole.PREFILL:
        sent = await engines.post(engines.prefill, {**DECODE, "kv_transfer_params": params})
    else:
        sent = await engines.post(engines.decode, PREFILL)
    status, answer = sent
    assert (status, answer["error"]["param"].split(".")[0]) == (400, "kv_transfer_params")


async def test_an_engine_of_both_roles_plays_both(engines: Pair) -> None:
    async with SimulatedEngine(model="m", kv_connector="nixl", cost=FAST) as both:
        _, answer = await engines.post(both, PREFILL)
        body = {**DECODE, "kv_transfer_params": answer["kv_transfer_params"]}
        assert await engines.text(both, body) == await engines.text(engines.single, DECODE)
        assert both.core.cache.usage == 0.0


async def test_blocks_that_nobody_reads_expire_and_are_counted(until: Until) -> None:
    async with pair("nixl", transfer_expiry=0.2) as engines:
        params = await prefilled(engines)
        cache = engines.prefill.core.cache
        ledger = engines.prefill.core.transfers.ledger
        await until(lambda: ledger.leaked > 0)
        assert (ledger.leaked, ledger.leaked_blocks, cache.usage) == (1, BLOCKS, 0.0)
        body = {**DECODE, "kv_transfer_params": params}
        assert (await engines.post(engines.decode, body))[0] == 500
        engines.check_nothing_is_held()


async def test_held_blocks_are_not_evicted_and_who_waits_for_room_gets_it(until: Until) -> None:
    async with pair("nixl", num_blocks=8, max_model_len=8 * BLOCK) as engines:
        whole = await engines.text(engines.single, {"prompt": PROMPT, "max_tokens": 5})
        params = await prefilled(engines)
        scheduler = engines.prefill.core.scheduler
        other = asyncio.ensure_future(
            engines.post(engines.prefill, {"prompt": [9] * 80, "max_tokens": 2})
        )
        await until(lambda: scheduler.num_waiting == 1)
        body = {"prompt": PROMPT, "max_tokens": 5, "kv_transfer_params": params}
        assert not other.done()
        assert await engines.text(engines.decode, body) == whole
        assert (await other)[0] == 200
        engines.check_nothing_is_held()


async def test_a_client_that_leaves_before_the_read_gives_the_blocks_back(until: Until) -> None:
    async with pair("nixl") as engines:
        params = await prefilled(engines)
        await engines.fault(engines.prefill, "transfer", "hang")
        body = {**DECODE, "kv_transfer_params": params}
        faults = engines.prefill.core.transfers.faults
        leaving = asyncio.ensure_future(engines.post(engines.decode, body))
        await until(lambda: not faults.is_set("transfer"))
        leaving.cancel()
        await until(lambda: engines.prefill.core.transfers.ledger.released == 1)
        engines.check_nothing_is_held()


async def test_the_cache_is_not_reset_under_blocks_that_are_held(engines: Pair) -> None:
    params = await prefilled(engines)
    assert (await engines.post(engines.prefill, {}, path="/reset_prefix_cache"))[0] == 409
    await engines.text(engines.decode, {**DECODE, "kv_transfer_params": params})
    assert (await engines.post(engines.prefill, {}, path="/reset_prefix_cache"))[0] == 200

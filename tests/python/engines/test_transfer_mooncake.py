"""Mooncake between two engines: the bootstrap server, and legs in either order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from leaping_clock import LeapingClock
from transfer_harness import BLOCK, PROMPT, SHORT, Pair, Until, changed, pair

BLOCKS = len(PROMPT) // BLOCK


@pytest.fixture
async def engines() -> AsyncIterator[Pair]:
    async with pair("mooncake") as made:
        yield made


def prefill_body(transfer_id: str = "xfer-1", prompt: list[int] = PROMPT) -> dict[str, Any]:
    params = {"do_remote_prefill": False, "do_remote_decode": True, "transfer_id": transfer_id}
    return {"prompt": prompt, "max_tokens": 1, "kv_transfer_params": params}


async def decode_body(
    engines: Pair, transfer_id: str = "xfer-1", prompt: list[int] = PROMPT
) -> dict[str, Any]:
    address = engines.prefill.kv_transfer
    assert address is not None
    bootstrap = f"http://{address['host']}:{address['port']}"
    async with engines.session.get(f"{bootstrap}/query") as response:
        ranks = await response.json()
    params = {
        "do_remote_prefill": True,
        "do_remote_decode": False,
        "transfer_id": transfer_id,
        "remote_bootstrap_addr": bootstrap,
        "remote_engine_id": ranks["0"]["engine_id"],
    }
    return {"prompt": prompt, "max_tokens": 30, "kv_transfer_params": params}


@pytest.mark.parametrize("prefill_first", [True, False])
@pytest.mark.parametrize("prompt", [PROMPT, SHORT])
async def test_two_legs_at_once_say_what_one_engine_says(
    engines: Pair, until: Until, prefill_first: bool, prompt: list[int]
) -> None:
    whole = await engines.text(engines.single, {"prompt": prompt, "max_tokens": 30})
    legs = [
        (engines.prefill, prefill_body(prompt=prompt)),
        (engines.decode, await decode_body(engines, prompt=prompt)),
    ]
    if not prefill_first:
        legs.reverse()
    early = asyncio.ensure_future(engines.post(*legs[0]))
    transfers = engines.prefill.core.transfers
    await until(lambda: transfers.ledger.held + transfers.state()["waiting"] > 0)
    late = asyncio.ensure_future(engines.post(*legs[1]))
    answers = dict(zip(("early", "late"), await asyncio.gather(early, late), strict=True))
    first, second = answers["early"], answers["late"]
    if not prefill_first:
        first, second = second, first
    assert (first[0], second[0]) == (200, 200)
    assert first[1]["kv_transfer_params"] is None
    assert second[1]["choices"][0]["text"] == whole
    details = second[1]["usage"]["prompt_tokens_details"]
    assert details["cached_tokens"] == len(prompt) // BLOCK * BLOCK
    engines.check_nothing_is_held()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("kv_transfer_params", []),
        ("kv_transfer_params.transfer_id", ...),
        ("kv_transfer_params.transfer_id", 5),
        ("kv_transfer_params.do_remote_decode", False),
        ("kv_transfer_params.do_remote_prefill", None),
        ("kv_transfer_params.remote_engine_id", "x"),
        ("max_tokens", 2),
        ("stream", True),
        ("n", 2),
    ],
)
async def test_a_wrong_prefill_leg_is_refused_by_its_field(
    engines: Pair, path: str, value: Any
) -> None:
    status, answer = await engines.post(engines.prefill, changed(prefill_body(), path, value))
    assert status == 400
    assert answer["error"]["param"].startswith(path) or path.endswith("do_remote_decode")
    engines.check_nothing_is_held()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("transfer_id", ...),
        ("transfer_id", ""),
        ("remote_engine_id", None),
        ("remote_bootstrap_addr", ...),
        ("remote_bootstrap_addr", "127.0.0.1:8998"),
        ("remote_bootstrap_addr", "http://127.0.0.1"),
        ("remote_bootstrap_addr", "http://127.0.0.1:99999"),
        ("remote_bootstrap_addr", "http://127.0.0.1:8998/query"),
        ("do_remote_decode", ...),
        ("remote_host", "x"),
    ],
)
async def test_a_wrong_decode_leg_is_refused_by_its_field(
    engines: Pair, name: str, value: Any
) -> None:
    body = changed(await decode_body(engines), f"kv_transfer_params.{name}", value)
    status, answer = await engines.post(engines.decode, body)
    assert (status, answer["error"]["param"]) == (400, f"kv_transfer_params.{name}")


async def test_a_transfer_id_in_use_is_refused(engines: Pair) -> None:
    assert (await engines.post(engines.prefill, prefill_body()))[0] == 200
    status, answer = await engines.post(engines.prefill, prefill_body())
    assert (status, answer["error"]["param"]) == (400, "kv_transfer_params.transfer_id")
    assert (await engines.post(engines.decode, await decode_body(engines)))[0] == 200
    engines.check_nothing_is_held()


async def test_an_unknown_engine_fails_the_decode_leg(engines: Pair) -> None:
    body = changed(await decode_body(engines), "kv_transfer_params.remote_engine_id", "other")
    assert (await engines.post(engines.decode, body))[0] == 500
    assert (await engines.state(engines.decode))["failed"] == {"engine_id": 1}


async def test_a_decode_leg_alone_waits_for_a_bounded_time() -> None:
    async with pair("mooncake") as engines:
        body = await decode_body(engines)
        with LeapingClock().leaping():
            status, answer = await engines.post(engines.decode, body)
        assert (status, "xfer-1" in answer["error"]["message"]) == (500, True)
        engines.check_nothing_is_held()


async def test_a_prefill_leg_alone_leaks_until_it_expires(until: Until) -> None:
    async with pair("mooncake", transfer_expiry=0.2) as engines:
        assert (await engines.post(engines.prefill, prefill_body()))[0] == 200
        ledger = engines.prefill.core.transfers.ledger
        await until(lambda: ledger.leaked_blocks == BLOCKS)
        engines.check_nothing_is_held()


async def test_a_prefill_leg_that_fails_ends_the_decode_leg_at_once(
    engines: Pair, until: Until
) -> None:
    await engines.fault(engines.prefill, "prefill", "error500")
    decode = asyncio.ensure_future(engines.post(engines.decode, await decode_body(engines)))
    await until(lambda: engines.prefill.core.transfers.state()["waiting"] == 1)
    assert (await engines.post(engines.prefill, prefill_body()))[0] == 500
    assert (await decode)[0] == 500
    engines.check_nothing_is_held()

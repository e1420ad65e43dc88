"""SGLang between two engines: the legs meet in a room, or fail in a bounded time."""

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
    async with pair("sglang") as made:
        yield made


def body(engines: Pair, room: int = 77, prompt: list[int] = PROMPT) -> dict[str, Any]:
    address = engines.prefill.kv_transfer
    assert address is not None
    return {
        "prompt": prompt,
        "max_tokens": 30,
        "bootstrap_host": address["host"],
        "bootstrap_port": address["port"],
        "bootstrap_room": room,
    }


@pytest.mark.parametrize("prefill_first", [True, False])
@pytest.mark.parametrize("prompt", [PROMPT, SHORT])
async def test_two_legs_at_once_say_what_one_engine_says(
    engines: Pair, until: Until, prefill_first: bool, prompt: list[int]
) -> None:
    whole = await engines.text(engines.single, {"prompt": prompt, "max_tokens": 30})
    order = [engines.prefill, engines.decode]
    if not prefill_first:
        order.reverse()
    sent = body(engines, prompt=prompt)
    early = asyncio.ensure_future(engines.post(order[0], sent))
    await until(lambda: engines.prefill.core.transfers.state()["waiting"] == 1)
    assert not early.done()
    late = asyncio.ensure_future(engines.post(order[1], sent))
    answers = await asyncio.gather(early, late)
    first, second = answers if prefill_first else answers[::-1]
    assert (first[0], second[0]) == (200, 200)
    assert first[1]["usage"]["completion_tokens"] == 1
    assert first[1]["choices"][0]["text"] == whole[0]
    assert second[1]["choices"][0]["text"] == whole
    details = second[1]["usage"]["prompt_tokens_details"]
    assert details["cached_tokens"] == len(prompt) // BLOCK * BLOCK
    engines.check_nothing_is_held()


async def test_a_batch_has_a_room_for_each_prompt(engines: Pair) -> None:
    prompts = [PROMPT, PROMPT[::-1]]
    plain = {"prompt": prompts, "max_tokens": 10}
    one = body(engines)
    sent = {
        **plain,
        **{name: [one[name]] * 2 for name in ("bootstrap_host", "bootstrap_port")},
        "bootstrap_room": [5, 6],
    }
    _, whole = await engines.post(engines.single, plain)
    first, second = await asyncio.gather(
        engines.post(engines.prefill, sent), engines.post(engines.decode, sent)
    )
    assert (first[0], second[0]) == (200, 200)
    assert second[1]["choices"] == whole["choices"]
    engines.check_nothing_is_held()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bootstrap_host", ...),
        ("bootstrap_host", ""),
        ("bootstrap_host", ["127.0.0.1"]),
        ("bootstrap_port", None),
        ("bootstrap_port", "8998"),
        ("bootstrap_port", 0),
        ("bootstrap_room", ...),
        ("bootstrap_room", -1),
        ("bootstrap_room", 1 << 63),
        ("bootstrap_room", 1.5),
        ("bootstrap_room", "7"),
        ("n", 2),
    ],
)
async def test_a_wrong_field_is_refused_by_both(engines: Pair, name: str, value: Any) -> None:
    for engine in (engines.prefill, engines.decode):
        status, answer = await engines.post(engine, changed(body(engines), name, value))
        assert (status, answer["error"]["param"]) == (400, name)
    engines.check_nothing_is_held()


@pytest.mark.parametrize(("name", "value"), [("bootstrap_host", "10.9.8.7"), ("bootstrap_port", 1)])
async def test_another_prefill_engine_s_request_is_refused(
    engines: Pair, name: str, value: Any
) -> None:
    status, answer = await engines.post(engines.prefill, changed(body(engines), name, value))
    assert (status, answer["error"]["param"]) == (400, name)


async def test_a_request_without_a_room_is_refused_by_an_engine_of_one_role(engines: Pair) -> None:
    for engine in (engines.prefill, engines.decode):
        status, answer = await engines.post(engine, {"prompt": PROMPT, "max_tokens": 3})
        assert (status, answer["error"]["param"]) == (400, "bootstrap_host")


async def test_a_leg_alone_waits_for_a_bounded_time() -> None:
    async with pair("sglang") as engines:
        clock = LeapingClock()
        for engine in (engines.prefill, engines.decode):
            with clock.leaping():
                status, answer = await engines.post(engine, body(engines))
            assert (status, "room 77" in answer["error"]["message"]) == (500, True)
            engines.check_nothing_is_held()


async def test_a_room_in_use_is_refused(engines: Pair, until: Until) -> None:
    early = asyncio.ensure_future(engines.post(engines.prefill, body(engines)))
    await until(lambda: engines.prefill.core.transfers.state()["waiting"] == 1)
    status, answer = await engines.post(engines.prefill, body(engines))
    assert (status, answer["error"]["param"]) == (400, "bootstrap_room")
    assert (await engines.post(engines.decode, body(engines)))[0] == 200
    assert (await early)[0] == 200


@pytest.mark.parametrize("step", ["accepted", "prefill", "transfer"])
async def test_a_failure_of_the_prefill_leg_ends_both(until: Until, step: str) -> None:
    async with pair("sglang") as engines:
        await engines.fault(engines.prefill, step, "error500")
        decode = asyncio.ensure_future(engines.post(engines.decode, body(engines)))
        await until(lambda: engines.prefill.core.transfers.state()["waiting"] == 1)
        assert (await engines.post(engines.prefill, body(engines)))[0] == 500
        # A prefill engine that failed at "accepted" never knew of the room: decode gives up alone.
        with LeapingClock().leaping():
            assert (await decode)[0] == 500
        engines.check_nothing_is_held()


async def test_a_decode_client_that_leaves_ends_the_prefill_leg(
    engines: Pair, until: Until
) -> None:
    await engines.fault(engines.prefill, "transfer", "hang")
    prefill = asyncio.ensure_future(engines.post(engines.prefill, body(engines)))
    decode = asyncio.ensure_future(engines.post(engines.decode, body(engines)))
    await until(lambda: not engines.prefill.core.transfers.faults.is_set("transfer"))
    decode.cancel()
    assert (await prefill)[0] == 500
    engines.check_nothing_is_held()

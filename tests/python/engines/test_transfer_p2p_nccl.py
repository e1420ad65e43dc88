"""P2P NCCL between two engines: the addresses in the request's id, and the push."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgpack
import pytest
import zmq
import zmq.asyncio
from leaping_clock import LeapingClock
from transfer_harness import BLOCK, PROMPT, SHORT, TIMEOUT, Pair, Until, pair

BLOCKS = len(PROMPT) // BLOCK


@pytest.fixture
async def engines() -> AsyncIterator[Pair]:
    async with pair("p2p_nccl") as made:
        yield made


def addresses(engines: Pair) -> tuple[str, str]:
    prefill, decode = engines.prefill.kv_transfer, engines.decode.kv_transfer
    assert prefill is not None
    assert decode is not None
    return prefill["zmq_address"], decode["zmq_address"]


def request_id(engines: Pair, unique: str = "0a1b") -> str:
    prefill, decode = addresses(engines)
    return f"___prefill_addr_{prefill}___decode_addr_{decode}_{unique}"


@pytest.mark.parametrize("prompt", [PROMPT, SHORT])
@pytest.mark.parametrize("streamed", [False, True])
async def test_two_legs_say_what_one_engine_says(
    engines: Pair, prompt: list[int], streamed: bool
) -> None:
    name = request_id(engines)
    whole = await engines.text(engines.single, {"prompt": prompt, "max_tokens": 30})
    body = {"prompt": prompt, "max_tokens": 1, "stream": streamed}
    url = f"{engines.prefill.http_url}/v1/completions"
    async with engines.session.post(url, json=body, headers={"X-Request-Id": name}) as response:
        assert response.status == 200
        await response.read()
    body = {"prompt": prompt, "max_tokens": 30}
    status, answer = await engines.post(engines.decode, body, request_id=name)
    assert (status, answer["choices"][0]["text"]) == (200, whole)
    cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert cached == len(prompt) // BLOCK * BLOCK
    engines.check_nothing_is_held()


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "plain",
        "___prefill_addr_{p}_x",
        "___decode_addr_{d}_x",
        "___prefill_addr_{p}___decode_addr_{d}",
        "___prefill_addr_127.0.0.1___decode_addr_{d}_x",
        "___prefill_addr_{d}___decode_addr_{p}_x",
        "___prefill_addr_127.0.0.1:99999___decode_addr_127.0.0.1:0_x",
    ],
)
async def test_an_id_without_this_engine_s_address_is_refused(engines: Pair, pattern: str) -> None:
    prefill, decode = addresses(engines)
    name = pattern.format(p=prefill, d=decode)
    body = {"prompt": PROMPT, "max_tokens": 1}
    for engine in (engines.prefill, engines.decode):
        status, answer = await engines.post(engine, body, request_id=name)
        assert (status, answer["error"]["param"]) == (400, "X-Request-Id")
    engines.check_nothing_is_held()


async def test_params_that_name_another_decode_engine_than_the_id_are_refused(
    engines: Pair,
) -> None:
    prefill, _ = addresses(engines)
    body = {
        "prompt": PROMPT,
        "max_tokens": 1,
        "kv_transfer_params": {"remote_kv_addr": prefill},
    }
    status, answer = await engines.post(engines.prefill, body, request_id=request_id(engines))
    assert (status, answer["error"]["param"]) == (400, "kv_transfer_params.remote_kv_addr")
    engines.check_nothing_is_held()


async def test_a_prefill_leg_asks_for_one_token(engines: Pair) -> None:
    for more in ({"max_tokens": 2}, {"max_tokens": 1, "n": 2}):
        body = {"prompt": PROMPT, **more}
        status, _ = await engines.post(engines.prefill, body, request_id=request_id(engines))
        assert status == 400
    engines.check_nothing_is_held()


async def test_a_decode_leg_alone_waits_for_a_bounded_time() -> None:
    async with pair("p2p_nccl") as engines:
        body = {"prompt": PROMPT, "max_tokens": 3}
        with LeapingClock().leaping():
            status, _ = await engines.post(engines.decode, body, request_id=request_id(engines))
        assert status == 500
        engines.check_nothing_is_held()


async def test_what_nobody_claims_is_dropped_and_counted(until: Until) -> None:
    async with pair("p2p_nccl", transfer_expiry=20.0) as engines:
        body = {"prompt": PROMPT, "max_tokens": 1}
        status, _ = await engines.post(engines.prefill, body, request_id=request_id(engines))
        assert status == 200
        with LeapingClock().leaping():
            await until(lambda: engines.decode.core.transfers.ledger.unclaimed == 1)
        engines.check_nothing_is_held()


async def test_a_decode_engine_that_is_not_there_leaves_no_block_held(
    engines: Pair, unused_port: int, until: Until
) -> None:
    prefill, _ = addresses(engines)
    name = f"___prefill_addr_{prefill}___decode_addr_127.0.0.1:{unused_port}_x"
    body = {"prompt": PROMPT, "max_tokens": 1}
    assert (await engines.post(engines.prefill, body, request_id=name))[0] == 200
    await until(lambda: engines.prefill.core.transfers.ledger.released == 1)
    assert (await engines.state(engines.prefill))["failed"] == {"unreachable": 1}
    engines.check_nothing_is_held()


async def test_engines_register_at_the_proxy() -> None:
    context = zmq.asyncio.Context()
    try:
        router = context.socket(zmq.ROUTER)
        port = router.bind_to_random_port("tcp://127.0.0.1")
        async with pair("p2p_nccl", kv_proxy_port=port) as engines:
            words = {}
            while len(words) < 2:
                _, word = await asyncio.wait_for(router.recv_multipart(), TIMEOUT)
                known = msgpack.unpackb(word)
                words[known["type"]] = known
            prefill, decode = addresses(engines)
            assert (words["P"]["zmq_address"], words["D"]["zmq_address"]) == (prefill, decode)
            assert engines.prefill.http_url == f"http://{words['P']['http_address']}"
    finally:
        context.destroy(linger=0)

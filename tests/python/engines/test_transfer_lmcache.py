"""LMCache between two engines: first token, pushes to the receiver's ports, notices by rank."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgpack
import pytest
import zmq
import zmq.asyncio
from leaping_clock import LeapingClock
from transfer_harness import BLOCK, PROMPT, SHORT, TIMEOUT, Pair, Until, changed, pair

BLOCKS = len(PROMPT) // BLOCK
RANKS = 2


class Proxy:
    """A PULL socket where a router has one."""

    def __init__(self) -> None:
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.PULL)
        self.port = self._socket.bind_to_random_port("tcp://127.0.0.1")

    async def notices(self, count: int) -> list[Any]:
        return [
            msgpack.unpackb(await asyncio.wait_for(self._socket.recv(), TIMEOUT))
            for _ in range(count)
        ]

    def close(self) -> None:
        self._context.destroy(linger=0)


@asynccontextmanager
async def lmcache(**settings: Any) -> AsyncIterator[tuple[Pair, Proxy]]:
    proxy = Proxy()
    try:
        async with pair(
            "lmcache", tensor_parallel_size=RANKS, kv_proxy_port=proxy.port, **settings
        ) as engines:
            yield engines, proxy
    finally:
        proxy.close()


@pytest.fixture
async def engines() -> AsyncIterator[tuple[Pair, Proxy]]:
    async with lmcache() as made:
        yield made


def prefill_body(engines: Pair, req_id: str = "r1", prompt: list[int] = PROMPT) -> dict[str, Any]:
    address = engines.decode.kv_transfer
    assert address is not None
    spec = {
        "req_id": req_id,
        "receiver_host": address["receiver_host"],
        "receiver_init_port": address["receiver_init_port"],
        "receiver_alloc_port": address["receiver_alloc_port"],
    }
    params = {"ret_first_tok": True, "disagg_spec": spec}
    return {"prompt": prompt, "max_tokens": 1, "kv_transfer_params": params}


@pytest.mark.parametrize("kind", ["ProxyNotif", "PDMsg"])
async def test_two_legs_say_what_one_engine_says(kind: str) -> None:
    async with lmcache(kv_notice=kind) as (engines, proxy):
        whole = await engines.text(engines.single, {"prompt": PROMPT, "max_tokens": 30})
        status, first = await engines.post(engines.prefill, prefill_body(engines))
        assert status == 200
        assert await proxy.notices(RANKS) == [{"type": kind, "req_id": "r1"}] * RANKS
        prompt = [*PROMPT, first["kv_transfer_params"]["first_tok"]]
        status, second = await engines.post(engines.decode, {"prompt": prompt, "max_tokens": 29})
        assert status == 200
        assert first["choices"][0]["text"] + second["choices"][0]["text"] == whole
        assert second["usage"]["prompt_tokens_details"]["cached_tokens"] == BLOCKS * BLOCK
        state = await engines.state(engines.decode)
        assert (state["received_blocks"], state["missed"], state["unclaimed"]) == (BLOCKS, {}, 0)
        state = await engines.state(engines.prefill)
        assert (state["read"], state["notices"], state["leaked"]) == (1, RANKS, 0)
        engines.check_nothing_is_held()


async def test_the_first_token_is_told_only_when_asked_for(engines: tuple[Pair, Proxy]) -> None:
    two, proxy = engines
    body = changed(prefill_body(two), "kv_transfer_params.ret_first_tok", False)
    status, answer = await two.post(two.prefill, body)
    assert (status, answer["kv_transfer_params"]) == (200, None)
    await proxy.notices(RANKS)


async def test_a_prompt_shorter_than_a_block_is_noticed_too(engines: tuple[Pair, Proxy]) -> None:
    two, proxy = engines
    body = prefill_body(two, prompt=SHORT)
    assert (await two.post(two.prefill, body))[0] == 200
    assert len(await proxy.notices(RANKS)) == RANKS


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("kv_transfer_params", 1),
        ("kv_transfer_params", {"ret_first_tok": True}),
        ("kv_transfer_params.ret_first_tok", 1),
        ("kv_transfer_params.do_remote_decode", True),
        ("kv_transfer_params.disagg_spec", []),
        ("kv_transfer_params.disagg_spec.req_id", ...),
        ("kv_transfer_params.disagg_spec.req_id", 7),
        ("kv_transfer_params.disagg_spec.req_id", ""),
        ("kv_transfer_params.disagg_spec.receiver_host", ...),
        ("kv_transfer_params.disagg_spec.receiver_host", None),
        ("kv_transfer_params.disagg_spec.receiver_init_port", 8300),
        ("kv_transfer_params.disagg_spec.receiver_init_port", [8300]),
        ("kv_transfer_params.disagg_spec.receiver_init_port", [8300, "8301"]),
        ("kv_transfer_params.disagg_spec.receiver_alloc_port", ...),
        ("kv_transfer_params.disagg_spec.receiver_alloc_port", [1, 2, 3]),
        ("kv_transfer_params.disagg_spec.receiver_alloc_port", [0, 70000]),
        ("kv_transfer_params.disagg_spec.proxy_port", 1),
        ("max_tokens", 2),
        ("max_tokens", ...),
        ("stream", True),
        ("n", 2),
        ("prompt", [PROMPT, PROMPT]),
    ],
)
async def test_a_wrong_prefill_leg_is_refused_by_its_field(
    engines: tuple[Pair, Proxy], path: str, value: Any
) -> None:
    two, _ = engines
    status, answer = await two.post(two.prefill, changed(prefill_body(two), path, value))
    assert status == 400
    assert answer["error"]["param"].startswith(path)
    two.check_nothing_is_held()


async def test_a_decode_leg_with_transfer_params_is_refused(engines: tuple[Pair, Proxy]) -> None:
    two, _ = engines
    status, answer = await two.post(two.decode, prefill_body(two))
    assert (status, answer["error"]["param"]) == (400, "kv_transfer_params")


async def test_ports_that_are_not_the_receiver_s_fail_the_prefill(
    engines: tuple[Pair, Proxy], unused_port: int
) -> None:
    two, _ = engines
    spec = "kv_transfer_params.disagg_spec."
    body = prefill_body(two)
    ports = body["kv_transfer_params"]["disagg_spec"]["receiver_init_port"]
    for wrong in (
        changed(body, spec + "receiver_init_port", ports[::-1]),
        changed(body, spec + "receiver_alloc_port", ports),
        changed(body, spec + "receiver_init_port", [ports[0], unused_port]),
    ):
        status, answer = await two.post(two.prefill, wrong)
        assert (status, answer["error"]["type"]) == (500, "InternalServerError")
    assert (await two.state(two.prefill))["failed"] == {"receiver": 2, "unreachable": 1}
    two.check_nothing_is_held()


async def test_a_decode_before_the_transfer_computes_by_itself_and_is_counted() -> None:
    async with lmcache() as (engines, _):
        await engines.fault(engines.decode, "transfer", "hang")
        _, first = await engines.post(engines.prefill, prefill_body(engines))
        prompt = [*PROMPT, first["kv_transfer_params"]["first_tok"]]
        whole = await engines.text(engines.single, {"prompt": PROMPT, "max_tokens": 30})
        rest = await engines.text(engines.decode, {"prompt": prompt, "max_tokens": 29})
        assert first["choices"][0]["text"] + rest == whole
        assert sum((await engines.state(engines.decode))["missed"].values()) == 1


async def test_what_nobody_claims_is_dropped_and_counted(until: Until) -> None:
    async with lmcache(transfer_expiry=20.0) as (engines, proxy):
        assert (await engines.post(engines.prefill, prefill_body(engines)))[0] == 200
        await proxy.notices(RANKS)
        transfers = engines.decode.core.transfers
        with LeapingClock().leaping():
            await until(lambda: transfers.ledger.unclaimed > 0 and not transfers.state()["waiting"])
        engines.check_nothing_is_held()


async def test_a_push_that_breaks_sends_no_notice_and_frees_the_blocks(until: Until) -> None:
    async with lmcache() as (engines, _):
        await engines.fault(engines.decode, "transfer", "close")
        assert (await engines.post(engines.prefill, prefill_body(engines)))[0] == 200
        ledger = engines.prefill.core.transfers.ledger
        await until(lambda: ledger.released == 1)
        assert (ledger.notices, dict(ledger.failed)) == (0, {"closed": 1})
        assert engines.prefill.core.cache.usage == 0.0


async def test_a_notice_may_get_lost(until: Until) -> None:
    async with lmcache() as (engines, proxy):
        await engines.fault(engines.prefill, "notice", "error500")
        assert (await engines.post(engines.prefill, prefill_body(engines)))[0] == 200
        assert len(await proxy.notices(RANKS - 1)) == RANKS - 1
        await until(lambda: engines.prefill.core.transfers.ledger.failed["notice"] == 1)

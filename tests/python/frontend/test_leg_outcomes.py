"""What becomes of a request in two legs whose engines refuse, are busy or answer nonsense."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from frontend_harness import (
    STREAM_HEAD,
    EngineRequest,
    FakeEngine,
    Frontend,
    answer,
    chunk,
    running_frontend,
)
from kvroute.disagg.connector import Transfer
from kvroute.disagg.connectors.nixl import NixlTransfer
from kvroute.disagg.connectors.sglang import SglangTransfer
from kvroute.disagg.legs import ClientRequest, LegRequest
from kvroute.disagg.usage import UsageRelay
from kvroute.frontend import handover
from kvroute.frontend.protocols import core_router

pytestmark = pytest.mark.timeout(60)

DONE = answer(
    {
        "choices": [{"index": 0, "text": "x", "finish_reason": "length"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
    }
)
EVENT = b'data: {"choices": [{"index": 0, "text": "x"}], "usage": {"prompt_tokens": 3}}\n\n'
Reply = bytes | Callable[[EngineRequest], bytes]


def refusal(status: str, **headers: str) -> bytes:
    error = {"error": {"message": "no", "type": "t", "param": None, "code": 1}}
    return answer(error, status=status, headers=headers)


def of_one_token(status: str, **headers: str) -> Callable[[EngineRequest], bytes]:
    """Refuses a request for one token, as an engine that has to parse the answer does."""
    return lambda r: refusal(status, **headers) if r.json["max_tokens"] == 1 else DONE


@dataclass
class Legs:
    frontend: Frontend
    prefill: list[FakeEngine]
    decode: list[FakeEngine]

    async def ask(self, **body: Any) -> tuple[int, Any, dict[str, str]]:
        async with self.frontend.completion({"max_tokens": 9, **body}) as response:
            content = await response.read()
            return response.status, content, {k.lower(): v for k, v in response.headers.items()}

    @property
    def group(self) -> Any:
        assert self.frontend.app.services is not None
        (group,) = self.frontend.app.services.fleet.groups.values()
        return group

    def all_take_requests(self) -> bool:
        return all(self.group.states().values())


@asynccontextmanager
async def legs(
    prefill: list[Reply], decode: list[Reply], connector: str = "nixl", **settings: Any
) -> AsyncIterator[Legs]:
    """A frontend before engines of each role that answer so."""

    def engine(reply: Reply) -> FakeEngine:
        async def handler(request: EngineRequest) -> None:
            request.writer.write(reply(request) if callable(reply) else reply)

        return FakeEngine(handler)

    async with AsyncExitStack() as exits:
        made = [await exits.enter_async_context(engine(one)) for one in (*prefill, *decode)]
        labels = ["p"] * len(prefill) + ["d"] * len(decode)
        given = {
            "block_size": 16,
            "kv_events": None,
            "routing_logic": "disaggregated_prefill_orchestrated",
            "static_model_labels": labels,
            "prefill_model_labels": ["p"],
            "decode_model_labels": ["d"],
            "disagg_connector_type": connector,
            **settings,
        }
        frontend = await exits.enter_async_context(
            running_frontend(*(one.url for one in made), make_router=core_router, **given)
        )
        yield Legs(frontend, made[: len(prefill)], made[len(prefill) :])


@pytest.mark.parametrize("status", ["400 Bad Request", "422 Wrong", "501 Not Implemented"])
async def test_what_a_prefill_leg_refuses_goes_whole_to_its_decode_worker(status: str) -> None:
    refusing = of_one_token(status)
    async with legs([refusing, refusing], [DONE, DONE]) as fleet:
        got, content, headers = await fleet.ask()
        assert got == 200, content
        asked = [request for engine in fleet.decode for request in engine.requests]
        assert [request.json["max_tokens"] for request in asked] == [9]
        assert "x-kvroute-prefill-worker" not in headers
        assert sum(len(engine.requests) for engine in fleet.prefill) == 1
        name = "kvroute_disagg_whole_requests_total"
        assert await fleet.frontend.metric(name, reason="prefill_refused") == 1
        assert await fleet.frontend.metric("kvroute_disagg_leg_failures_total") == 0
        assert fleet.all_take_requests()


async def test_where_nobody_serves_it_whole_the_refusal_is_the_answer() -> None:
    refused = refusal("400 Bad Request")
    async with legs([refused], [refused], "sglang") as fleet:
        status, content, _ = await fleet.ask()
        assert (status, b'"no"' in content) == (400, True)


@pytest.mark.parametrize("status", ["429 Too Many Requests", "408 Request Timeout"])
async def test_a_busy_prefill_worker_is_passed_over(status: str) -> None:
    async with legs([refusal(status), DONE], [DONE]) as fleet:
        for _ in range(2):
            got, content, headers = await fleet.ask()
            assert got == 200, content
            assert headers["x-kvroute-prefill-worker"] == fleet.prefill[1].url
        name = "kvroute_disagg_leg_failures_total"
        assert await fleet.frontend.metric(name, leg="prefill", reason="busy") >= 1
        assert fleet.all_take_requests()


@pytest.mark.parametrize(
    ("status", "code"),
    [("503 Unavailable", 503), ("429 Too Many", 429), ("500 Wrong", 502)],
)
async def test_what_tells_a_client_to_come_back_is_passed_on(status: str, code: int) -> None:
    async with legs([DONE], [refusal(status, **{"Retry-After": "7"})]) as fleet:
        got, content, headers = await fleet.ask()
        assert got == code
        assert headers.get("retry-after") == ("7" if code != 502 else None)
        assert b"1 attempt in two legs failed" in content
        assert await fleet.frontend.metric("kvroute_reroutes_total") == 0, "none was made"
        assert await fleet.frontend.metric("kvroute_disagg_two_leg_requests_total") == 0


async def test_a_decode_leg_s_501_is_the_answer_and_no_failure() -> None:
    async with legs([DONE], [refusal("501 Not Implemented")] * 2) as fleet:
        assert (await fleet.ask())[0] == 501
        assert sum(len(engine.requests) for engine in fleet.decode) == 1
        assert fleet.all_take_requests()


async def test_attempts_that_were_made_are_counted() -> None:
    async with legs([DONE], [refusal("500 Wrong")] * 2) as fleet:
        status, content, _ = await fleet.ask()
        assert (status, b"2 attempts in two legs failed" in content) == (502, True)
        assert await fleet.frontend.metric("kvroute_reroutes_total") == 1


def broken(*_: object) -> Any:
    raise TypeError("'NoneType' object is not subscriptable")


@pytest.mark.parametrize(
    ("connector", "owner"), [("nixl", NixlTransfer), ("sglang", SglangTransfer)]
)
@pytest.mark.parametrize("method", ["prepare", "prefill", "prefilled", "decode", "relay"])
async def test_what_a_connector_raises_ends_the_attempt_and_both_legs(
    connector: str, owner: type[Transfer], method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (connector, method) == ("sglang", "prefilled"):
        return  # it reads no answer
    monkeypatch.setattr(owner, method, broken)
    async with legs([DONE], [DONE], connector) as fleet:
        status, content, _ = await fleet.ask()
        assert status in (200, 502), content  # whole, where that can be
        if connector == "sglang" and method != "relay":
            assert not fleet.prefill[0].requests, "a leg was left running"
        assert await fleet.frontend.metric("kvroute_disagg_leg_failures_total") >= 1
        assert fleet.group.router.stats().reservations == 0


async def test_an_answer_of_no_known_shape_is_tried_elsewhere_or_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(UsageRelay, "whole", broken)
    monkeypatch.setattr(UsageRelay, "chunk", broken)
    stream = STREAM_HEAD + chunk(EVENT) + chunk(b"data: [DONE]\n\n") + chunk(b"")

    def reply(request: EngineRequest) -> bytes:
        return stream if request.json.get("stream") else DONE

    async with legs([DONE], [reply, reply]) as fleet:
        status, content, _ = await fleet.ask()
        assert (status, b"TypeError" in content) == (502, True)
        assert [len(engine.requests) for engine in fleet.decode] == [1, 1]
        status, content, _ = await fleet.ask(stream=True)
        assert status == 200
        assert b"error" in content
        assert await fleet.frontend.metric("kvroute_disagg_two_leg_requests_total") == 0


def held() -> int:
    """How much there is that has a prompt in it."""
    gc.collect()
    kinds = (ClientRequest, LegRequest, Transfer)
    return sum(isinstance(one, kinds) for one in gc.get_objects())


@pytest.mark.parametrize("failing", [False, True], ids=["at-once", "a-failure"])
@pytest.mark.parametrize("connector", ["nixl", "sglang", "whole"])
async def test_a_long_answer_holds_no_prompt(connector: str, failing: bool) -> None:
    came, goes_on = asyncio.Event(), asyncio.Event()

    async def streaming(request: EngineRequest) -> None:
        request.writer.write(STREAM_HEAD + chunk(EVENT))
        came.set()
        await goes_on.wait()
        request.writer.write(chunk(b"data: [DONE]\n\n") + chunk(b""))

    protocol = "nixl" if connector == "whole" else connector
    prefill: list[Reply] = [refusal("500 Wrong"), DONE] if failing else [DONE, DONE]
    if failing and connector == "sglang":
        prefill[1] = prefill[0]  # a failure beside a decode leg that streams
    threshold = {"routing_threshold": 1000} if connector == "whole" else {}
    before = held()  # by other tests
    async with legs(prefill, [DONE], protocol, **threshold) as fleet:
        fleet.decode[0].handler = streaming
        body = {"prompt": list(range(100)), "stream": True, "max_tokens": 9}
        async with fleet.frontend.completion(body) as response:
            await asyncio.wait_for(came.wait(), 10)
            assert (await response.content.readany()).startswith(b"data: ")
            assert held() == before
            goes_on.set()
            assert b"[DONE]" in await response.read()


async def test_the_decode_worker_is_free_when_its_answer_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handover, "_PREFILL_ENDS", 20.0)
    ends = asyncio.Event()

    async def slow(request: EngineRequest) -> None:
        await ends.wait()
        request.writer.write(DONE)

    async with legs([DONE], [DONE], "sglang") as fleet:
        fleet.prefill[0].handler = slow
        assert (await fleet.ask())[0] == 200
        running = {url: one.running for url, one in fleet.group.backends.items()}
        assert running == {fleet.prefill[0].url: 1, fleet.decode[0].url: 0}
        ends.set()


async def test_the_worker_that_is_the_best_pair_gets_the_request_and_is_counted_once() -> None:
    joint = {
        "static_model_labels": ["a", "a", "d"],
        "prefill_model_labels": ["a"],
        "decode_model_labels": ["a", "d"],
        "load_balancing_strategy": "kv",
        "pair_choice": "joint",
        "no_kv_events": True,
    }
    async with legs([DONE, DONE], [DONE], **joint) as fleet:
        real, pairs = fleet.group.reserve_pair, []

        def reserve_pair(*given: Any, **named: Any) -> Any:
            pairs.append(real(*given, **named))
            return pairs[-1]

        fleet.group.reserve_pair = reserve_pair
        count = 12
        for number in range(count):
            _, _, headers = await fleet.ask(prompt=[number] * 400)
            assert headers["x-kvroute-worker"] == pairs[-1].decode.backend.url
        whole = sum(pair.prefill.backend is pair.decode.backend for pair in pairs)
        assert whole > 0
        name = "kvroute_decisions_total"
        counted = [
            await fleet.frontend.metric(name, phase=phase)
            for phase in ("whole", "prefill", "decode")
        ]
        assert counted == [whole, count - whole, count - whole]

        url = f"{fleet.frontend.url}/v1/kvroute/policy?phase=decode"
        async with fleet.frontend.client.put(url, json="kv_cost") as response:
            assert response.status == 400
            assert "pair_choice" in (await response.json())["error"]["message"]


async def test_all_prompts_of_a_large_batch_count_against_the_threshold() -> None:
    settings = {"routing_threshold": 3000}
    async with legs([DONE], [DONE], **settings) as fleet:
        await fleet.ask(prompt=[[7] * 10] * 300)
        await fleet.ask(prompt=[[7] * 10] * 299)
        name = "kvroute_disagg_whole_requests_total"
        assert await fleet.frontend.metric(name, reason="protocol_batch") == 1
        assert await fleet.frontend.metric(name, reason="below_threshold") == 1


async def test_a_phase_without_room_holds_up_no_other_phase() -> None:
    settings = {
        "routing_logic": "disaggregated_prefill",
        "disagg_connector_type": "nixl",
        "max_waiting": 0,
        "queue_limit": 8,
    }
    async with legs([DONE], [DONE], **settings) as fleet:
        fleet.frontend.router.update_load(fleet.prefill[0].url, waiting=5, running=5)
        held = asyncio.create_task(fleet.ask(max_tokens=1))
        while await fleet.frontend.metric("kvroute_queue_waiting") != 1:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0)
        assert (await asyncio.wait_for(fleet.ask(max_tokens=5), 10))[0] == 200
        assert not held.done()
        fleet.frontend.router.update_load(fleet.prefill[0].url, waiting=0, running=0)
        assert (await held)[0] == 200

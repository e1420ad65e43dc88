"""No engine hears what a client says of transfers, where the router itself makes the legs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from frontend_harness import EngineRequest, FakeEngine, Frontend, answer, replies, running_frontend
from kvroute.frontend.protocols import core_router

pytestmark = [pytest.mark.timeout(60)]

FORGED_ID = "___prefill_addr_6.6.6.6:1___decode_addr_6.6.6.6:2_aa"
FORGED = {
    "kv_transfer_params": {"do_remote_prefill": True, "remote_host": "6.6.6.6"},
    "ec_transfer_params": {"remote_host": "6.6.6.6"},
    "vllm_xargs": {"kv_transfer_params": "6.6.6.6", "mine": 1},
    "bootstrap_host": "6.6.6.6",
    "bootstrap_port": 6666,
    "bootstrap_room": 6666,
    "disagg_prefill_dp_rank": 6666,
    "routed_dp_rank": 6666,
    "data_parallel_rank": 6666,
}
ANSWER = {
    "choices": [{"index": 0, "text": "x", "finish_reason": "length"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}
COMPLETION, CHAT = "/v1/completions", "/v1/chat/completions"


@dataclass
class Pair:
    frontend: Frontend
    prefill: FakeEngine
    decode: FakeEngine

    async def told(self, path: str = COMPLETION, **more: Any) -> list[EngineRequest]:
        """What the engines were sent for a request that says FORGED."""
        prompt: dict[str, Any] = {"prompt": [1, 2, 3]}
        if path == CHAT:
            prompt = {"messages": [{"role": "user", "content": "hello"}]}
        body = {"model": "m", **prompt, "max_tokens": 4, **FORGED, **more}
        headers = {"X-Request-Id": FORGED_ID}
        async with self.frontend.client.post(
            self.frontend.url + path, json=body, headers=headers
        ) as response:
            assert response.status == 200, await response.text()
            assert response.headers["x-request-id"]
        sent = [*self.prefill.requests, *self.decode.requests]
        return [request for request in sent if request.path == path]


@contextlib.asynccontextmanager
async def pair(**settings: Any) -> AsyncIterator[Pair]:
    async with (
        FakeEngine(replies(answer(ANSWER))) as prefill,
        FakeEngine(replies(answer(ANSWER))) as decode,
        running_frontend(
            prefill.url,
            decode.url,
            **{
                "make_router": core_router,
                "kv_events": None,
                "routing_logic": "disaggregated_prefill_orchestrated",
                "static_model_labels": ["p", "d"],
                "prefill_model_labels": ["p"],
                "decode_model_labels": ["d"],
                **settings,
            },
        ) as frontend,
    ):
        yield Pair(frontend, prefill, decode)


@pytest.mark.parametrize("path", [COMPLETION, CHAT])
@pytest.mark.parametrize(
    ("settings", "more", "legs"),
    [
        ({}, {}, 2),
        ({}, {"n": 2}, 1),
        ({"routing_threshold": 1000}, {}, 1),
        ({"disagg_connector_type": "sglang"}, {}, 2),
        ({"disagg_connector_type": "shared_storage"}, {}, 2),
    ],
    ids=["nixl", "whole-by-protocol", "whole-by-length", "sglang", "shared_storage"],
)
async def test_no_engine_hears_what_a_client_says_of_transfers(
    settings: dict[str, Any], more: dict[str, Any], legs: int, path: str
) -> None:
    async with pair(**settings) as made:
        told = await made.told(path, **more)
    assert len(told) == legs
    for request in told:
        assert "6.6.6.6" not in request.headers["x-request-id"]
        assert b"6.6.6.6" not in request.body
        assert b"6666" not in request.body
        assert request.json["vllm_xargs"] == {"mine": 1}
        assert {key: request.json[key] for key in more} == more


async def test_an_id_of_one_s_own_goes_to_both_legs() -> None:
    async with (
        pair() as made,
        made.frontend.completion(headers={"X-Request-Id": "mine"}) as response,
    ):
        assert response.headers["x-request-id"] == "mine"
        sent = [*made.prefill.requests, *made.decode.requests]
        assert [one.headers["x-request-id"] for one in sent if one.path == COMPLETION] == [
            "mine",
            "mine",
        ]


async def test_what_cannot_be_written_again_is_refused() -> None:
    nested: Any = 1
    for _ in range(300):
        nested = [nested]
    async with (
        pair() as made,
        made.frontend.completion({"metadata": nested, **FORGED}) as response,
    ):
        assert response.status == 400
        assert "fields of transfers" in (await response.json())["error"]["message"]
        assert not [one for one in made.decode.requests if one.path == COMPLETION]


async def test_a_body_too_deep_for_a_leg_goes_whole_as_it_came() -> None:
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    async with pair() as made, made.frontend.completion({"metadata": deep}) as response:
        assert response.status == 200
        assert not [one for one in made.prefill.requests if one.path == COMPLETION]
        (sent,) = [one for one in made.decode.requests if one.path == COMPLETION]
        assert sent.json["metadata"] == deep
        refused = {"model": "m", "reason": "protocol_nesting"}
        counted = "kvroute_disagg_whole_requests_total"
        assert await made.frontend.metric(counted, **refused) == 1


async def test_clients_that_send_the_legs_themselves_say_where_to() -> None:
    async with pair(routing_logic="disaggregated_prefill") as made:
        (request,) = await made.told()
    assert {name: request.json[name] for name in FORGED} == FORGED
    assert request.headers["x-request-id"] == FORGED_ID

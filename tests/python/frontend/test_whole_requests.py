"""Who serves the requests that go whole, and who gets no legs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from disagg_harness import BLOCK, PROMPT, deployment
from frontend_harness import running_frontend
from kvroute.frontend.protocols import core_router
from role_harness import LABELS, change, fleet_of, legs


@pytest.mark.parametrize("connector", ["sglang", "p2p_nccl"])
async def test_where_decode_workers_serve_nothing_whole_a_short_prompt_goes_in_two_legs(
    connector: str, tmp_path: Path
) -> None:
    async with deployment(connector, 1, 1, tmp_path, routing_threshold=10_000) as made:
        status, _, headers = await made.ask("/v1/completions", prompt=PROMPT, max_tokens=3)
        assert status == 200
        assert headers["x-kvroute-prefill-worker"] == made.prefill[0].http_url
        status, said, _ = await made.ask("/v1/completions", prompt=PROMPT, max_tokens=3, n=2)
        assert (status, said["error"]["param"]) == (400, "n")
        assert "no worker serves whole requests" in said["error"]["message"]
        await change(made.frontend, worker=made.prefill[0].http_url, role="decode")
        status, said, _ = await made.ask("/v1/completions", prompt=PROMPT, max_tokens=3)
        assert status == 503
        assert "no_prefill_worker" in said["error"]["message"]
        await made.settled()


@pytest.mark.parametrize("connector", ["sglang", "p2p_nccl"])
async def test_where_decode_workers_serve_nothing_whole_those_of_whole_requests_do(
    connector: str, tmp_path: Path
) -> None:
    more: dict[str, Any] = {}
    if connector == "p2p_nccl":
        more["disagg_options"] = tmp_path / "options.json"
        more["disagg_options"].write_bytes(
            orjson.dumps({"registration_port": None, "addresses": {"http://p:1": "p:2"}})
        )
    async with fleet_of("p,d,w", connector, routing_threshold=10_000, **more) as made:
        frontend, engines = made
        for body in ({}, {"n": 2}):
            for _ in range(3):
                assert await legs(frontend, **body) == (None, engines[2].http_url)
        assert (await change(frontend, worker=engines[2].http_url, role="decode"))[0] == 200
        async with frontend.completion({"prompt": PROMPT, "n": 2}) as response:
            assert response.status == 400
        assert (await change(frontend, worker=engines[2].http_url, label="w"))[0] == 200
        assert await legs(frontend, n=2) == (None, engines[2].http_url)


async def test_a_worker_of_whole_requests_gets_no_legs() -> None:
    async with fleet_of("w,p,d") as (frontend, engines):
        for _ in range(4):
            assert await legs(frontend) == (engines[1].http_url, engines[2].http_url)
        whole = {(await legs(frontend, n=2))[1] for _ in range(4)}
        assert whole == {engines[0].http_url, engines[2].http_url}


@pytest.mark.parametrize("connector", ["sglang", "mooncake"])
async def test_an_engine_that_cannot_be_both_is_not_made_so(connector: str) -> None:
    async with fleet_of("p,d", connector) as (frontend, engines):
        url = engines[0].http_url
        status, said = await change(frontend, worker=url, role="both")
        assert status == (400 if connector == "sglang" else 200)
        if connector == "sglang":
            assert "role: expected prefill, decode or whole, got both" in said["error"]["message"]
            _, workers = await change(frontend, worker=url, role="prefill")
            assert workers["models"]["m"][0]["role"] == "prefill"


async def test_where_clients_send_the_legs_nobody_serves_whole_requests_alone() -> None:
    settings: dict[str, Any] = {
        "routing_logic": "disaggregated_prefill",
        "make_router": core_router,
        "kv_events": None,
        **LABELS,
    }
    urls = ("http://a:1", "http://b:1")
    async with running_frontend(*urls, static_model_labels="p,d", **settings) as frontend:
        status, said = await change(frontend, worker="http://a:1", role="whole")
        assert status == 400
        assert "role: expected prefill, decode or both, got whole" in said["error"]["message"]


async def test_decode_workers_of_nixl_serve_whole_requests() -> None:
    async with fleet_of("p,d", routing_threshold=10_000) as (frontend, engines):
        assert await legs(frontend) == (None, engines[1].http_url)
        reason = {"model": "m", "reason": "below_threshold"}
        assert await frontend.metric("kvroute_disagg_whole_requests_total", **reason) == 1


async def test_a_request_whose_prompt_is_held_goes_whole_to_who_holds_it() -> None:
    async with fleet_of("p,d,d", uncached_threshold=2 * BLOCK) as (frontend, engines):
        urls = [engine.http_url for engine in engines]
        prefill, decode = await legs(frontend)
        assert prefill == urls[0]
        for _ in range(3):
            assert await legs(frontend) == (None, decode)
        reason = {"model": "m", "reason": "cached_at_decoder"}
        assert await frontend.metric("kvroute_disagg_whole_requests_total", **reason) == 3

"""Decisions, policies, explanations and health by phase."""

from __future__ import annotations

from typing import Any

import orjson
from disagg_harness import PROMPT
from frontend_harness import Frontend, running_frontend
from kvroute.frontend.protocols import core_router
from role_harness import LABELS, LOGIC, change, fleet_of, legs


async def test_each_leg_s_decision_is_counted_in_its_phase() -> None:
    async with fleet_of("p,d", prefill_load_balancing_strategy="kv") as (frontend, engines):
        first, second = (engine.http_url for engine in engines)
        assert await legs(frontend) == (first, second)
        counted = "kvroute_decisions_total"
        assert await frontend.metric(counted, phase="prefill", rule="ttft") == 1
        assert await frontend.metric(counted, phase="decode", rule="round_robin") == 1
        assert await frontend.metric("kvroute_disagg_two_leg_requests_total") == 1
        assert await frontend.metric("kvroute_prompt_tokens_total", worker=first) == len(PROMPT)
        assert await frontend.metric("kvroute_prompt_tokens_total", worker=second) == 0
        assert await frontend.metric("kvroute_hit_tokens_count") == 1


async def test_a_phase_s_policy_changes_alone() -> None:
    async with fleet_of("p,d") as (frontend, _):
        url = frontend.url + "/v1/kvroute/policy"
        async with frontend.client.put(url + "?phase=prefill", data=b'"ttft"') as response:
            assert response.status == 200
            assert await response.json() == {
                "models": {"m": "round_robin"},
                "phases": {"m": {"prefill": "ttft", "decode": "round_robin"}},
            }
        assert frontend.router.phase_policies == {
            "prefill": {"name": "ttft"},
            "decode": {"name": "round_robin"},
        }
        async with frontend.client.put(url + "?phase=decode", data=b'"qps"') as response:
            assert (await response.json())["phases"]["m"]["decode"] == "qps"
        async with frontend.client.put(url + "?phase=whole", data=b'"qps"') as response:
            assert response.status == 400
        assert frontend.app.services is not None
        assert frontend.app.services.fleet.group("m").needs_tokens
    async with running_frontend("http://a:1") as plain:
        url = plain.url + "/v1/kvroute/policy?phase=prefill"
        async with plain.client.put(url, data=b'"qps"') as response:
            assert response.status == 400
            assert (await response.json())["error"]["param"] == "phase"


async def test_an_explanation_tells_of_each_leg_who_may_serve_it() -> None:
    async with fleet_of("p,d,b", load_balancing_strategy="kv") as (frontend, engines):
        url = frontend.url + "/v1/kvroute/explain"
        body = {"model": "m", "prompt": PROMPT}
        async with frontend.client.post(url, data=orjson.dumps(body)) as response:
            phases = (await response.json())["phases"]
        eligible = {
            phase: {target["worker"] for target in one["targets"] if target["eligible"]}
            for phase, one in phases.items()
        }
        first, second, third = (engine.http_url for engine in engines)
        assert eligible == {"prefill": {first, third}, "decode": {second, third}}
        assert {phase: one["rule"] for phase, one in phases.items()} == {
            "prefill": "ttft",
            "decode": "kv_cost",
        }
        await change(frontend, worker=first, role="decode")
        await change(frontend, worker=third, role="decode")
        async with frontend.client.post(url, data=orjson.dumps(body)) as response:
            assert list((await response.json())["phases"]) == ["decode"]


async def test_health_needs_the_engines_that_a_request_takes() -> None:
    async def health(frontend: Frontend) -> int:
        async with frontend.client.get(frontend.url + "/health") as response:
            return response.status

    settings: dict[str, Any] = {"routing_logic": LOGIC, "make_router": core_router, **LABELS}
    urls = ("http://p:1", "http://d:1")
    async with running_frontend(*urls, static_model_labels="p,d", **settings) as frontend:
        assert frontend.app.services is not None
        group = frontend.app.services.fleet.group("m")
        assert await health(frontend) == 200
        group.set_healthy(group.backends["http://p:1"], False)
        assert await health(frontend) == 200  # the decode worker serves whole requests
        group.set_healthy(group.backends["http://p:1"], True)
        group.set_healthy(group.backends["http://d:1"], False)
        assert await health(frontend) == 503
    settings["disagg_connector_type"] = "sglang"
    async with running_frontend(*urls, static_model_labels="p,d", **settings) as frontend:
        assert frontend.app.services is not None
        group = frontend.app.services.fleet.group("m")
        assert await health(frontend) == 200
        group.set_healthy(group.backends["http://p:1"], False)
        assert await health(frontend) == 503

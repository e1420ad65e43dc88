"""Roles of workers: shown, changed while requests run, and who serves whole requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from disagg_harness import BLOCK, FAST, PROMPT, deployment, events, reason_of, running
from fake_router import FakeRouter
from frontend_harness import FakeEngine, Frontend, answer, replies, running_frontend
from kvroute.disagg.connectors.nixl import NixlConnector, NixlOptions
from kvroute.disagg.legs import Worker
from kvroute.engines import CostModel, SimulatedEngine
from kvroute.frontend.fleet import Fleet
from kvroute.frontend.protocols import core_router
from kvroute.frontend.roles import Roles
from kvroute.frontend.settings import Settings

WORKERS = "/v1/kvroute/workers"
LABELS: dict[str, Any] = {"prefill_model_labels": "p,b", "decode_model_labels": "d,b"}
LOGIC = "disaggregated_prefill_orchestrated"


@asynccontextmanager
async def fleet_of(
    labels: str, connector: str = "nixl", cost: CostModel = FAST, **settings: Any
) -> AsyncIterator[tuple[Frontend, Sequence[SimulatedEngine]]]:
    """An engine for each label, all able to do both, behind a frontend that makes two legs."""
    engines = [
        SimulatedEngine(model="m", block_size=BLOCK, cost=cost, kv_connector=connector)
        for _ in labels.split(",")
    ]
    async with (
        running(*engines),
        running_frontend(
            *(engine.http_url for engine in engines),
            make_router=core_router,
            block_size=BLOCK,
            routing_logic=LOGIC,
            static_model_labels=labels,
            disagg_connector_type=connector,
            whole_model_labels="w",
            **LABELS,
            **settings,
        ) as frontend,
    ):
        yield frontend, engines


async def change(frontend: Frontend, **body: Any) -> tuple[int, Any]:
    url = frontend.url + WORKERS
    async with frontend.client.put(url, data=orjson.dumps(body)) as response:
        return response.status, await response.json()


async def legs(frontend: Frontend, **body: Any) -> tuple[str | None, str]:
    """The workers of a request's two legs; None for the first where it went whole."""
    async with frontend.completion({"prompt": PROMPT, "max_tokens": 3, **body}) as response:
        assert response.status == 200, await response.text()
        headers = response.headers
        return headers.get("x-kvroute-prefill-worker"), headers["x-kvroute-worker"]


async def test_workers_are_shown_with_their_roles() -> None:
    async with fleet_of("p,d,b") as (frontend, engines):
        async with frontend.client.get(f"{frontend.url}{WORKERS}?model=m") as response:
            shown = (await response.json())["models"]["m"]
        assert [(one["worker"], one["role"]) for one in shown] == [
            (engine.http_url, role)
            for engine, role in zip(engines, ("prefill", "decode", "both"), strict=True)
        ]
        assert shown[0] == {
            "worker": engines[0].http_url,
            "role": "prefill",
            "dp_ranks": 1,
            "healthy": True,
            "takes_requests": True,
            "requests_in_flight": 0,
        }
        role = {"worker": engines[0].http_url, "role": "prefill"}
        assert await frontend.metric("kvroute_worker_role", **role) == 1


async def test_a_changed_role_holds_from_the_next_request_on_and_nothing_is_lost() -> None:
    async with fleet_of("p,d,d") as (frontend, engines):
        first, second, third = (engine.http_url for engine in engines)
        assert (await legs(frontend))[0] == first
        held = frontend.router.overlaps(PROMPT)
        assert held[first, 0] > 0
        status, shown = await change(frontend, worker=second + "/", role="prefill")
        assert status == 200
        assert [one["role"] for one in shown["models"]["m"]] == ["prefill", "prefill", "decode"]
        status, _ = await change(frontend, worker=first, label="d")
        assert status == 200
        assert frontend.router.overlaps(PROMPT) == held
        for _ in range(3):
            prefill, decode = await legs(frontend)
            assert prefill == second
            assert decode in (first, third)
        assert await frontend.metric("kvroute_worker_role", worker=first, role="prefill") == 0
        assert await frontend.metric("kvroute_worker_role", worker=first, role="decode") == 1


async def test_legs_that_run_go_on_when_their_workers_get_other_roles() -> None:
    async with fleet_of("p,d", cost=CostModel(speed=2)) as (frontend, engines):
        first, second = (engine.http_url for engine in engines)
        body = {"prompt": PROMPT, "max_tokens": 200, "stream": True}
        async with frontend.completion(body) as response:
            content = await response.content.readuntil(b"\n\n")
            for url, role in ((first, "decode"), (second, "prefill")):
                assert (await change(frontend, worker=url, role=role))[0] == 200
            async with frontend.client.get(frontend.url + WORKERS) as shown:
                (one, other) = (await shown.json())["models"]["m"]
            assert (one["requests_in_flight"], other["requests_in_flight"]) == (0, 1)
            content += await response.content.read()
        got, done = events(content)
        assert done
        assert reason_of(got) == "length"
        assert frontend.router.stats().reservations == 0
        assert await legs(frontend) == (second, first)


async def test_without_decode_workers_the_answer_is_503_until_one_has_the_role() -> None:
    async with fleet_of("p,d") as (frontend, engines):
        url = engines[1].http_url
        await change(frontend, worker=url, role="prefill")
        async with frontend.completion({"prompt": PROMPT}) as response:
            assert response.status == 503
            assert "no healthy decode worker" in (await response.json())["error"]["message"]
        await change(frontend, worker=url, role="both")
        assert await legs(frontend) == (engines[0].http_url, url)


async def test_a_worker_of_both_roles_does_not_prefill_for_itself() -> None:
    async with fleet_of("b") as (frontend, engines):
        assert await legs(frontend) == (None, engines[0].http_url)
        reason = {"model": "m", "reason": "no_prefill_worker"}
        assert await frontend.metric("kvroute_disagg_whole_requests_total", **reason) == 1
    async with fleet_of("b,b") as (frontend, _):
        for _ in range(4):
            prefill, decode = await legs(frontend)
            assert prefill is not None
            assert prefill != decode


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"{", 400, None),
        (b"[]", 400, None),
        (b'{"role": "both"}', 400, "worker"),
        (b'{"worker": 5, "role": "both"}', 400, "worker"),
        (b'{"worker": "http://nobody:1", "role": "both"}', 404, "worker"),
        (b'{"worker": "%s"}', 400, "role"),
        (b'{"worker": "%s", "role": "both", "label": "b"}', 400, "role"),
        (b'{"worker": "%s", "role": "boss"}', 400, "role"),
        (b'{"worker": "%s", "role": ["both"]}', 400, "role"),
        (b'{"worker": "%s", "label": "x"}', 400, "label"),
        (b'{"worker": "%s", "label": null}', 400, "label"),
        (b'{"worker": "%s", "label": ["b"]}', 400, "label"),
        (b'{"worker": "%s", "role": "both", "rank": 0}', 400, "rank"),
        (b'"' + b"x" * (1 << 16) + b'"', 413, None),
    ],
)
async def test_what_is_wrong_in_a_change_is_named_and_nothing_changes(
    body: bytes, status: int, param: str | None
) -> None:
    async with (
        FakeEngine(replies(answer())) as engine,
        running_frontend(
            engine.url,
            make_router=core_router,
            routing_logic=LOGIC,
            static_model_labels="p",
            **LABELS,
        ) as frontend,
    ):
        content = body.replace(b"%s", engine.url.encode())
        async with frontend.client.put(frontend.url + WORKERS, data=content) as response:
            assert response.status == status
            assert (await response.json())["error"]["param"] == param
        async with frontend.client.get(frontend.url + WORKERS) as response:
            assert (await response.json())["models"]["m"][0]["role"] == "prefill"


async def test_without_disaggregation_no_worker_has_another_role() -> None:
    async with running_frontend("http://a:1") as frontend:
        status, said = await change(frontend, worker="http://a:1", role="prefill")
        assert status == 400
        assert "routing logic disaggregated_prefill" in said["error"]["message"]


async def test_roles_are_behind_the_key_and_a_proxy_s_clients_need_one() -> None:
    settings: dict[str, Any] = {"routing_logic": LOGIC, "make_router": core_router}
    async with running_frontend("http://a:1", api_key="k", **settings) as frontend:
        assert (await change(frontend, worker="http://a:1", role="both"))[0] == 401
        async with frontend.client.get(frontend.url + WORKERS) as response:
            assert response.status == 401
    async with running_frontend("http://a:1", **settings) as frontend:
        for header in ("X-Forwarded-For", "Forwarded", "X-Real-IP"):
            async with frontend.client.put(
                frontend.url + WORKERS,
                data=b'{"worker": "http://a:1", "role": "decode"}',
                headers={header: "127.0.0.1"},
            ) as response:
                assert response.status == 403
        assert (await change(frontend, worker="http://a:1", role="decode"))[0] == 200


async def test_a_role_that_the_connector_does_not_know_a_worker_in_is_refused() -> None:
    receiver = {"receiver_host": "d", "receiver_init_port": 1, "receiver_alloc_port": 2}
    async with running_frontend(
        "http://p:1",
        "http://d:1",
        make_router=core_router,
        routing_logic=LOGIC,
        static_model_labels="p,d",
        disagg_connector_type="lmcache",
        decoder_registry={"http://d:1": receiver},
        proxy_host="127.0.0.1",
        proxy_port=0,
        **LABELS,
    ) as frontend:
        status, said = await change(frontend, worker="http://p:1", role="decode")
        assert status == 400
        assert "decoder_registry: no entry for decoder http://p:1" in said["error"]["message"]
        async with frontend.client.get(frontend.url + WORKERS) as response:
            shown = (await response.json())["models"]["m"]
        assert [one["role"] for one in shown] == ["prefill", "decode"]
        assert (await change(frontend, worker="http://d:1", role="prefill"))[0] == 200


class Listening(NixlConnector):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(NixlOptions())
        self.told: list[tuple[list[str], list[str]]] = []

    def workers_are(self, prefill: Sequence[Worker], decode: Sequence[Worker]) -> None:
        self.told.append(([one.url for one in prefill], [one.url for one in decode]))


def test_the_connector_is_told_of_every_model_s_workers_at_once() -> None:
    settings = Settings(
        static_backends="http://a:1,http://b:1,http://c:1,http://d:1",
        static_models="m,m,n,n",
        routing_logic=LOGIC,
        static_model_labels="p,d,p,b",
        **LABELS,
    )
    fleet = Fleet(settings, core_router)
    connector = Listening()
    roles = Roles(fleet, connector)
    roles.tell_connector()
    roles.change("http://c:1", "decode")
    fleet.close()
    assert connector.told == [
        (["http://a:1", "http://c:1", "http://d:1"], ["http://b:1", "http://d:1"]),
        (["http://a:1", "http://d:1"], ["http://b:1", "http://c:1", "http://d:1"]),
    ]


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


async def test_a_request_whose_prompt_is_held_goes_whole_to_who_holds_it() -> None:
    async with fleet_of("p,d,d", uncached_threshold=2 * BLOCK) as (frontend, engines):
        urls = [engine.http_url for engine in engines]
        prefill, decode = await legs(frontend)
        assert prefill == urls[0]
        for _ in range(3):
            assert await legs(frontend) == (None, decode)
        reason = {"model": "m", "reason": "cached_at_decoder"}
        assert await frontend.metric("kvroute_disagg_whole_requests_total", **reason) == 3


class FailingRouter(FakeRouter):
    """Cannot be closed."""

    def close(self) -> None:
        super().close()
        raise RuntimeError("stuck")


async def test_what_cannot_be_closed_keeps_nothing_else_open() -> None:
    from kvroute.frontend.services import Services

    settings = Settings(static_backends="http://a:1,http://b:1", static_models="m,n")
    services = Services(settings, FailingRouter, None)
    closed: list[str] = []

    close = services.upstream.close

    async def close_upstream() -> None:
        await close()
        closed.append("upstream")
        raise OSError("broken")

    services.upstream.close = close_upstream
    await services.open()
    with pytest.raises(RuntimeError, match="stuck"):
        await asyncio.wait_for(services.close(), 5)
    assert closed == ["upstream"]
    assert all(group.router.closed for group in services.fleet.groups.values())

"""The routes beside the completions."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from frontend_harness import EngineRequest, FakeEngine, answer, running_frontend


def serving(*models: Any, health: str = "200 OK") -> Any:
    async def handler(request: EngineRequest) -> None:
        if request.path == "/v1/models":
            cards = [model if isinstance(model, dict) else {"id": model} for model in models]
            request.writer.write(answer({"object": "list", "data": cards}))
        elif request.path == "/tokenize":
            request.writer.write(answer({"tokens": [1, 2, 3]}))
        else:
            request.writer.write(answer(status=health))

    return handler


async def test_exactly_the_served_models_are_listed_with_their_engines_cards(
    unused_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    card = {"id": "a", "max_model_len": 4096}
    async with (
        FakeEngine(serving({"id": "b", "of": "the wrong engine"}, "adapter", card)) as first,
        FakeEngine(serving("another")) as second,
        running_frontend(first.url, second.url, unused_url, static_models="a,b,c") as frontend,
    ):
        for _ in range(2):
            async with frontend.client.get(frontend.url + "/v1/models") as got:
                assert got.status == 200
                listed = await got.json()
        assert listed["object"] == "list"
        assert [model["id"] for model in listed["data"]] == ["a", "b", "c"]
        assert listed["data"][0] == card
        assert [model.get("owned_by") for model in listed["data"][1:]] == ["kvroute"] * 2
        warnings = [r.getMessage() for r in caplog.records if "does not list" in r.getMessage()]
        assert len(warnings) == 1
        assert second.url in warnings[0]
        assert "'b'" in warnings[0]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"data": 1}', b'{"data": [1]}', b'{"data": [{"id": 1}]}']
)
async def test_an_engine_that_lists_nonsense_counts_with_its_configured_model(
    body: bytes,
) -> None:
    async def handler(request: EngineRequest) -> None:
        request.writer.write(answer(body))

    async with (
        FakeEngine(handler) as engine,
        running_frontend(engine.url) as frontend,
        frontend.client.get(frontend.url + "/v1/models") as got,
    ):
        assert [model["id"] for model in (await got.json())["data"]] == ["m"]


async def test_health_names_the_workers() -> None:
    async with (
        running_frontend("http://127.0.0.1:1") as frontend,
        frontend.client.get(frontend.url + "/health") as got,
    ):
        assert got.status == 200
        assert await got.json() == {
            "status": "healthy",
            "workers": {"m": {"http://127.0.0.1:1": True}},
        }


async def test_an_engine_that_rests_takes_no_requests(unused_url: str) -> None:
    async with running_frontend(unused_url, backend_cooldown_seconds=60) as frontend:
        async with frontend.completion() as got:
            assert got.status == 503
        async with frontend.client.get(frontend.url + "/health") as got:
            assert got.status == 503
            assert (await got.json())["workers"] == {"m": {unused_url: False}}


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/nowhere", 404, "not_found_error"),
        ("GET", "/v1/completions", 404, "not_found_error"),
        ("POST", "/health", 405, "invalid_request_error"),
        ("GET", "/broken", 500, "internal_error"),
    ],
)
async def test_what_the_web_framework_refuses_has_the_apis_shape(
    method: str, path: str, status: int, kind: str
) -> None:
    async with running_frontend("http://127.0.0.1:1") as frontend:

        @frontend.app.fastapi.get("/broken")
        async def broken() -> None:
            raise LookupError("a fault")

        async with frontend.client.request(method, frontend.url + path) as got:
            assert got.status == status
            error = (await got.json())["error"]
        assert (error["code"], error["type"]) == (status, kind)
        assert error["message"]


async def test_an_explanation_shows_every_target() -> None:
    async with FakeEngine(serving("m")) as engine, running_frontend(engine.url) as frontend:
        for body in ({"prompt": "text"}, {"messages": [{"role": "user", "content": "hi"}]}):
            async with frontend.client.post(
                frontend.url + "/v1/kvroute/explain", json={"model": "m", **body}
            ) as got:
                assert got.status == 200
                explained = await got.json()
            assert explained["num_tokens"] == 3
            assert explained["policy"] == "kv_cost"
            (target,) = explained["targets"]
            assert target["worker"] == engine.url
            assert target["terms"] == {"overlap": 1.0}
        assert frontend.router.calls == []


@pytest.mark.parametrize(
    ("body", "status"), [({}, 400), ({"prompt": [1], "model": "x"}, 404), ({"prompt": []}, 400)]
)
async def test_a_wrong_explanation_request_is_answered_as_a_completion_would_be(
    body: dict[str, Any], status: int
) -> None:
    async with (
        running_frontend("http://127.0.0.1:1") as frontend,
        frontend.client.post(frontend.url + "/v1/kvroute/explain", json=body) as got,
    ):
        assert got.status == status
        assert (await got.json())["error"]["code"] == status


async def test_metrics_cover_requests_decisions_and_the_routers_state() -> None:
    async with FakeEngine(serving("m")) as engine, running_frontend(engine.url) as frontend:
        async with frontend.completion() as got:
            assert got.status == 200
        target = {"model": "m", "worker": engine.url}
        assert await frontend.metric("kvroute_requests_total", **target) == 1
        assert await frontend.metric("kvroute_requests_in_flight", **target) == 0
        assert await frontend.metric("kvroute_time_to_first_token_seconds_count", **target) == 1
        assert await frontend.metric("kvroute_decision_seconds_count", model="m") == 1
        assert await frontend.metric("kvroute_decision_seconds_bucket", le="0.08") == 1
        assert await frontend.metric("kvroute_target_held_blocks", **target) == 3
        assert await frontend.metric("kvroute_target_kv_usage", **target) == 0.5
        assert await frontend.metric("kvroute_kv_events_total", kind="gaps") == 2
        assert await frontend.metric("kvroute_index_bytes", block_size="16") == 4
        assert await frontend.metric("kvroute_index_waiting", block_size="16") == 5
        assert await frontend.metric("kvroute_index_held_lower", block_size="16") == 6
        assert await frontend.metric("kvroute_index_memory_bytes", kind="waiting") == 1
        assert await frontend.metric("kvroute_index_block_changes_total", kind="adopted") == 7
        assert await frontend.metric("kvroute_reservations", model="m") == 0


async def test_decision_times_have_buckets_in_microseconds() -> None:
    async with FakeEngine(serving("m")) as engine, running_frontend(engine.url) as frontend:
        async with frontend.completion() as got:
            assert got.status == 200
        assert frontend.app.services is not None
        samples = frontend.app.services.fleet.metrics.decision_time.collect()[0].samples
        bounds = [float(s.labels["le"]) for s in samples if s.name.endswith("_bucket")]
        assert sum(bound < 1e-4 for bound in bounds) >= 12
        assert all(b / a <= 2.001 for a, b in pairwise(bounds[:-1]))

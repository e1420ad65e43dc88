"""The frontend with the native router before simulated engines: events, caches, bookings."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from array import array
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from frontend_harness import Frontend, running_frontend
from kvroute.engines import CostModel, SimulatedEngine
from kvroute.frontend import Settings
from kvroute.frontend.fleet import Fleet
from kvroute.frontend.protocols import core_router

BLOCK = 16
FAST = CostModel(speed=1000.0)


@contextlib.asynccontextmanager
async def cluster(
    count: int, *, cost: CostModel = FAST, events: bool = True, **settings: Any
) -> AsyncIterator[tuple[Frontend, list[SimulatedEngine]]]:
    async with contextlib.AsyncExitStack() as stack:
        engines = [
            await stack.enter_async_context(
                SimulatedEngine(model="m", block_size=BLOCK, num_blocks=2048, cost=cost)
            )
            for _ in range(count)
        ]
        endpoints = {
            "kv_events": [engine.kv_events for engine in engines],
            "kv_replay": [engine.kv_replay for engine in engines],
            "load_events": [engine.load_events for engine in engines],
        }
        frontend = await stack.enter_async_context(
            running_frontend(
                *(engine.http_url for engine in engines),
                make_router=core_router,
                block_size=BLOCK,
                **(endpoints if events else {}),
                **settings,
            )
        )
        yield frontend, engines


def stats(frontend: Frontend) -> Any:
    assert frontend.app.services is not None
    (group,) = frontend.app.services.fleet.groups.values()
    return group.router.stats()


async def until(holds: Callable[[], bool]) -> None:
    """Returns when it holds. The event thread cannot wake this loop, so it is asked again."""
    while not holds():  # noqa: ASYNC110
        await asyncio.sleep(0.005)


async def ask(frontend: Frontend, path: str = "/v1/completions", **body: Any) -> Any:
    async with frontend.client.post(
        frontend.url + path, data=json.dumps({"model": "m", **body})
    ) as got:
        assert got.status == 200, await got.text()
        return got.headers, await got.json()


def stored(frontend: Frontend) -> int:
    """Blocks that the engines have announced."""
    return sum(target.events["stored_blocks"] for target in stats(frontend).targets)


async def test_the_second_identical_request_finds_its_cache() -> None:
    prompt = list(range(1, 161))
    async with cluster(3) as (frontend, _):
        first, _ = await ask(frontend, prompt=prompt, max_tokens=4)
        assert first["x-kvroute-cached-tokens"] == "0"
        await until(lambda: stored(frontend) >= len(prompt) // BLOCK)
        second, body = await ask(frontend, prompt=prompt, max_tokens=4)
        assert second["x-kvroute-worker"] == first["x-kvroute-worker"]
        assert int(second["x-kvroute-cached-tokens"]) >= 144
        assert body["usage"]["prompt_tokens_details"]["cached_tokens"] >= 144


@pytest.mark.parametrize("stream", [True, False])
async def test_a_chat_finds_its_cache_by_the_engines_tokens(stream: bool) -> None:
    messages = [{"role": "user", "content": "Tell me a long story about a fox. " * 20}]
    async with cluster(2) as (frontend, _):
        first, _ = await ask(frontend, "/v1/chat/completions", messages=messages, max_tokens=2)
        async with frontend.client.post(
            frontend.url + "/v1/chat/completions",
            json={
                "model": "m",
                "messages": messages,
                "max_tokens": 8,
                "stream": stream,
                **({"stream_options": {"include_usage": True}} if stream else {}),
            },
        ) as got:
            text = await got.text()
        assert got.headers["x-kvroute-worker"] == first["x-kvroute-worker"]
        assert int(got.headers["x-kvroute-cached-tokens"]) > 0
        if stream:
            events = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
            assert events[-1] == "[DONE]"
            usage = json.loads(events[-2])["usage"]
        else:
            usage = json.loads(text)["usage"]
        assert usage["prompt_tokens_details"]["cached_tokens"] > 0


async def test_without_events_the_routers_own_decisions_lead_back() -> None:
    prompt = list(range(1, 161))
    async with cluster(3, events=False) as (frontend, _):
        first, _ = await ask(frontend, prompt=prompt, max_tokens=2)
        second, _ = await ask(frontend, prompt=prompt, max_tokens=2)
        assert second["x-kvroute-worker"] == first["x-kvroute-worker"]
        assert second["x-kvroute-cached-tokens"] == "160"


async def test_a_salt_separates_caches() -> None:
    prompt = list(range(1, 161))
    async with cluster(1) as (frontend, _):
        await ask(frontend, prompt=prompt, cache_salt="a", max_tokens=2)
        await until(lambda: stored(frontend) >= 10)
        other, _ = await ask(frontend, prompt=prompt, cache_salt="b", max_tokens=2)
        assert other["x-kvroute-cached-tokens"] == "0"
        same, _ = await ask(frontend, prompt=prompt, cache_salt="a", max_tokens=2)
        assert same["x-kvroute-cached-tokens"] == "160"


@pytest.mark.parametrize("logic", ["kv_cost", "standalone", "round_robin", "random"])
async def test_every_routing_logic_serves(logic: str) -> None:
    async with cluster(2, routing_logic=logic) as (frontend, engines):
        answers = await asyncio.gather(
            *(ask(frontend, prompt=[seed] * 40, max_tokens=2) for seed in range(1, 21))
        )
        used = [headers["x-kvroute-worker"] for headers, _ in answers]
        if logic == "round_robin":
            assert [used.count(engine.http_url) for engine in engines] == [10, 10]
        assert set(used) <= {engine.http_url for engine in engines}
        await until(lambda: stats(frontend).reservations == 0)


async def test_a_batch_and_copies_are_booked_until_the_end() -> None:
    async with cluster(2, cost=CostModel(speed=5.0)) as (frontend, _):
        request = asyncio.create_task(
            ask(frontend, prompt=[[1] * 40, [2] * 40], n=3, max_tokens=30)
        )
        await until(lambda: stats(frontend).reservations == 6)
        assert sorted(t.active_requests for t in stats(frontend).targets) == [0, 6]
        _, body = await request
        assert len(body["choices"]) == 6
        await until(lambda: stats(frontend).reservations == 0)


async def test_copies_are_booked_on_the_rank_that_the_engine_is_told() -> None:
    url = "http://127.0.0.1:1"
    app_settings = Settings(static_backends=url, static_models="m", dp_ranks="4", block_size=BLOCK)
    fleet = Fleet(app_settings, core_router)
    prompts = [array("I", [number + 1] * 40) for number in range(3)]
    try:
        booking = fleet.group("m").reserve(
            prompts,
            2,
            request_id="r",
            session_id=None,
            salt=None,
            expected_output_tokens=None,
            excluded=set(),
        )
        ((_, stats),) = fleet.stats()
        active = {target.dp_rank: target.active_requests for target in stats.targets}
        assert active == {rank: 6 if rank == booking.choice.dp_rank else 0 for rank in range(4)}
        booking.release()
    finally:
        fleet.close()


async def test_nothing_stays_booked_whatever_clients_do() -> None:
    """Clients read whole answers, leave early, leave in a stream, send nonsense, all at once."""
    rng = random.Random(7)
    async with cluster(3, cost=CostModel(speed=20.0)) as (frontend, _):

        async def client(number: int) -> None:
            body = {
                "prompt": [rng.randrange(1, 50)] * rng.randrange(1, 200),
                "max_tokens": rng.randrange(1, 20),
                "stream": rng.random() < 0.5,
                "n": rng.choice([1, 1, 2]),
            }
            if number % 10 == 9:
                body["prompt"] = [-1]
            with contextlib.suppress(asyncio.TimeoutError, aiohttp.ClientError):
                async with frontend.completion(
                    body, timeout=aiohttp.ClientTimeout(total=rng.choice([0.01, 0.05, 20]))
                ) as got:
                    if rng.random() < 0.3:
                        await got.content.readany()
                        got.close()
                    else:
                        await got.read()

        await asyncio.gather(*(client(number) for number in range(120)))
        await until(lambda: stats(frontend).reservations == 0)
        for target in stats(frontend).targets:
            assert target.active_requests == 0
            assert target.active_prefill_tokens == 0
            assert target.active_blocks == 0
        assert await frontend.metric("kvroute_requests_in_flight") == 0


async def test_an_engine_that_stops_is_replaced_and_nothing_stays_booked() -> None:
    async with cluster(2, backend_connect_timeout_seconds=1) as (frontend, engines):
        prompt = list(range(1, 81))
        first, _ = await ask(frontend, prompt=prompt, max_tokens=2)
        dead = next(e for e in engines if e.http_url == first["x-kvroute-worker"])
        await dead.__aexit__(None, None, None)
        again, _ = await ask(frontend, prompt=prompt, max_tokens=2)
        assert again["x-kvroute-worker"] != dead.http_url
        await until(lambda: stats(frontend).reservations == 0)


async def test_an_explanation_names_every_engine() -> None:
    async with cluster(2) as (frontend, engines):
        async with frontend.client.post(
            frontend.url + "/v1/kvroute/explain", json={"model": "m", "prompt": [1] * 64}
        ) as got:
            explained = await got.json()
        assert {t["worker"] for t in explained["targets"]} == {e.http_url for e in engines}
        assert explained["num_tokens"] == 64
        assert all(t["terms"] for t in explained["targets"])


async def test_metrics_tell_of_the_index_and_the_event_streams() -> None:
    async with cluster(1) as (frontend, engines):
        await ask(frontend, prompt=[5] * 64, max_tokens=2)
        await until(lambda: stored(frontend) >= 4)
        worker = engines[0].http_url
        assert await frontend.metric("kvroute_target_held_blocks", worker=worker) >= 4
        assert await frontend.metric("kvroute_kv_events_total", kind="stored_blocks") >= 4
        assert await frontend.metric("kvroute_index_bytes") > 0
        assert await frontend.metric("kvroute_kv_events_connected", worker=worker) == 1

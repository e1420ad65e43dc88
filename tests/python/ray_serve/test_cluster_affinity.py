"""Requests go where their prefix is: over HTTP, over handles, as the replicas' events say."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
from cluster_harness import App, AppSpec, Cluster, eventually, prompt


@pytest.fixture(scope="module")
def app(cluster: Cluster) -> Iterator[App]:
    with cluster.running(AppSpec("affinity", replicas=4)) as (app,):
        yield app


async def test_a_prefix_over_http_goes_to_the_replica_that_computed_it(
    app: App, http: aiohttp.ClientSession
) -> None:
    for seed in range(4):
        first = await app.ask(http, prompt(seed))
        for tail in range(3):
            again = await app.ask(http, prompt(seed) + prompt(100 + tail, 1))
            assert again["replica"] == first["replica"]
            assert again["cached"] == len(prompt(seed))


async def test_prefixes_without_a_holder_spread(app: App, http: aiohttp.ClientSession) -> None:
    answers = await asyncio.gather(*(app.ask(http, prompt(1000 + i)) for i in range(16)))
    assert len({one["replica"] for one in answers}) == 4


async def test_a_prefix_over_a_handle_goes_to_the_replica_that_computed_it(
    app: App, http: aiohttp.ClientSession
) -> None:
    handle, body, ids = app.model, {"max_tokens": 4}, prompt(20)
    await handle.generate.remote(body, request_token_ids=prompt(21))

    async def knows_as_much() -> bool:
        here, there = await app.state(None), await app.state(http)
        return held_blocks(here) == held_blocks(there)

    await eventually("this process's router has heard of what was before it", knows_as_much)
    first = await handle.generate.remote(body, request_token_ids=ids)
    await app.settled(None)  # Serve says that it is over a moment after its answer is here
    again = await handle.generate.remote(body, request_token_ids=ids)
    assert again["replica"] == first["replica"]
    assert again["cached"] > first["cached"]


async def test_a_stream_is_answered_by_one_replica_to_its_end(
    app: App, http: aiohttp.ClientSession
) -> None:
    first = await app.ask(http, prompt(30))
    items = [item async for item in app.stream(http, prompt(30), max_tokens=6)]
    assert {item["replica"] for item in items} == {first["replica"]}
    assert items[-1]["chunk"].endswith("data: [DONE]\n\n")


async def test_a_prompt_that_a_replica_says_it_stored_is_routed_to_it(
    app: App, http: aiohttp.ClientSession
) -> None:
    """Its engine computed the prompt by itself: only the KV event tells of it."""
    holder = await app.ask(http, prompt(40))
    computed = await app.call(http, prompt(40), "compute", prompt(41))
    assert computed["replica"] == holder["replica"]
    await app.held(http, holder["replica"], 16)
    answer = await app.ask(http, prompt(41))
    assert answer["replica"] == holder["replica"]
    assert answer["cached"] > 0


async def test_a_replica_that_says_it_cleared_its_cache_is_no_holder_any_more(
    app: App, http: aiohttp.ClientSession
) -> None:
    holder = (await app.ask(http, prompt(50)))["replica"]
    await app.held(http, holder, 8)
    cleared = await app.call(http, prompt(50), "clear")
    assert cleared["replica"] == holder
    await app.held(http, holder, 0)
    before = (await app.state(http))["counters"]["cached_tokens"]
    await app.ask(http, prompt(50))
    assert (await app.state(http))["counters"]["cached_tokens"] == before


def held_blocks(state: dict[str, Any]) -> dict[str, int]:
    """By replica."""
    return {name: worker["held_blocks"] for name, worker in state["workers"].items()}

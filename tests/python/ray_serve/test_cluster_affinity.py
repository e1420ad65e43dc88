"""Requests go where their prefix is: over HTTP, over handles, as the replicas' events say."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import aiohttp
import pytest
from cluster_harness import App, AppSpec, Cluster, attempts, eventually, prompt


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


async def test_a_prefix_over_a_handle_goes_to_the_replica_that_computed_it(app: App) -> None:
    ids = prompt(20)
    body = {"max_tokens": 4}
    first = await app.model.generate.remote(body, request_token_ids=ids)
    again = await app.model.generate.remote(body, request_token_ids=ids)
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
    unseen = prompt(41)
    body = {"request_token_ids": prompt(40)}
    assert (await app.model.compute.remote(unseen, **body))["replica"] == holder["replica"]
    # The event is on its way: a decision that comes before it teaches the router another holder.
    await held(app, http, holder["replica"], at_least=2 * 8)
    answer = await app.ask(http, unseen)
    assert answer["replica"] == holder["replica"]
    assert answer["cached"] > 0


async def test_a_replica_that_says_it_cleared_its_cache_is_no_holder_any_more(
    app: App, http: aiohttp.ClientSession
) -> None:
    holder = await app.ask(http, prompt(50))
    again = await app.ask(http, prompt(50))
    assert (again["replica"], again["cached"] > 0) == (holder["replica"], True)
    await app.model.clear.remote(request_token_ids=prompt(50))

    async def is_empty() -> bool:
        blocks = (await app.state(http))["workers"][holder["replica"]]["held_blocks"]
        return bool(blocks == 0)

    await eventually("the replica's blocks are gone from the index", is_empty)
    chosen = Counter([(await app.ask(http, prompt(50)))["cached"] for _ in range(1)])
    assert chosen == {0: 1}


async def held(app: App, http: aiohttp.ClientSession, replica: str, at_least: int) -> None:
    """Waits until the router knows so many blocks of a replica."""
    async for _ in attempts("the replica's blocks are in the index"):
        if (await app.state(http))["workers"][replica]["held_blocks"] >= at_least:
            return

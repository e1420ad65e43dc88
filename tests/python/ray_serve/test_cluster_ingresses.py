"""Two ingress processes, each with a router of its own, act as one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import aiohttp
import pytest
from cluster_harness import App, AppSpec, Cluster, attempts, eventually, prompt

REPLICAS = 4


@pytest.fixture(scope="module")
def app(cluster: Cluster) -> Iterator[App]:
    spec = AppSpec("ingresses", REPLICAS, ingress_replicas=2, max_ongoing_requests=1000)
    with cluster.running(spec) as (app,):
        yield app


async def test_both_route_a_prefix_to_the_replica_that_one_of_them_chose(
    app: App, http: aiohttp.ClientSession
) -> None:
    await both_route(app, http)
    first = await app.ask(http, prompt(1))

    async def known_to_both() -> bool:
        states = await app.states(http, 2)
        workers = [state["workers"][first["replica"]] for state in states]
        return all(worker["events"]["stored_blocks"] >= 8 for worker in workers)

    await eventually("both know of the prefix", known_to_both)
    # One after the other: Serve draws the process, and no load is in the way.
    answers = [await app.ask(http, prompt(1)) for _ in range(12)]
    assert {one["replica"] for one in answers} == {first["replica"]}


async def test_what_one_books_the_other_sees(app: App, http: aiohttp.ClientSession) -> None:
    await both_route(app, http)
    holding = asyncio.create_task(app.each(http, [prompt(2)], seconds=3.0))

    async def seen_by_both() -> bool:
        states = await app.states(http, 2)
        active = [sum(one["active_requests"] for one in s["workers"].values()) for s in states]
        return active == [1, 1] and sorted(state["bookings"] for state in states) == [0, 1]

    await eventually("a booking of one is known to both", seen_by_both)
    await holding
    await both_settled(app, http)


async def test_256_requests_at_once_with_one_prefix_spread(
    app: App, http: aiohttp.ClientSession
) -> None:
    """Neither stampedes a replica for what it holds, nor for what the other has not told yet."""
    await both_route(app, http)
    await app.ask(http, prompt(3))
    prompts = [prompt(3) + prompt(10_000 + i, 4) for i in range(256)]
    batches = [app.each(http, prompts[i : i + 16], seconds=2.0) for i in range(0, 256, 16)]
    answers = [one for batch in await asyncio.gather(*batches) for one in batch]
    per_replica = Counter(one["replica"] for one in answers)
    assert per_replica.total() == 256
    assert len(per_replica) == REPLICAS
    assert max(per_replica.values()) <= 1.5 * min(per_replica.values()), per_replica
    await both_settled(app, http)


async def test_a_stream_that_its_client_leaves_gives_its_booking_back(
    app: App, http: aiohttp.ClientSession
) -> None:
    await both_route(app, http)
    body = {"ids": prompt(4), "stream": True, "max_tokens": 60_000}
    async with http.post(f"{app.url}/generate", json=body) as response:
        await response.content.readline()
        booked = [state["bookings"] for state in await app.states(http, 2)]
        assert sorted(booked) == [0, 1]
    await both_settled(app, http)


async def both_route(app: App, http: aiohttp.ClientSession) -> None:
    """Waits until both are peers; a process has a router from its first request on."""
    async for attempt in attempts("both ingress processes have a router"):
        await asyncio.gather(*(app.ask(http, prompt(5000 + 8 * attempt + i)) for i in range(8)))
        peers = [state["exchange"]["peers"] for state in await app.some_states(http)]
        if peers == [1, 1]:
            return


async def both_settled(app: App, http: aiohttp.ClientSession) -> None:
    async def nothing_left() -> bool:
        states = await app.states(http, 2)
        return not any(
            state["bookings"] or any(one["active_requests"] for one in state["workers"].values())
            for state in states
        )

    await eventually("the bookings are gone in both", nothing_left)

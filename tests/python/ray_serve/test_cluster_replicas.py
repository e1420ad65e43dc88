"""Replicas come, go and die, and the router follows."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Iterator

import aiohttp
import pytest
from cluster_harness import App, AppSpec, Cluster, attempts, prompt

SPEC = AppSpec("replicas", replicas=3)


@pytest.fixture(scope="module")
def app(cluster: Cluster) -> Iterator[App]:
    with cluster.running(SPEC) as (app,):
        yield app


async def test_replicas_come_and_go_while_the_others_keep_what_they_hold(
    app: App, cluster: Cluster, http: aiohttp.ClientSession
) -> None:
    await app.ask(http, prompt(0))
    before = await app.has_workers(http, 3)
    cluster.scale(app, 1)
    (left,) = await app.has_workers(http, 1)
    assert left in before
    assert (await app.ask(http, prompt(1)))["replica"] == left
    cluster.scale(app, 3)
    grown = await app.has_workers(http, 3)
    assert left in grown
    again = await app.ask(http, prompt(1))
    assert (again["replica"], again["cached"] > 0) == (left, True)
    answers = await asyncio.gather(*(app.ask(http, prompt(100 + i)) for i in range(12)))
    assert {one["replica"] for one in answers} == grown
    await app.settled(http)


async def test_a_prefix_whose_holder_died_unseen_is_answered_by_another(
    app: App, http: aiohttp.ClientSession
) -> None:
    """Without traffic Serve learns of the death after seconds; the next request is sent there."""
    await app.has_workers(http, 3)
    holder = await app.ask(http, prompt(10))
    os.kill(holder["pid"], signal.SIGKILL)
    answer = await app.ask(http, prompt(10))
    assert answer["replica"] != holder["replica"]
    state = await app.settled(http)
    assert holder["replica"] not in state["workers"]
    await app.has_workers(http, 3)  # Serve has started another one


async def test_when_a_replica_dies_under_load_the_others_serve_on(
    app: App, http: aiohttp.ClientSession
) -> None:
    await app.has_workers(http, 3)
    victim = await app.ask(http, prompt(20))
    statuses: Counter[int] = Counter()
    going = True

    async def client(number: int) -> None:
        count = 0
        while going:
            count += 1
            ids = prompt(20 if number == 0 else 1000 * number + count)
            statuses[await app.status(http, ids, max_tokens=64)] += 1

    clients = [asyncio.create_task(client(number)) for number in range(6)]
    await served(statuses, 6)
    os.kill(victim["pid"], signal.SIGKILL)
    await served(statuses, 30)
    going = False
    await asyncio.gather(*clients)
    assert statuses[200] >= 30
    assert statuses.total() - statuses[200] <= 6  # what was on the one that died
    state = await app.settled(http)
    assert victim["replica"] not in state["workers"]


async def test_an_application_that_is_deployed_anew_is_routed_anew(
    app: App, cluster: Cluster, http: aiohttp.ClientSession
) -> None:
    await app.ask(http, prompt(30))
    before = set((await app.state(http))["workers"])
    cluster.deploy(SPEC)
    first = await app.ask(http, prompt(30))
    assert first["replica"] not in before
    again = await app.ask(http, prompt(30))
    assert (again["replica"], again["cached"] > 0) == (first["replica"], True)
    await app.settled(http)


async def served(statuses: Counter[int], count: int) -> None:
    """Waits for so many good answers more."""
    target = statuses[200] + count
    async for _ in attempts(f"{count} answers more"):
        if statuses[200] >= target:
            return

"""What breaks custom routers on Ray Serve, mostly silently: each once, on a real cluster."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator

import aiohttp
import pytest
from cluster_harness import SECONDS, App, AppSpec, Cluster, prompt


@pytest.fixture(scope="module")
def tight(cluster: Cluster) -> Iterator[App]:
    """Replicas that take one request at a time, so that Serve rejects and tries again."""
    with cluster.running(AppSpec("tight", replicas=3, max_ongoing_requests=1)) as (app,):
        yield app


async def test_handle_calls_of_one_http_request_are_all_answered_each_by_its_own_choice(
    tight: App, http: aiohttp.ClientSession
) -> None:
    """They share one request id, by which Serve's base class looks for what is pending."""
    prompts = [prompt(seed) for seed in range(3)]
    first = await tight.each(http, prompts)
    assert len({one["replica"] for one in first}) == 3
    again = await tight.each(http, prompts)
    assert [one["replica"] for one in again] == [one["replica"] for one in first]
    more = [prompt(seed) for seed in range(100, 109)]  # three times what there is room for
    assert len(await asyncio.wait_for(tight.each(http, more), SECONDS)) == 9
    await tight.settled(http)


async def test_attempts_that_are_rejected_leave_no_booking_behind(
    tight: App, http: aiohttp.ClientSession
) -> None:
    """Serve tells of a completion for each attempt, rejected ones too, in any order."""
    before = (await tight.state(http))["counters"]
    asked = [tight.each(http, [prompt(10) + prompt(200 + i, 1)], 0.3) for i in range(16)]
    start = time.monotonic()
    answers = await asyncio.gather(*asked)
    # Ranked alternatives: where the best is full, the next best has it, and not a wait for it.
    per_replica = Counter(one["replica"] for (one,) in answers)
    assert len(per_replica) == 3
    assert max(per_replica.values()) <= 8
    assert time.monotonic() - start < 16 * 0.3 + 5
    after = await tight.settled(http)
    assert after["counters"]["decisions"] > before["decisions"] + 16
    assert after["counters"]["fallbacks"] == before["fallbacks"]


async def test_a_call_that_is_given_up_in_the_queue_leaves_no_booking_behind(
    tight: App, http: aiohttp.ClientSession
) -> None:
    filling = [asyncio.create_task(tight.each(http, [prompt(i)], 1.0)) for i in range(3)]
    waiting = [asyncio.create_task(tight.each(http, [prompt(50 + i)], 1.0)) for i in range(6)]
    await asyncio.sleep(0.3)  # until they wait; whether they do is not what is tested
    for one in waiting:
        one.cancel()
    await asyncio.gather(*filling)
    await asyncio.gather(*waiting, return_exceptions=True)
    await tight.settled(http)


async def test_routers_of_two_handles_in_one_process_share_their_state(
    tight: App, http: aiohttp.ClientSession
) -> None:
    """Serve unpickles the router's class anew for each handle: its globals are copies."""
    (first,) = await tight.each(http, [prompt(20)])
    (again,) = await tight.each(http, [prompt(20)], second=True)
    assert again["replica"] == first["replica"]
    await tight.state(http)  # one for both, else it would find two


async def test_updates_that_change_nothing_keep_what_is_known(
    tight: App, http: aiohttp.ClientSession
) -> None:
    """Serve tells of the replicas every period, each time one by one."""
    holder = await tight.ask(http, prompt(30))
    await tight.held(http, holder["replica"], 8)
    before = await tight.state(http)
    seen = {name: worker["events"]["replays"] for name, worker in before["workers"].items()}
    await asyncio.sleep(3)  # some periods
    after = await tight.state(http)
    assert {name: one["events"]["replays"] for name, one in after["workers"].items()} == seen
    assert after["block_size"] == 16


async def test_requests_without_token_ids_are_balanced_and_counted(
    tight: App, http: aiohttp.ClientSession
) -> None:
    before = (await tight.state(http))["counters"]["missing_token_ids"]
    for ids in (None, []):
        answer = await tight.ask(http, ids, prompt="no ids", max_tokens=1)
        assert answer["tokens"] == 1
    after = await tight.settled(http)
    assert after["counters"]["missing_token_ids"] == before + 2


@pytest.mark.parametrize("ids", ["text", [-1, 2], [1 << 40], {"a": 1}, [[1]], 7])
async def test_what_are_no_token_ids_does_not_make_a_request_hang(tight: App, ids: object) -> None:
    answer = await asyncio.wait_for(tight.model.hold.remote(0, request_token_ids=ids), SECONDS)
    assert answer["replica"]

"""KvRouteRequestRouter where requests are rejected, cancelled or not sent, and hooks fail."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter

import pytest

pytest.importorskip("ray.serve")

from ray_fakes import Serve, replica, replica_id, until

pytestmark = pytest.mark.usefixtures("own_states")


async def test_a_rejected_request_is_chosen_for_again_and_only_the_last_attempt_is_booked():
    replicas = [replica(f"r{i}") for i in range(4)]
    serve = Serve(replicas)
    request = serve.request("q", list(range(256)))
    tried = [await serve.route(request)]
    for _ in range(3):
        full = next(one for one in replicas if one.replica_id.unique_id == tried[-1])
        serve.router.on_new_queue_len_info(full.replica_id, full.max_ongoing_requests)
        full.queue_len = full.max_ongoing_requests
        tried.append(await serve.route(request, is_retry=True))
        assert serve.running() == {tried[-1]: 1}
    assert len(set(tried)) == 4
    for worker in tried:  # a completion for each attempt
        assert serve.running() == {tried[-1]: 1}
        serve.complete(worker, request)
    assert serve.running() == {}


async def test_a_request_that_is_cancelled_while_it_is_routed_leaves_nothing():
    full = [replica(f"r{i}", max_ongoing_requests=1) for i in range(2)]
    for one in full:
        one.queue_len = 1
    serve = Serve(full)
    waiting = [
        asyncio.create_task(serve.route(serve.request(f"q{i}", list(range(100))))) for i in range(8)
    ]
    await until(lambda: serve.state.counters.decisions >= 20)
    for task in waiting:
        task.cancel()
    for task in waiting:
        with contextlib.suppress(asyncio.CancelledError):
            await task
    await until(lambda: not serve.router._routing_tasks)
    assert serve.running() == {}
    assert len(serve.state.bookings) == 0

    for one in full:
        one.queue_len = 0
    assert await serve.route(serve.request("late", list(range(100)))) in ("r0", "r1")


async def test_a_dead_replica_takes_its_load_along_and_is_not_chosen():
    serve = Serve([replica(f"r{i}") for i in range(3)])
    ids = list(range(256))
    request = serve.request("q", ids)
    dead = await serve.route(request)
    for _ in range(3):
        serve.router.on_replica_actor_died(replica_id(dead))
    assert serve.running() == {}
    other = await serve.route(request, is_retry=True)
    assert other != dead
    serve.complete(dead, request)
    assert serve.running() == {other: 1}
    serve.complete(other, request)
    assert serve.running() == {}


async def test_a_replica_that_cannot_be_sent_to_ends_no_other_call_of_the_request():
    serve = Serve([replica("r0")])
    failing, running = (serve.request("shared", list(range(i, i + 99))) for i in range(2))
    router = serve.router
    taken = await router._choose_replica_for_request(failing)

    async def another_call() -> None:
        await serve.route(running)

    router.on_request_completed(taken.replica_id, "shared")  # Serve's, where sending raises
    await asyncio.create_task(another_call())
    assert serve.running() == {"r0": 1}
    await serve.route(failing, is_retry=True)
    assert serve.running() == {"r0": 2}
    for call in (running, failing):
        serve.complete("r0", call)
    assert serve.running() == {}


async def test_what_is_sent_or_completed_by_others_is_not_of_a_selection_that_awaits_its_slot():
    serve = Serve([replica("r0")])
    running, selection = (serve.request("shared", list(range(i, i + 99))) for i in range(2))
    await serve.route(running)
    taken = await serve.router._choose_replica_for_request(selection)
    asyncio.get_running_loop().call_soon(serve.complete, "r0", running)
    await asyncio.sleep(0)  # Serve asks for the slot
    serve.router.on_send_request(taken.replica_id)  # a broadcast's
    assert serve.running() == {"r0": 1}
    await serve.router._choose_replica_for_request(selection, is_retry=True)  # it was refused
    assert serve.running() == {"r0": 1}
    serve.complete("r0", selection)
    assert serve.running() == {}


async def test_a_task_that_retires_leaves_no_request_behind():
    """Where Ray's tasks do not keep their requests (before 2.60), more of them than there is work
    for give up at their next step."""
    replicas = [replica(f"r{i}", max_ongoing_requests=2) for i in range(4)]
    serve = Serve(replicas)
    for one in replicas:
        one.queue_len = 2
    waiting = [
        asyncio.create_task(serve.route(serve.request(f"q{i}", list(range(i, i + 99)))))
        for i in range(16)
    ]
    await until(lambda: serve.state.counters.decisions >= 32)
    serve.router.update_replicas(replicas[:1])  # tasks: at most two for a replica
    for task in waiting[1:4]:
        task.cancel()
    for one in replicas:
        one.max_ongoing_requests = 100
        one.queue_len = 0
    done = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 20.0)
    assert Counter(map(str, done)) == {"r0": 13, "": 3}
    assert serve.running() == {"r0": 13}


async def test_a_router_keeps_no_request_of_a_multiplexed_model():
    serve = Serve([replica("r0", models=["lora"])])
    for number in range(20):
        await serve.route(serve.request(f"q{number}", [1, 2, 3], multiplexed_model_id="lora"))
    kept = serve.router._pending_requests_by_model_id
    assert sum(map(len, kept.values())) == 0


async def test_a_list_of_replicas_that_cannot_be_read_breaks_nothing_of_rays(caplog):
    serve = Serve([replica("r0"), replica("r1")])
    broken = replica("r2")
    del broken.routing_stats
    for _ in range(2):
        serve.router.update_replicas([replica("r0"), broken])
    assert caplog.text.count("kvroute: the replicas of model of app could not be read") == 1
    assert await serve.route(serve.request("q", list(range(64)))) in ("r0", "r2")


async def test_what_fails_in_a_hook_is_told_once_and_breaks_nothing_of_rays(caplog, monkeypatch):
    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    serve = Serve([replica("r0")])
    for name in ("completed", "cancelled"):
        monkeypatch.setattr(serve.state.attempts, name, fail)
    monkeypatch.setattr(serve.state.membership, "died", fail)
    monkeypatch.setattr(serve.state.requests, "sent", fail)
    for _ in range(2):
        serve.router.on_send_request(replica_id("r0"))
        serve.router.on_replica_actor_died(replica_id("r0"))
        serve.complete("r0", serve.request("q"))
        serve.router.on_request_cancelled("q")
    hooks = ["on_send_request", "on_replica_actor_died", "on_request_completed"]
    assert serve.state.counters.fallbacks == dict.fromkeys([*hooks, "on_request_cancelled"], 2)
    assert caplog.text.count("(said once)") == 4


@pytest.mark.parametrize("seed", range(8))
async def test_nothing_is_left_of_requests_that_are_rejected_cancelled_or_lose_their_replica(seed):
    choice = random.Random(seed)
    replicas = [replica(f"r{i}", max_ongoing_requests=4) for i in range(5)]
    serve = Serve(replicas)

    async def one_call(number: int) -> None:
        ids = list(range(number % 7, 200))
        pending, is_retry = serve.request(f"q{number // 3}", ids), False
        while True:
            worker = await serve.route(pending, is_retry)
            taken = next(one for one in replicas if one.replica_id.unique_id == worker)
            if choice.random() < 0.7 and taken.queue_len < 4:
                break
            serve.router.on_new_queue_len_info(taken.replica_id, 4)
            loop = asyncio.get_running_loop()
            completed = serve.router.on_request_completed
            request_id = pending.metadata.internal_request_id
            loop.call_later(0.001 * choice.random(), completed, taken.replica_id, request_id)
            is_retry = True
        taken.queue_len += 1
        try:
            await asyncio.sleep(0.003 * choice.random())
        finally:
            taken.queue_len -= 1
            serve.router.decrement_queue_len_cache(taken.replica_id)
            serve.complete(worker, pending)

    calls = [asyncio.create_task(one_call(number)) for number in range(120)]
    for step in range(40):
        await asyncio.sleep(0.001)
        choice.choice(calls).cancel()
        if step in (10, 20):
            serve.router.on_replica_actor_died(replicas[step // 10].replica_id)
    done = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 30.0)
    assert all(one is None or isinstance(one, asyncio.CancelledError) for one in done)
    await until(lambda: len(serve.state.attempts) == 0)
    assert serve.running() == {}
    assert len(serve.state.bookings) == 0
    assert not set(serve.state.counters.fallbacks) - {"move"}

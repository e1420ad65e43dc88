"""KvRouteRequestRouter on Ray's own base class, with replicas that answer in this process."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from serve_fakes import FakeReplica, names

pytest.importorskip("ray.serve")

from kvroute.ray_serve import KvRouteRequestRouter
from kvroute.ray_serve.errors import MissingTokenIdsError, RouterUnavailableError
from ray.serve._private.common import (
    DeploymentHandleSource,
    DeploymentID,
    ReplicaID,
    RequestMetadata,
)
from ray.serve.request_router import PendingRequest

QUIET = {"exchange": False, "metrics": False, "seed": 1}


def replica_id(name: str) -> ReplicaID:
    return ReplicaID(name, DeploymentID("model", "app"))


def replica(name: str, **more: Any) -> FakeReplica:
    return FakeReplica(name, replica_id=replica_id(name), **more)


@pytest.fixture(autouse=True)
def _no_state_of_other_tests(monkeypatch):
    from kvroute.ray_serve import deployment_state

    monkeypatch.setattr(deployment_state, "_states", {})


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(5_000):
        if condition():
            return
        await asyncio.sleep(0.001)  # what Ray's tasks do gives no event
    raise AssertionError("it did not come about")


class Serve:
    """What Ray's own router does around a request router, as far as it calls it."""

    def __init__(self, replicas: list[FakeReplica], **options: Any) -> None:
        self.router = KvRouteRequestRouter(
            deployment_id=DeploymentID("model", "app"),
            handle_source=DeploymentHandleSource.REPLICA,
            use_replica_queue_len_cache=True,
            initial_backoff_s=0.001,
            max_backoff_s=0.01,
        )
        self.router.initialize_state(**{**QUIET, **options})
        self.router.update_replicas(replicas)

    @property
    def state(self) -> Any:
        return self.router._kvroute_state

    def request(self, request_id: str, ids: Any = None, **metadata: Any) -> PendingRequest:
        kwargs = {} if ids is None else {"request_token_ids": ids}
        return PendingRequest([], kwargs, RequestMetadata("r", request_id, **metadata))

    async def route(self, pending: PendingRequest, is_retry: bool = False) -> str:
        """Routed and sent."""
        taken = await self.router._choose_replica_for_request(pending, is_retry=is_retry)
        self.router.on_send_request(taken.replica_id)
        return taken.replica_id.unique_id

    def complete(self, worker: str, pending: PendingRequest) -> None:
        request_id = pending.metadata.internal_request_id
        self.router.on_request_completed(replica_id(worker), request_id)

    def running(self) -> dict[str, int]:
        targets = self.state.started_router().stats().targets
        return {one.worker: one.active_requests for one in targets if one.active_requests}


async def test_a_prompt_goes_where_its_beginning_was():
    serve = Serve([replica(f"r{i}") for i in range(4)])
    for number in range(8):
        ids = list(range(number * 1000, number * 1000 + 256))
        first, again = serve.request("q1", ids), serve.request("q2", ids)
        worker = await serve.route(first)
        serve.complete(worker, first)
        assert await serve.route(again) == worker
        serve.complete(worker, again)
    assert serve.running() == {}


async def test_concurrent_calls_of_one_http_request_are_all_answered():
    serve = Serve([replica(f"r{i}") for i in range(4)])
    requests = [serve.request("shared", list(range(i, i + 64))) for i in range(12)]
    workers = await asyncio.gather(*(serve.route(request) for request in requests))
    assert serve.running() == Counter(workers)
    for worker, request in zip(workers, requests, strict=True):
        serve.complete(worker, request)
    assert serve.running() == {}
    assert serve.state.counters.completed == 12


async def test_a_burst_of_one_prompt_is_spread_where_the_policy_counts_requests():
    counting = {"name": "kv_cost", "request_weight": 2.0}
    serve = Serve([replica(f"r{i}") for i in range(4)], policy=counting)
    ids = list(range(256))
    workers = await asyncio.gather(*(serve.route(serve.request(f"q{i}", ids)) for i in range(256)))
    spread = Counter(workers).values()
    assert max(spread) - min(spread) <= 2  # before Ray 2.60 two tasks may choose for one request
    assert serve.running() == Counter(workers)


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


async def test_requests_wait_for_replicas_that_are_busy_and_then_go():
    busy = replica("r0", max_ongoing_requests=1)
    busy.queue_len = 1
    serve = Serve([busy])
    waiting = asyncio.create_task(serve.route(serve.request("q", list(range(100)))))
    await until(lambda: serve.state.counters.decisions >= 3)
    assert serve.running() == {"r0": 1}
    busy.queue_len = 0
    assert await waiting == "r0"


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


async def test_without_a_pending_request_the_candidates_are_returned_as_they_are():
    serve = Serve([replica("r0"), replica("r1")])
    candidates = [replica("r0"), replica("r1")]
    (group,) = await serve.router.choose_replicas(candidates)
    assert group == candidates
    assert group is not candidates


async def test_no_candidates_give_no_group_and_back_off():
    serve = Serve([replica("r0")])
    request = serve.request("q", [1, 2, 3])
    assert await serve.router.choose_replicas([], request) == []
    assert request.routing_context.should_backoff


async def test_a_selection_alone_ranks_all_and_books_nothing():
    serve = Serve([replica(f"r{i}") for i in range(4)])
    request = serve.request("q", list(range(100)))
    groups = await serve.router.choose_replicas(list(serve.router._replicas_list), request)
    assert sorted(names(groups)) == [["r0"], ["r1"], ["r2"], ["r3"]]
    assert request.routing_context.should_backoff
    assert serve.running() == {}


async def test_missing_token_ids_reach_the_caller_as_an_error_where_that_is_asked_for():
    serve = Serve([replica("r0")], on_missing_tokens="error")
    with pytest.raises(MissingTokenIdsError):
        await serve.route(serve.request("q"))
    assert await serve.route(serve.request("q", [1, 2, 3])) == "r0"


async def test_requests_without_token_ids_are_balanced():
    serve = Serve([replica(f"r{i}") for i in range(4)])
    workers = [await serve.route(serve.request(f"q{i}")) for i in range(8)]
    assert Counter(workers) == {"r0": 2, "r1": 2, "r2": 2, "r3": 2}


async def test_options_that_nobody_refused_earlier_give_each_request_an_error(caplog):
    serve = Serve([replica("r0")], block_sise=16)
    for _ in range(2):
        with pytest.raises(RouterUnavailableError, match="block_sise: expected an option"):
            await serve.route(serve.request("q", [1, 2, 3]))
    with pytest.raises(RouterUnavailableError, match="block_sise"):  # choose_replica, no slot
        await serve.router.choose_replicas([replica("r0")], serve.request("q", [1, 2, 3]))
    serve.router.on_replica_actor_died(replica_id("r0"))
    serve.complete("r0", serve.request("q"))
    serve.router.on_request_cancelled("q")
    assert caplog.text.count("every request gets an error") == 1


async def test_a_missing_native_module_gives_each_request_an_error(monkeypatch):
    for module in ("kvroute", "kvroute.ray_serve.options"):
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "kvroute._core", None)
    serve = Serve([replica("r0")])
    with pytest.raises(RouterUnavailableError, match="_core"):
        await serve.route(serve.request("q", [1, 2, 3]))


async def test_two_handles_in_one_process_see_one_anothers_load():
    replicas = [replica(f"r{i}") for i in range(2)]
    first, second = Serve(replicas), Serve(replicas)
    assert first.state is second.state
    requests = [first.request("q1"), second.request("q2")]
    workers = [await first.route(requests[0]), await second.route(requests[1])]
    assert sorted(workers) == ["r0", "r1"]
    first.complete(workers[0], requests[0])
    second.complete(workers[1], requests[1])
    assert first.running() == {}


async def test_locality_is_preferred_as_the_handle_asks():
    replicas = [replica(f"r{i}", node_id="here" if i == 3 else "there") for i in range(4)]
    serve = Serve(replicas)
    serve.router._self_node_id = "here"
    serve.router._prefer_local_node_routing = True
    serve.router.update_replicas(replicas)
    for number in range(4):
        assert await serve.route(serve.request(f"q{number}", [number] * 64)) == "r3"


async def test_a_models_replica_comes_first_and_the_others_when_it_is_full():
    replicas = [replica(f"r{i}", models=["lora"] if i == 2 else ["other"]) for i in range(4)]
    serve = Serve(replicas)
    request = serve.request("q", list(range(64)), multiplexed_model_id="lora")
    assert await serve.route(request) == "r2"
    serve.router.on_new_queue_len_info(replica_id("r2"), 100)
    replicas[2].queue_len = 100
    assert await serve.route(request, is_retry=True) != "r2"


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

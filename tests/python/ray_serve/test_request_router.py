"""KvRouteRequestRouter on Ray's own base class, with replicas that answer in this process."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter

import pytest
from kvroute.ray_serve.errors import MissingTokenIdsError, RouterUnavailableError
from serve_fakes import names

pytest.importorskip("ray.serve")

from ray_fakes import Serve, replica, replica_id, until

pytestmark = pytest.mark.usefixtures("own_states")


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


async def test_requests_wait_for_replicas_that_are_busy_and_then_go():
    busy = replica("r0", max_ongoing_requests=1)
    busy.queue_len = 1
    serve = Serve([busy])
    waiting = asyncio.create_task(serve.route(serve.request("q", list(range(100)))))
    await until(lambda: serve.state.counters.decisions >= 3)
    assert serve.running() == {"r0": 1}
    busy.queue_len = 0
    assert await waiting == "r0"


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

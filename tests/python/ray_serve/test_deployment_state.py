"""What one deployment's routers share in a process, and what becomes of a request there."""

from __future__ import annotations

import gc
import threading

import pytest
from kvroute.ray_serve import deployment_state
from kvroute.ray_serve.calls import RoutedCall
from kvroute.ray_serve.deployment_state import DeploymentState, attach, options_of
from kvroute.ray_serve.errors import InvalidOptionsError, MissingTokenIdsError
from kvroute.ray_serve.options import RouterOptions
from kvroute.ray_serve.routing import Routing
from serve_fakes import REPLICAS, FakeMember, FakeReplica, choose, pending, routed, state_of

QUIET = {"exchange": False, "metrics": False, "seed": 1}


# Handles.


def test_handles_of_a_deployment_share_one_state_until_the_last_is_gone():
    options = RouterOptions(**QUIET)
    first, second, other = FakeMember(), FakeMember(), FakeMember()
    state = attach("app", "shared", options, first)
    assert attach("app", "shared", RouterOptions(**QUIET), second) is state
    assert attach("app", "elsewhere", options, other) is not state
    assert attach("app", "shared", RouterOptions(**QUIET, block_size=32), other) is not state
    assert options_of("app", "shared").block_size == 32
    state.update_replicas(first, REPLICAS)
    router = state.started_router()

    del first
    _wait_for_leavers()
    assert router.workers() == []
    assert attach("app", "shared", options, second) is state
    del second, other
    _wait_for_leavers()
    assert state.live is None
    assert options_of("app", "shared") is None


def _wait_for_leavers() -> None:
    gc.collect()
    for thread in threading.enumerate():
        if thread.name == "kvroute-leave":
            thread.join(10.0)


def test_bad_options_leave_no_state_behind():
    with pytest.raises(InvalidOptionsError):
        attach("app", "bad", RouterOptions(token_ids_function="no_such:function"), FakeMember())
    assert options_of("app", "bad") is None


def test_nobody_waits_for_a_state_that_takes_long_to_make(monkeypatch):
    begun, going_on = threading.Event(), threading.Event()
    slow, quick, late = FakeMember(), FakeMember(), FakeMember()

    class Slow(DeploymentState):
        def __init__(self, app, deployment, options):
            if threading.current_thread() is making:
                begun.set()
                assert going_on.wait(10.0)
            super().__init__(app, deployment, options)

    def make():
        made.append(attach("app", "slow", options, slow))

    made, options = [], RouterOptions(**QUIET, block_size=16)
    making = threading.Thread(target=make)
    monkeypatch.setattr(deployment_state, "DeploymentState", Slow)
    making.start()
    assert begun.wait(10.0)

    assert options_of("app", "slow") is None
    attach("app", "other", options, quick)
    state = attach("app", "slow", options, late)

    going_on.set()
    making.join()
    assert made == [state]
    assert {state.number_of(slow), state.number_of(late)} == {1, 2}


# A request.


@pytest.mark.parametrize("said", ["body", "call", "session"])
async def test_what_no_engine_could_mean_is_no_reason_to_route_blindly(said):
    state, member = state_of(REPLICAS)
    request = pending(ids=list(range(256)))
    if said == "body":
        request.args.append({"max_tokens": 1 << 32})
    elif said == "call":
        call = RoutedCall(list(range(256)), expected_output_tokens=1 << 40)
        request.kwargs["request_token_ids"] = call.token_ids
    else:
        request.metadata.session_id = "\ud800"
    routing, worker = await routed(state, member, request)
    assert routing.attempt.booking.worker == worker
    assert not state.counters.fallbacks
    if said != "session":
        return
    blind = pending("q2")
    blind.metadata.session_id = "\ud800"
    await routed(state, member, blind)
    assert not state.counters.fallbacks


async def test_the_same_prompt_goes_where_it_was_and_others_are_ranked_behind():
    state, member = state_of(REPLICAS)
    _, first = await routed(state, member, pending("q", list(range(256))))
    ranked = await choose(state, member, pending("q2", list(range(300))))
    assert ranked[0] == [first]
    assert sorted(ranked) == [["r0"], ["r1"], ["r2"], ["r3"]]


async def test_choosing_again_books_once_and_giving_up_books_nothing():
    state, member = state_of(REPLICAS)
    request = pending(ids=list(range(100)))
    routing = await state.requests.begin(request, False)
    for _ in range(5):
        await choose(state, member, request)
        assert state.router.stats().reservations == 1
    state.requests.give_up(routing, request)
    assert state.router.stats().reservations == 0
    await choose(state, member, request)  # a routing task that has not heard of it
    assert state.router.stats().reservations == 0


async def test_a_selection_without_a_reservation_books_nothing():
    state, member = state_of(REPLICAS)
    assert len(await choose(state, member, pending(ids=list(range(100))))) == 4
    assert state.router.stats().reservations == 0


async def test_the_booking_moves_to_the_replica_that_serve_took():
    state, member = state_of(REPLICAS)
    request = pending(ids=list(range(100)))
    routing = await state.requests.begin(request, False)
    best = (await choose(state, member, request))[0][0]
    other = next(replica for replica in REPLICAS if replica.replica_id.unique_id != best)
    state.requests.take(routing, request, other)
    busy = [one.worker for one in state.router.stats().targets if one.active_requests]
    assert busy == [other.replica_id.unique_id]
    assert state.counters.moved == 1
    state.requests.completed(busy[0], "q")
    assert state.router.stats().reservations == 0


async def test_requests_that_share_an_id_are_told_apart_while_they_are_routed():
    state, _ = state_of(REPLICAS)
    requests = [pending("shared", [1, 2, 3]) for _ in range(6)]
    originals = [request.metadata for request in requests]
    routings = [await state.requests.begin(request, False) for request in requests]
    assert len({request.metadata.internal_request_id for request in requests}) == 6
    for request, routing in zip(requests, routings, strict=True):
        state.requests.take(routing, request, REPLICAS[0])
    assert [request.metadata for request in requests] == originals
    assert {request.metadata.internal_request_id for request in requests} == {"shared"}


async def test_candidates_are_neither_changed_nor_kept():
    state, member = state_of(REPLICAS)
    candidates = list(REPLICAS)
    groups = await state.requests.choose(member, candidates, pending(ids=[1, 2, 3]))
    assert candidates == REPLICAS
    assert all(group is not candidates for group in groups)
    assert [kept for kept in gc.get_referrers(candidates) if isinstance(kept, list | dict)] == []


async def test_only_candidates_are_chosen():
    state, member = state_of(REPLICAS)
    request = pending(ids=list(range(256)))
    _, holder = await routed(state, member, request)
    others = [replica for replica in REPLICAS if replica.replica_id.unique_id != holder]
    ranked = await choose(state, member, pending("q2", list(range(256))), others)
    assert [holder] not in ranked
    assert len(ranked) == 3


async def test_who_has_no_room_is_asked_last_and_not_booked():
    state, member = state_of(REPLICAS)
    _, holder = await routed(state, member, pending(ids=list(range(256))))
    member.full = {holder}
    request = pending("q2", list(range(256)))
    await state.requests.begin(request, False)
    ranked = await choose(state, member, request)
    assert ranked[-1] == [holder]
    assert Routing.of(request).booking.worker == ranked[0][0] != holder


async def test_dead_replicas_among_the_candidates_come_last_as_a_group():
    state, member = state_of(REPLICAS)
    state.membership.died("r1")
    state.membership.died("r2")
    ranked = await choose(state, member, pending(ids=[1, 2, 3]))
    assert [len(group) for group in ranked] == [1, 1, 2]
    assert sorted(ranked[-1]) == ["r1", "r2"]


async def test_the_chosen_rank_reaches_the_replica_and_follows_the_request():
    replicas = [FakeReplica("a", {"kvroute": {"dp_ranks": 2}}), FakeReplica("b")]
    state, member = state_of(replicas, dp_rank_keyword="rank")
    request = pending(ids=list(range(256)))
    routing = await state.requests.begin(request, False)
    ranked = await choose(state, member, request, replicas)
    assert sorted(ranked) == [["a"], ["b"]]
    state.requests.take(routing, request, replicas[0])
    booking = routing.attempt.booking
    assert request.kwargs["rank"] == booking.dp_rank == routing.ranks["a"]

    assert await state.requests.begin(request, True) is routing
    await choose(state, member, request, replicas)
    state.requests.take(routing, request, replicas[1])
    assert request.kwargs["rank"] == 0


async def test_token_ids_stay_with_the_router_where_the_replica_does_not_want_them():
    state, member = state_of(REPLICAS, forward_token_ids=False)
    request = pending(ids=list(range(256)))
    routing, first = await routed(state, member, request)
    assert "request_token_ids" not in request.kwargs
    await state.requests.begin(request, True)
    assert (await choose(state, member, request))[0] == [first]
    assert routing.prompt.num_tokens == 256


@pytest.mark.parametrize("ids", [None, [], "text", [1, -2, 3], [1, "x", 3]])
async def test_without_usable_token_ids_load_decides(ids):
    state, member = state_of(REPLICAS)
    taken = [(await routed(state, member, pending(f"q{i}", ids)))[1] for i in range(4)]
    assert sorted(taken) == ["r0", "r1", "r2", "r3"]
    assert state.counters.missing_token_ids == 4
    assert state.counters.balanced == 4
    assert state.counters.malformed_token_ids == (4 if ids else 0)


async def test_missing_token_ids_are_an_error_where_that_is_asked_for():
    state, member = state_of(REPLICAS, on_missing_tokens="error")
    request = pending()
    with pytest.raises(MissingTokenIdsError):
        await state.requests.begin(request, False)
    assert request.metadata.internal_request_id == "q"
    assert state.counters.refusals == {"MissingTokenIdsError": 1}
    assert len(await choose(state, member, pending())) == 4  # where a raise would hang, none


async def test_a_failure_inside_goes_by_serves_order_and_is_counted_and_told_once(caplog):
    state, member = state_of(REPLICAS)
    state.started_router().close()
    for number in range(3):
        request = pending(f"q{number}", [1, 2, 3])
        routing = await state.requests.begin(request, False)
        (group,) = await choose(state, member, request)
        assert sorted(group) == ["r0", "r1", "r2", "r3"]
        state.requests.take(routing, request, REPLICAS[0])
    assert state.counters.fallbacks == {"InvalidArgument": 3}
    assert (
        len([record for record in caplog.records if "goes by Serve's own" in record.message]) == 1
    )


async def test_a_call_reports_to_the_attempt_that_runs():
    state, member = state_of(REPLICAS)
    call = RoutedCall(list(range(100)))
    request = pending(ids=call.token_ids)
    routing, _ = await routed(state, member, request)
    call.note()
    first = routing.attempt.booking
    await state.requests.begin(request, True)
    await choose(state, member, request)
    state.requests.take(routing, request, REPLICAS[3])
    assert first.released
    target = next(one for one in state.router.stats().targets if one.worker == "r3")
    assert (target.active_requests, target.active_prefill_tokens) == (1, 0)


async def test_an_adapter_goes_to_who_has_it_first():
    class Multiplexing(FakeMember):
        def rank_replicas_via_multiplex(self, replicas, model):
            has = [one for one in replicas if model in one.multiplexed_model_ids]
            return [has, [], [one for one in replicas if one not in has]]

    replicas = [FakeReplica("a"), FakeReplica("b", models=["lora"]), FakeReplica("c")]
    state, _ = state_of(replicas)
    member = Multiplexing()
    state.join(member)
    for number in range(5):
        request = pending(f"q{number}", list(range(number, 200)))
        request.metadata.multiplexed_model_id = "lora"
        _, worker = await routed(state, member, request, replicas)
        assert worker == "b"
    plain = pending("plain", list(range(200)))
    await routed(state, member, plain, replicas)
    assert state.router.overlaps(list(range(200)), lora="lora") == {("b", 0): 192}

"""A deployment's block size: who sets it, and what becomes of requests when it changes."""

from __future__ import annotations

import pytest
from kvroute import hash_blocks
from kvroute.ray_serve.bookings import NO_HASHES
from serve_fakes import FakeReplica, choose, pending, routed, state_of


async def test_the_first_replica_that_states_a_block_size_sets_it():
    state, member = state_of([FakeReplica("a"), FakeReplica("b", {"kvroute": {"block_size": 64}})])
    assert state.router.block_size == 64
    later = FakeReplica("c", {"kvroute": {"block_size": 32}})
    state.update_replicas(member, [FakeReplica("b", {"kvroute": {"block_size": 64}}), later])
    assert state.router.block_size == 64


async def test_a_redeployment_with_another_block_size_counts_once_the_old_replicas_are_gone():
    def of_size(name, block_size):
        return FakeReplica(name, {"kvroute": {"block_size": block_size}})

    old, new = of_size("old", 64), of_size("new", 32)
    state, member = state_of([old])
    state.update_replicas(member, [old, new])
    assert state.router.block_size == 64
    state.update_replicas(member, [new])
    assert state.router.block_size == 32
    await routed(state, member, pending("q", list(range(64))), [new])
    assert state.router.overlaps(list(range(64)))["new", 0] == 64
    state.update_replicas(member, [])
    assert state.router.block_size == 32


async def test_the_options_block_size_goes_before_what_replicas_state():
    state, _ = state_of([FakeReplica("a", {"kvroute": {"block_size": 64}})], block_size=32)
    assert state.router.block_size == 32


async def test_a_block_size_that_is_stated_after_the_first_requests_makes_the_router_anew():
    replicas = [FakeReplica("a"), FakeReplica("b")]
    state, member = state_of(replicas)
    request = pending(ids=list(range(256)))
    routing, worker = await routed(state, member, request, replicas)
    assert state.router.block_size == 16

    replicas[0].restate(kvroute={"block_size": 64})
    state.update_replicas(member, replicas)

    assert state.router.block_size == 64
    assert state.router.workers() == ["a", "b"]
    state.requests.completed(worker, "q")
    again = pending("q2", list(range(256)))
    await routed(state, member, again, replicas)
    assert routing.attempt.booking is None
    assert state.router.stats().reservations == 1
    assert not state.counters.fallbacks


@pytest.mark.parametrize("kept", [True, False])
async def test_a_request_that_waits_while_the_block_size_changes_is_hashed_anew(kept):
    replicas = [FakeReplica("a"), FakeReplica("b")]
    state, member = state_of(replicas, forward_token_ids=False)
    waiting = pending(ids=list(range(256)))
    routing = await state.requests.begin(waiting, False)
    await choose(state, member, waiting, replicas)
    replicas[0].restate(kvroute={"block_size": 64})
    state.update_replicas(member, replicas)
    if not kept:  # the first attempt was sent, and the keyword taken out
        del waiting.kwargs["request_token_ids"]

    best = (await choose(state, member, waiting, replicas))[0]

    assert len(best) == 1
    assert routing.booking.prompt.local_hashes == (
        hash_blocks(list(range(256)), 64) if kept else NO_HASHES
    )
    assert not state.counters.fallbacks
    state.requests.give_up(routing, waiting)

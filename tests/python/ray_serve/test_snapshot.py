"""What a process's routers know, as plain data."""

from __future__ import annotations

import json

from kvroute.ray_serve import snapshots
from serve_fakes import FakeReplica, pending, routed, state_of

RANKS = {
    "kvroute": {"load": [{"waiting": 1, "running": 2}, {"waiting": 3, "running": 4}], "stamp": 1}
}
STREAMS = ["tcp://127.0.0.1:1", "tcp://127.0.0.1:2"]


def worker(own_states, replica: FakeReplica) -> dict:
    state, _ = state_of([replica])
    own_states["app", "model", state.options.key()] = state
    state.started_router()
    return snapshots()[0]["workers"]["a"]


def test_a_replicas_figures_are_over_all_of_its_ranks(own_states):
    replica = FakeReplica("a", {"kvroute": {"dp_ranks": 2, "kv_events": STREAMS}}, RANKS)
    shown = worker(own_states, replica)
    assert (shown["waiting"], shown["running"]) == (4, 6)
    assert shown["events"]["batches"] == 0
    assert shown["events"]["last_sequence"] == -1
    assert shown["events"]["partial"] in (0, 2)


def test_load_counts_of_the_ranks_that_reported_any(own_states):
    load = {"kvroute": {"load": [{"waiting": 5}], "stamp": 1}}
    shown = worker(own_states, FakeReplica("a", {"kvroute": {"dp_ranks": 2}}, load))
    assert (shown["waiting"], shown["running"]) == (5, None)


async def test_it_is_json_and_shows_what_runs(own_states):
    replicas = [FakeReplica("a"), FakeReplica("b")]
    state, member = state_of(replicas)
    own_states["app", "model", state.options.key()] = state
    await routed(state, member, pending(ids=list(range(64))), replicas)
    (shown,) = json.loads(json.dumps(snapshots()))
    assert (shown["bookings"], shown["attempts"], shown["block_size"]) == (1, 1, 16)
    assert sorted(one["active_requests"] for one in shown["workers"].values()) == [0, 1]
    assert shown["exchange"] is None

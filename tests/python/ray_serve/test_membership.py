"""Replicas as workers of the core."""

from __future__ import annotations

from types import SimpleNamespace

import kvroute
import pytest
from kvroute.ray_serve.bookings import Bookings, HashedPrompt
from kvroute.ray_serve.counters import Counters
from kvroute.ray_serve.membership import DEAD_SECONDS, Membership
from serve_fakes import FakeReplica

OURS, THEIRS = 1, 2
FACTS = {"block_size": 16, "total_blocks": 500}


class Deployment:
    def __init__(self) -> None:
        self.now = 0.0
        self.router = kvroute.KvRouter(16, seed=1)
        self.bookings = Bookings()
        self.counters = Counters()
        self.membership = Membership(self.bookings, self.counters, lambda: self.now)
        self.membership.connect(self.router)

    def book(self, worker: str):
        hashes = kvroute.hash_blocks(list(range(64)), 16)
        return self.bookings.book(self.router, HashedPrompt(hashes, 64), [worker])

    def target(self, worker: str):
        return next(one for one in self.router.stats().targets if one.worker == worker)


@pytest.fixture
def deployment():
    made = Deployment()
    yield made
    made.router.close()


def test_replicas_join_and_leave_with_the_list(deployment):
    membership = deployment.membership
    membership.update(OURS, [FakeReplica("a"), FakeReplica("b")])
    assert deployment.router.workers() == ["a", "b"]
    membership.update(OURS, [FakeReplica("b"), FakeReplica("c")])
    assert deployment.router.workers() == ["b", "c"]
    assert membership.workers() == ["b", "c"]


def test_a_replica_stays_while_any_handle_lists_it(deployment):
    membership = deployment.membership
    membership.update(OURS, [FakeReplica("a"), FakeReplica("b")])
    membership.update(THEIRS, [FakeReplica("a")])
    membership.update(OURS, [])
    assert deployment.router.workers() == ["a"]
    membership.leave(THEIRS)
    assert deployment.router.workers() == []


def test_the_exchange_hears_of_each_replica_that_is_registered_once_or_anew(deployment):
    heard = []
    deployment.bookings.exchange = SimpleNamespace(worker_registered=heard.append)
    deployment.membership.update(OURS, [FakeReplica("a"), FakeReplica("b")])
    deployment.membership.update(OURS, [FakeReplica("a"), FakeReplica("b")])
    assert heard == ["a", "b"]
    changed = FakeReplica("b", {"kvroute": {"total_blocks": 100}}, {})
    deployment.membership.update(OURS, [FakeReplica("a"), changed])
    assert heard == ["a", "b", "b"]


def test_what_was_booked_on_a_replica_that_left_is_over(deployment):
    deployment.membership.update(OURS, [FakeReplica("a"), FakeReplica("b")])
    gone, stays = deployment.book("a"), deployment.book("b")
    deployment.membership.update(OURS, [FakeReplica("b")])
    assert gone.released
    assert not stays.released
    assert deployment.router.stats().reservations == len(deployment.bookings) == 1


def test_a_dead_replica_is_gone_at_once_and_for_a_while(deployment):
    membership, replicas = deployment.membership, [FakeReplica("a"), FakeReplica("b")]
    membership.update(OURS, replicas)
    booking = deployment.book("a")
    for _ in range(3):
        membership.died("a")
    assert booking.released
    assert deployment.counters.replicas_died == 1

    membership.update(OURS, replicas)
    assert len(membership.allowed(OURS, replicas).workers) == 1
    assert deployment.router.workers() == ["b"]
    deployment.now += DEAD_SECONDS
    membership.update(OURS, replicas)
    assert deployment.router.workers() == ["b", "a"]


def test_frequent_updates_without_news_read_nothing(deployment, monkeypatch):
    replicas = [FakeReplica(f"r{i}", {"kvroute": {"block_size": 16}}) for i in range(8)]
    deployment.membership.update(OURS, replicas)
    monkeypatch.setattr("kvroute.ray_serve.membership.ReplicaFacts", None)
    for _ in range(164):
        deployment.membership.update(OURS, replicas)
    assert len(deployment.router.workers()) == 8


def test_facts_that_come_later_take_effect_and_running_requests_stay_booked(deployment):
    replica = FakeReplica("a", stats={"kvroute": {"load": [{"running": 7}], "stamp": 1}})
    deployment.membership.update(OURS, [replica, FakeReplica("b")])
    booking, prefilling = deployment.book("a"), deployment.book("a")
    booking.first_token()
    booking.progress(40)
    before = deployment.target("a")

    replica.restate(kvroute={"total_blocks": 500, "labels": {"zone": "x"}})
    deployment.membership.update(OURS, [replica, FakeReplica("b")])

    after = deployment.target("a")
    assert (before.total_blocks, after.total_blocks) == (None, 500)
    assert deployment.router.labels("a") == {"zone": "x"}
    assert (before.active_requests, after.active_requests) == (2, 2)
    assert (before.running, after.running) == (7, 7)
    assert after.active_blocks == before.active_blocks
    prefilling.release()
    booking.release()
    assert deployment.router.stats().reservations == 0


def test_facts_that_a_source_leaves_out_are_kept(deployment):
    told = FakeReplica("a", stats={"kv_event_metadata": {"block_size": 16}, "kvroute": FACTS})
    untold = FakeReplica("a")  # as after a restart of Serve's controller, or in a list that lags
    deployment.membership.update(OURS, [told])
    booking = deployment.book("a")
    booking.release(list(range(64, 81)))
    held = deployment.target("a").held_blocks
    assert held > 0

    for member, replica in ((OURS, untold), (THEIRS, untold), (OURS, told), (THEIRS, untold)):
        deployment.membership.update(member, [replica])

    assert deployment.target("a").held_blocks == held
    assert deployment.target("a").total_blocks == 500
    assert deployment.membership.block_size() == 16


def test_load_is_reported_once_for_each_stamp_in_order(deployment):
    replica = FakeReplica("a")

    def say(stamp: int, waiting: int) -> int:
        replica.restate(kvroute={"load": [{"waiting": waiting}], "stamp": stamp})
        deployment.membership.update(OURS, [replica])
        return deployment.target("a").waiting

    assert [say(1, 5), say(1, 7), say(2, 8), say(1, 9)] == [5, 5, 8, 8]


def test_malformed_facts_are_counted_and_the_replica_is_used_all_the_same(deployment, caplog):
    replica = FakeReplica("a", {"kvroute": {"block_size": "many"}})
    deployment.membership.update(OURS, [replica])
    replica.restate()
    deployment.membership.update(OURS, [replica])
    assert deployment.router.workers() == ["a"]
    assert deployment.counters.malformed_facts == 2
    assert [record.message for record in caplog.records] == [
        "kvroute: what replica a states is ignored: "
        "block_size: expected an integer from 1, got 'many'"
    ]


def test_what_the_core_refuses_leaves_a_replica_whose_cache_is_predicted(deployment):
    refused = {"kv_events": "no endpoint", "total_blocks": 500}
    deployment.membership.update(OURS, [FakeReplica("a", {"kvroute": refused})])
    assert deployment.target("a").total_blocks == 500
    assert deployment.counters.malformed_facts == 1


def test_blocks_of_another_size_than_the_prompts_are_told_of(deployment, caplog):
    deployment.membership.update(OURS, [FakeReplica("a", {"kvroute": {"block_size": 32}})])
    assert deployment.router.workers() == ["a"]
    assert "block_size: expected 16, as the deployment's prompts are hashed, got 32" in caplog.text


def test_load_that_the_core_refuses_is_counted(deployment):
    replica = FakeReplica("a", stats={"kvroute": {"load": [{"waiting": -1}], "stamp": 1}})
    deployment.membership.update(OURS, [replica])
    assert deployment.counters.malformed_facts == 1


def test_candidates_that_no_list_has_named_are_registered_first(deployment):
    candidates = [FakeReplica("a"), FakeReplica("b", {"kvroute": {"dp_ranks": 4}})]
    allowed = deployment.membership.allowed(OURS, candidates)
    assert allowed.targets == 5
    assert deployment.router.workers() == ["a", "b"]


def test_the_same_candidates_are_looked_up_once_until_replicas_change(deployment):
    candidates = [FakeReplica("a"), FakeReplica("b")]
    first = deployment.membership.allowed(OURS, candidates)
    assert deployment.membership.allowed(OURS, list(candidates)) is first
    deployment.membership.died("a")
    assert len(deployment.membership.allowed(OURS, candidates).workers) == 1


def test_replicas_known_before_the_router_become_its_workers(deployment):
    replica = FakeReplica("a", stats={"kvroute": {"load": [{"waiting": 2}], "stamp": 1}})
    membership = Membership(Bookings(), Counters())
    membership.update(OURS, [replica])
    assert membership.allowed(OURS, [replica]).workers is None
    membership.connect(deployment.router)
    assert deployment.target("a").waiting == 2

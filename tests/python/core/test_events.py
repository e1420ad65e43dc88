"""KV events and load reports over ZMQ into a router."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Literal

import kvroute
import pytest
import zmq
from engine_events import CLEARED, EventPublisher, eventually, offloaded, removed, stored

PROMPT = list(range(64))  # four blocks of 16
NAMES = [101, 102, 103, 104]


@pytest.fixture
def publisher() -> Iterator[EventPublisher]:
    with EventPublisher() as publisher:
        yield publisher


@pytest.fixture
def router() -> Iterator[kvroute.KvRouter]:
    with kvroute.KvRouter(16, seed=1) as router:
        yield router


def cached(router: kvroute.KvRouter) -> int:
    return router.overlaps(PROMPT).get(("w", 0), 0)


def counters(router: kvroute.KvRouter) -> dict[str, int]:
    return router.stats().targets[0].events


def follow(router: kvroute.KvRouter, publisher: EventPublisher, *, replay: bool = True) -> None:
    router.add_worker(
        "w", kv_events=publisher.events, kv_replay=publisher.replay if replay else None
    )
    eventually(lambda: counters(router)["connected"] == 1, "connected")


def test_what_an_engine_stores_draws_requests(
    router: kvroute.KvRouter, publisher: EventPublisher
) -> None:
    router.add_worker("idle")
    router.add_worker("w", kv_events=publisher.events, kv_replay=publisher.replay)
    publisher.publish(stored(NAMES, PROMPT))
    eventually(lambda: cached(router) == 64, "four blocks stored")
    choice = router.select_worker(PROMPT)
    assert (choice.worker, choice.cached_tokens) == ("w", 64)


def test_removed_and_cleared_blocks_no_longer_count(
    router: kvroute.KvRouter, publisher: EventPublisher
) -> None:
    follow(router, publisher)
    publisher.publish(stored(NAMES, PROMPT))
    eventually(lambda: cached(router) == 64, "stored")
    publisher.publish(removed([103]))
    eventually(lambda: cached(router) == 32, "the third block removed")
    publisher.publish(stored([103], PROMPT[32:48], parent=102))
    eventually(lambda: cached(router) == 64, "and back")
    publisher.publish(CLEARED)
    eventually(lambda: cached(router) == 0, "cleared")
    assert counters(router)["clears"] == 1


def test_a_router_that_starts_late_learns_the_past(
    router: kvroute.KvRouter, publisher: EventPublisher
) -> None:
    publisher.publish(stored(NAMES[:2], PROMPT[:32]))
    publisher.publish(stored(NAMES[2:], PROMPT[32:], parent=102))
    router.add_worker("w", kv_events=publisher.events, kv_replay=publisher.replay)
    eventually(lambda: cached(router) == 64, "replayed")
    assert counters(router)["partial"] == 0


def test_a_gap_is_filled_from_the_replay_socket(
    router: kvroute.KvRouter, publisher: EventPublisher
) -> None:
    follow(router, publisher)
    publisher.publish(stored(NAMES[:2], PROMPT[:32]))
    eventually(lambda: cached(router) == 32, "two blocks")
    publisher.lose(stored([103], PROMPT[32:48], parent=102))
    publisher.publish(stored([104], PROMPT[48:], parent=103))
    eventually(lambda: cached(router) == 64, "all four, the lost one too")
    assert counters(router)["gaps"] == 1
    assert counters(router)["failed_replays"] == 0


def test_a_gap_that_cannot_be_filled_clears_that_target_and_says_so(
    router: kvroute.KvRouter, publisher: EventPublisher, caplog: pytest.LogCaptureFixture
) -> None:
    with EventPublisher() as other, caplog.at_level(logging.WARNING, logger="kvroute"):
        router.add_worker("w", kv_events=publisher.events)
        router.add_worker("v", kv_events=other.events)
        eventually(
            lambda: all(t.events["connected"] == 1 for t in router.stats().targets), "connected"
        )
        publisher.publish(stored(NAMES, PROMPT))
        other.publish(stored(NAMES, PROMPT))
        eventually(lambda: router.overlaps(PROMPT) == {("w", 0): 64, ("v", 0): 64}, "both stored")
        publisher.lose(removed([101]))
        publisher.publish(stored([7], [9] * 16))
        eventually(lambda: router.overlaps(PROMPT) == {("v", 0): 64}, "only w was cleared")
        eventually(lambda: router.overlaps([9] * 16) == {("w", 0): 16}, "w goes on")
        eventually(lambda: any('"w" rank 0' in m for m in caplog.messages), "a warning")
    assert counters(router)["partial"] == 1


def test_an_engine_that_restarts_is_learned_anew(
    router: kvroute.KvRouter, publisher: EventPublisher
) -> None:
    follow(router, publisher)
    publisher.publish(stored(NAMES, PROMPT))
    publisher.publish(stored([7], [9] * 16))
    eventually(lambda: counters(router)["last_sequence"] == 1, "both batches")
    publisher.restart()
    publisher.publish(stored([1], PROMPT[:16]))
    eventually(lambda: cached(router) == 16, "only what the new engine holds")
    assert router.overlaps([9] * 16) == {}
    assert counters(router)["restarts"] == 1


def test_rubbish_is_counted_and_the_stream_goes_on(
    router: kvroute.KvRouter, publisher: EventPublisher
) -> None:
    follow(router, publisher)
    publisher.publish({"type": "Novelty"}, stored(NAMES, PROMPT), {"type": "BlockStored"})
    eventually(lambda: cached(router) == 64, "the good event of a batch")
    publisher.publish(stored([1], [5] * 64))
    eventually(lambda: counters(router)["refused_block_size"] == 1, "another block size")
    assert router.overlaps([5] * 64) == {}
    publisher.publish(stored([2], [6] * 16, parent=999))
    eventually(lambda: counters(router)["unknown_parents"] == 1, "an unknown parent")
    publisher.publish(stored([3], [7] * 16))
    eventually(lambda: router.overlaps([7] * 16) == {("w", 0): 16}, "the stream goes on")


def test_a_salt_named_in_the_first_block_separates_its_children(
    router: kvroute.KvRouter, publisher: EventPublisher
) -> None:
    follow(router, publisher)
    publisher.publish(stored(NAMES[:2], PROMPT[:32], extra_keys=[["tenant-a"], None]))
    publisher.publish(stored(NAMES[2:], PROMPT[32:], parent=102))
    eventually(lambda: router.overlaps(PROMPT, salt="tenant-a") == {("w", 0): 64}, "salted")
    assert router.overlaps(PROMPT) == {}
    assert router.overlaps(PROMPT, salt="tenant-b") == {}


def test_a_salted_child_that_came_before_its_parent_is_found_when_announced_again(
    router: kvroute.KvRouter, publisher: EventPublisher
) -> None:
    follow(router, publisher)
    publisher.publish(stored(NAMES[2:], PROMPT[32:], parent=102))
    publisher.publish(stored(NAMES[:2], PROMPT[:32], extra_keys=[["tenant-a"], None]))
    eventually(lambda: router.overlaps(PROMPT, salt="tenant-a") == {("w", 0): 32}, "the parent")
    assert router.stats().indexes[0].counters["waited_in_vain"] == 2
    assert router.overlaps(PROMPT) == {}
    publisher.publish(stored(NAMES[2:], PROMPT[32:], parent=102))
    eventually(lambda: router.overlaps(PROMPT, salt="tenant-a") == {("w", 0): 64}, "again")


def test_what_lies_below_the_device_is_shown_by_tier(
    router: kvroute.KvRouter, publisher: EventPublisher
) -> None:
    follow(router, publisher)

    def by_tier() -> list[int]:
        tiers: tuple[Literal["device", "host", "disk", "external"], ...]
        tiers = ("device", "host", "disk", "external")
        return [router.overlaps(PROMPT, tier=tier).get(("w", 0), 0) for tier in tiers]

    publisher.publish(stored(NAMES, PROMPT), offloaded(NAMES[:3], "CPU"))
    publisher.publish(stored(NAMES[3:], PROMPT[48:], parent=103, medium="DISK"))
    publisher.publish(removed(NAMES[1:]))
    eventually(lambda: by_tier() == [16, 48, 64, 64], "four blocks, one of them on the device")
    assert router.select_worker(PROMPT).cached_tokens == 16
    target = router.stats().targets[0]
    assert target.held_blocks == 1
    assert (target.events["stored_blocks"], target.events["removed_blocks"]) == (4, 3)
    assert (target.events["stored_lower"], target.events["ignored"]) == (4, 0)
    index = router.stats().indexes[0]
    assert (index.held, index.held_lower, index.waiting) == (1, 4, 0)

    publisher.publish(CLEARED)
    eventually(lambda: by_tier() == [0, 48, 64, 64], "the device is empty")
    publisher.publish(removed([101], "CPU"))
    eventually(lambda: by_tier() == [0, 0, 0, 0], "and the first block is gone")
    assert counters(router)["removed_lower"] == 1
    with pytest.raises(kvroute.InvalidArgument, match="tier"):
        router.overlaps(PROMPT, tier="tape")  # type: ignore[arg-type]  # what it refuses


def test_a_lora_adapters_blocks_are_its_own(
    router: kvroute.KvRouter, publisher: EventPublisher
) -> None:
    follow(router, publisher)
    publisher.publish(stored(NAMES, PROMPT, lora_id=3, lora_name="sql", extra_keys=[["sql"]] * 4))
    eventually(lambda: router.overlaps(PROMPT, lora="sql") == {("w", 0): 64}, "the adapter's")
    assert router.overlaps(PROMPT) == {}


def test_each_rank_has_its_own_stream() -> None:
    with EventPublisher() as first, EventPublisher() as second, kvroute.KvRouter(16) as router:
        router.add_worker("w", dp_ranks=2, kv_events=[first.events, second.events])
        eventually(
            lambda: all(t.events["connected"] == 1 for t in router.stats().targets), "connected"
        )
        # Both say rank 0 in their batches; the batch's word counts.
        second.publish(stored(NAMES[:1], PROMPT[:16]))
        eventually(lambda: router.overlaps(PROMPT) == {("w", 0): 16}, "by the batch's rank")


def test_a_predicted_block_is_confirmed_by_its_event(
    publisher: EventPublisher,
) -> None:
    clock = kvroute.VirtualClock()
    with kvroute.KvRouter(16, clock=clock) as router:
        follow(router, publisher)
        router.reserve(PROMPT).release()
        assert router.stats().indexes[0].predicted == 4
        publisher.publish(stored(NAMES[:3], PROMPT[:48]))
        eventually(lambda: router.stats().indexes[0].predicted == 1, "three confirmed")
        clock.advance(200)
        assert cached(router) == 48


def test_removing_a_worker_ends_its_stream(
    router: kvroute.KvRouter, publisher: EventPublisher
) -> None:
    follow(router, publisher)
    publisher.publish(stored(NAMES, PROMPT))
    eventually(lambda: cached(router) == 64, "stored")
    router.remove_worker("w")
    router.add_worker("w")
    publisher.publish(stored(NAMES, PROMPT))
    assert cached(router) == 0
    assert counters(router)["batches"] == 0


def test_load_reports_reach_the_standalone_rule() -> None:
    context = zmq.Context()
    pub = context.socket(zmq.PUB)
    pub.setsockopt(zmq.LINGER, 0)
    port = pub.bind_to_random_port("tcp://127.0.0.1")
    try:
        with kvroute.KvRouter(64, policy="standalone", seed=1) as router:
            router.add_worker(0, load_events=f"tcp://127.0.0.1:{port}")
            router.add_worker(1)

            def reported() -> bool:
                pub.send(json.dumps({"num_waiting_reqs": 5, "kv_cache_usage": 0.75}).encode())
                return router.stats().targets[0].waiting == 5

            eventually(reported, "a report")
            target = router.stats().targets[0]
            assert (target.waiting, target.kv_usage) == (5, 0.75)
            assert target.load_age is not None
            assert router.select_worker(PROMPT).worker == 1
    finally:
        context.destroy(linger=0)


def test_an_endpoint_in_use_is_refused_and_the_worker_is_not_there(
    router: kvroute.KvRouter,
) -> None:
    context = zmq.Context()
    taken = context.socket(zmq.PUB)
    port = taken.bind_to_random_port("tcp://*")
    try:
        with pytest.raises(kvroute.InvalidArgument, match="endpoint"):
            router.add_worker("w", kv_events=f"tcp://*:{port}")
    finally:
        context.destroy(linger=0)
    assert router.workers() == []
    router.add_worker("w")

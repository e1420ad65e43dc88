"""PrefixIndex: many events, many requests, and everything at once."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterator
from typing import Any

import kvroute
import numpy as np
import pytest
from index_contents import ENGINE, LOCAL, answers, filled


def counts(result: kvroute.ApplyResult) -> dict[str, int]:
    names = ("stored", "duplicates", "removed", "waiting", "unknown")
    return {name: getattr(result, name) for name in names if getattr(result, name)}


def test_a_batch_is_applied_in_its_order() -> None:
    index = kvroute.PrefixIndex()
    result = index.apply(
        [
            ("store", "w", 0, None, ENGINE[:2], LOCAL[:2]),
            ("store", "w", 0, 102, array("Q", ENGINE[2:]), np.array(LOCAL[2:], dtype="u8")),
            ["store", "w", 0, None, ENGINE[:1], LOCAL[:1]],
            ("store", 7, 3, 55, [1], [2]),
            ("remove", "w", 0, (104,)),
            ("remove", 7, 3, [77, 78]),
        ]
    )
    assert counts(result) == {
        "stored": 4,
        "duplicates": 1,
        "removed": 1,
        "waiting": 1,
        "unknown": 2,
    }
    assert repr(result) == "ApplyResult(stored=4, duplicates=1, removed=1, waiting=1, unknown=2)"
    assert index.match(LOCAL) == {("w", 0): 3}
    assert counts(index.apply([("clear", "w", 0)])) == {}
    assert index.match(LOCAL) == {}
    assert index.targets() == [("w", 0), (7, 3)]


def test_a_batch_knows_tiers() -> None:
    index = kvroute.PrefixIndex()
    result = index.apply(
        [
            ("store", "w", 0, None, ENGINE[:2], LOCAL[:2], "device"),
            ("store", "w", 0, 102, ENGINE[2:], LOCAL[2:], "disk"),
            ("store_known", "w", 0, [101, 999], "host"),
            ("remove", "w", 0, [101], "device"),
        ]
    )
    assert counts(result) == {"stored": 5, "removed": 1, "unknown": 1}
    assert [list(depths) for depths in index.overlaps(LOCAL)[1]] == [[0], [2], [4], [4]]


def test_a_batch_may_be_any_iterable() -> None:
    def events() -> Iterator[Any]:
        for i in range(4):
            yield (
                "store",
                "w",
                0,
                ENGINE[i - 1] if i else None,
                ENGINE[i : i + 1],
                LOCAL[i : i + 1],
            )

    index = kvroute.PrefixIndex()
    assert index.apply(events()).stored == 4
    assert index.match(LOCAL) == {("w", 0): 4}
    assert counts(index.apply([])) == {}


GOOD = ("store", "w", 0, None, ENGINE, LOCAL)


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (
            ("steal", "w"),
            r"\[1\]\[0\]: expected 'store', 'store_known', 'remove' or 'clear', got the",
        ),
        ((), r"\[1\]\[0\]: expected .*, got an empty tuple"),
        ("store", r"\[1\]: expected a tuple, got the str 'store'"),
        (("store", "w", 0, None, [1]), r"\[1\]: expected \('store', .* a tier, got 5 fields"),
        (("clear", "w"), r"\[1\]: expected \('clear', worker, dp_rank\), got 2 fields"),
        (
            ("store", "w", 0, None, [1, 2], [1]),
            r"\[1\]\.local_hashes: expected as many as .*, got 1",
        ),
        (("store", "w", 0, None, [1], []), r"\[1\]\.local_hashes: expected as many as .*, got 0"),
        (
            ("store", "w", 0, None, [1, -2], [1, 2]),
            r"\[1\]\.engine_hashes\[1\]: expected .* got -2",
        ),
        (("store", "w", 0, "x", [1], [1]), r"\[1\]\.parent: expected None or an integer"),
        (("store", "w", 0, None, [1], [1], "gpu"), r"\[1\]\.tier: expected 'device'"),
        (("store_known", "w", 0, [1], None), r"\[1\]\.tier: expected 'device'"),
        (("remove", 1.5, 0, [1]), r"\[1\]\.worker: expected a str or an int, got float"),
        (("remove", "w", -1, [1]), r"\[1\]\.dp_rank: expected an integer from 0"),
    ],
)
def test_a_batch_with_a_mistake_changes_nothing(event: Any, message: str) -> None:
    index = kvroute.PrefixIndex()
    with pytest.raises(kvroute.InvalidArgument, match="^events" + message):
        index.apply([GOOD, event])
    assert index.targets() == []


def test_what_an_iterable_raises_is_raised() -> None:
    def events() -> Iterator[Any]:
        yield GOOD
        raise LookupError("the stream broke")

    index = kvroute.PrefixIndex()
    with pytest.raises(LookupError, match="the stream broke"):
        index.apply(events())
    with pytest.raises(kvroute.InvalidArgument, match="^events: expected an iterable of event"):
        index.apply(7)  # type: ignore[arg-type]
    assert index.targets() == []


def test_many_requests_are_answered_as_each_by_itself() -> None:
    index = kvroute.PrefixIndex()
    index.store("w", ENGINE, LOCAL)
    index.store("v", ENGINE[:2], LOCAL[:2])
    requests = [LOCAL, [], array("Q", LOCAL[:1]), np.array([12], dtype="u8")]
    assert index.match_many(requests) == [index.match(request) for request in requests]
    assert index.match_many(iter(requests))[0] == {("w", 0): 4, ("v", 0): 2}
    assert index.match_many([]) == []
    with pytest.raises(
        kvroute.InvalidArgument, match=r"^requests\[1\]\.local_hashes\[0\]: expected"
    ):
        index.match_many([LOCAL, [-1]])
    with pytest.raises(kvroute.InvalidArgument, match=r"^requests: expected an iterable"):
        index.match_many(3)  # type: ignore[arg-type]


def test_overlaps_are_four_arrays_of_all_targets() -> None:
    index = kvroute.PrefixIndex()
    assert index.overlaps(LOCAL) == ([], (array("I"), array("I"), array("I"), array("I")))
    index.store("w", ENGINE, LOCAL)
    index.store("v", [1], [99])
    targets, depths = index.overlaps(LOCAL)
    assert targets == [("w", 0), ("v", 0)]
    assert depths == (array("I", [4, 0]),) * 4
    assert np.array(depths).shape == (4, 2)


@pytest.mark.parametrize("seed", range(5))
def test_a_dump_applied_to_an_empty_index_matches_alike(seed: int) -> None:
    index, again = filled(seed), kvroute.PrefixIndex()
    dump = index.dump()
    result = again.apply(dump)
    assert result.unknown == result.duplicates == 0
    for target in index.targets():  # some may hold nothing any more
        again.store(target[0], [], [], dp_rank=target[1])
    assert answers(again, seed) == answers(index, seed)
    assert sum(len(event[4]) for event in dump) == index.stats().held + index.stats().held_lower


def test_a_dump_is_made_of_store_events() -> None:
    index = kvroute.PrefixIndex()
    index.store("w", ENGINE, LOCAL, dp_rank=5)
    index.store("w", ENGINE[:1], LOCAL[:1], dp_rank=5, tier="host")
    assert sorted(index.dump(), key=lambda event: event[6]) == [
        ("store", "w", 5, None, array("Q", ENGINE), array("Q", LOCAL), "device"),
        ("store", "w", 5, None, array("Q", ENGINE[:1]), array("Q", LOCAL[:1]), "host"),
    ]
    assert kvroute.PrefixIndex().dump() == []


def test_batches_dumps_and_matches_go_on_beside_each_other() -> None:
    index = kvroute.PrefixIndex()
    index.apply([("store", "steady", 0, None, ENGINE, LOCAL)])
    names = list(range(1000, 1200))
    stop = threading.Event()
    wrong: list[Any] = []

    def flap() -> None:
        while not stop.is_set():
            index.apply([("store", "flap", 0, None, names, names), ("remove", "flap", 0, names)])
            index.remove_worker("flap")

    def check() -> None:
        while not stop.is_set():
            if index.match(LOCAL) != {("steady", 0): 4}:
                wrong.append(index.match(LOCAL))
            if not any(event[1] == "steady" and len(event[4]) == 4 for event in index.dump()):
                wrong.append("dump")

    threads = [threading.Thread(target=flap), threading.Thread(target=check)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(100):
            kvroute.PrefixIndex().apply(index.dump())
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert wrong == []

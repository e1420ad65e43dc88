"""Dynamo's face: as the real package where it is installed, as its recorded answers everywhere."""

from __future__ import annotations

import json
from array import array
from pathlib import Path
from typing import Any

import kvroute
import numpy as np
import pytest
from dynamo_streams import Fleet, Scores, Step, name_of, take
from kvroute.compat.dynamo import RadixTree, compute_block_hash_for_seq
from kvroute.compat.dynamo.block_uses import BlockUses

RECORD: dict[str, Any] = json.loads(Path(__file__).with_name("dynamo_recorded.json").read_text())

# What each of the recorded differences gives here.
OURS: dict[str, list[Scores | str | None]] = {
    "a head that returns": [None, None, [], None, [[1, 0, 3]]],
    "a middle that returns": [None, None, [[1, 0, 1]], None, [[1, 0, 3]]],
    "two workers' own names": [
        None,
        None,
        None,
        [[1, 0, 2], [2, 0, 3]],
        None,
        [[1, 0, 2], [2, 0, 1]],
    ],
    "two names for one block": [None, None, None, [[1, 0, 3]]],
    "one name for other content": [None, None, [[1, 0, 2]], None, [[1, 0, 2]]],
    "a chain before its parent": [None, [], None, [[1, 0, 3]]],
}


def stored(parent: int | None, *blocks: tuple[int, int], **fields: Any) -> bytes:
    listed = [{"block_hash": name, "tokens_hash": content} for name, content in blocks]
    data = {"stored": {"parent_hash": parent, "blocks": listed}}
    return json.dumps({"event_id": 0, "data": data, **fields}).encode()


def test_block_hashes_are_the_recorded_ones() -> None:
    for case in RECORD["hashes"]:
        assert compute_block_hash_for_seq(*case["of"]) == case["are"], case["of"]


def test_block_hashes_take_arrays_too() -> None:
    objects = [None, {"mm_objects": [{"mm_hash": 5}]}]
    for extra in ((), (objects,), (objects, "lora", True)):
        expected = compute_block_hash_for_seq(list(range(9)), 4, *extra)
        for tokens in (
            tuple(range(9)),
            array("I", range(9)),
            np.arange(9),
            np.arange(9, dtype="u4"),
        ):
            assert compute_block_hash_for_seq(tokens, 4, *extra) == expected


def test_block_hashes_refuse_what_is_malformed() -> None:
    with pytest.raises(ValueError, match="block_size: expected an integer from 1"):
        compute_block_hash_for_seq([1], 0)
    for eagle in (False, True):
        with pytest.raises(kvroute.InvalidArgument, match=r"token_ids\[1\]"):
            compute_block_hash_for_seq([1, -1, 2], 2, is_eagle=eagle)
    with pytest.raises(kvroute.InvalidArgument, match=r"block_mm_infos\[0\]: expected None or"):
        compute_block_hash_for_seq([1, 2], 2, [{"mm_objects": [{}]}])


@pytest.mark.parametrize("value", [2**64, -1, float("inf"), "12", 1.7, True, None])
def test_an_object_s_hash_is_an_integer_of_64_bits(value: Any) -> None:
    good = {"mm_objects": [{"mm_hash": 2**64 - 1}]}
    assert len(compute_block_hash_for_seq([1, 2, 3, 4], 2, [good, None])) == 2
    with pytest.raises(kvroute.InvalidArgument, match=r"block_mm_infos\[1\]: expected None or"):
        compute_block_hash_for_seq(
            [1, 2, 3, 4], 2, [good, {"mm_objects": [{"mm_hash": 1}, {"mm_hash": value}]}]
        )


@pytest.mark.parametrize(
    "infos", [{0: None}, {}, 5, 0, "ab", iter([None])], ids=lambda given: type(given).__name__
)
def test_objects_of_blocks_come_in_a_sequence(infos: Any) -> None:
    with pytest.raises(kvroute.InvalidArgument, match="^block_mm_infos: expected None or a seq"):
        compute_block_hash_for_seq([1, 2], 2, infos)


@pytest.mark.parametrize("seconds", ["a", -1, True, float("nan")])
def test_an_expiration_that_is_no_time_is_refused(seconds: Any) -> None:
    with pytest.raises(kvroute.InvalidArgument, match="^expiration_duration_secs: expected"):
        RadixTree(seconds)


@pytest.mark.parametrize("number", range(len(RECORD["streams"])))
def test_an_engine_s_stream_gives_the_recorded_scores(number: int) -> None:
    tree = RadixTree()
    for at, recorded in enumerate(RECORD["streams"][number]):
        assert take(tree, recorded["step"]) == recorded["gives"], (at, recorded["step"])


def test_events_fail_where_the_recorded_ones_do() -> None:
    tree = RadixTree()
    for recorded in RECORD["events"]:
        assert take(tree, recorded["step"]) == recorded["gives"], recorded["step"]


def test_a_malformed_event_changes_nothing_and_says_why() -> None:
    tree = RadixTree()
    event = stored(None, (1, 11), (2**64, 12))
    with pytest.raises(
        kvroute.InvalidArgument, match=r"^Failed to deserialize .*engine_hashes\[1\]"
    ):
        tree.apply_event(1, event)
    assert tree.find_matches([11]).scores == {}
    with pytest.raises(kvroute.InvalidArgument, match="expected contiguous bytes, got a memoryv"):
        tree.apply_event(1, memoryview(event)[::2])
    with pytest.raises(TypeError, match="expected bytes, got str"):
        tree.apply_event(1, event.decode())  # type: ignore[arg-type]  # a wrong type on purpose


@pytest.mark.parametrize("name", OURS)
def test_a_deliberate_difference_is_one(name: str) -> None:
    tree = RadixTree()
    steps = RECORD["differences"][name]
    ours = [take(tree, recorded["step"]) for recorded in steps]
    assert ours == OURS[name]
    assert ours != [recorded["gives"] for recorded in steps]
    assert OURS.keys() == RECORD["differences"].keys()


def test_early_exit_answers_in_full() -> None:
    tree = RadixTree()
    tree.apply_event(1, stored(None, (1, 11), (2, 12), (3, 13)))
    tree.apply_event(1, stored(1, (4, 14)))
    assert tree.find_matches([11, 12, 13], early_exit=True).scores == {(1, 0): 3}


def test_every_worker_number_comes_back_as_it_was() -> None:
    tree = RadixTree()
    numbers = [0, 1, 2**63 - 1, 2**63, 2**64 - 1]
    for number in numbers:
        tree.apply_event(number, stored(None, (1, 11), dp_rank=2))
    assert tree.find_matches([11]).scores == {(number, 2): 1 for number in numbers}
    tree.remove_worker(2**64 - 1)
    tree.clear_all_blocks(2**63)
    tree.remove_worker(5)  # never seen
    assert sorted(tree.find_matches([11]).scores) == [(0, 2), (1, 2), (2**63 - 1, 2)]
    for wrong, error in ((-1, OverflowError), (2**64, OverflowError), ("1", TypeError)):
        with pytest.raises(error):
            tree.remove_worker(wrong)  # type: ignore[arg-type]  # a wrong type on purpose


def test_sequences_of_any_kind_are_found() -> None:
    tree = RadixTree()
    tree.apply_event(1, stored(None, (1, 7), (2, 8)))
    for sequence in (
        [7, 8],
        (7, 8),
        array("Q", [7, 8]),
        np.array([7, 8]),
        range(7, 9),
        b"\x07\x08",
    ):
        assert tree.find_matches(sequence).scores == {(1, 0): 2}
    assert tree.find_matches([]).scores == {}
    with pytest.raises(kvroute.InvalidArgument, match="local_hashes"):
        tree.find_matches("ab")  # type: ignore[arg-type]  # a wrong type on purpose


def test_frequencies_count_the_look_ups_of_each_block() -> None:
    tree = RadixTree(expiration_duration_secs=3600)
    tree.apply_event(1, stored(None, (1, 11), (2, 12), (3, 13)))
    assert tree.find_matches([11, 12]).frequencies == []
    assert tree.find_matches(np.array([11, 12, 13, 14])).frequencies == [1, 1]
    assert tree.find_matches([11, 12, 13]).frequencies == [2, 2, 1]
    assert tree.find_matches([99]).frequencies == []
    assert RadixTree().find_matches([11]).frequencies == []


def test_uses_that_are_too_old_count_no_more_and_are_dropped() -> None:
    now = [0.0]
    uses = BlockUses(10, clock=lambda: now[0])
    assert uses.count([1, 2]) == []
    now[0] = 6
    assert uses.count([1]) == [1]
    now[0] = 11
    assert uses.count([1, 2]) == [1]
    now[0] = 100
    assert uses.count([3]) == []
    assert len(uses._uses) == 1


def test_the_memory_limit_holds() -> None:
    tree = RadixTree(memory_limit="1MiB")
    for first in range(0, 60_000, 100):
        tree.apply_event(1, stored(None, *((n + 1, n + 1) for n in range(first, first + 100))))
    assert tree._index.stats().bytes <= 2**20
    assert tree._index.stats().forgotten > 0


@pytest.fixture
def peer() -> Any:
    return pytest.importorskip("dynamo._core", reason="ai-dynamo-runtime is not installed")


@pytest.mark.parametrize("seed", range(20))
def test_an_engine_s_stream_gives_the_real_package_s_scores(seed: int, peer: Any) -> None:
    ours, theirs = RadixTree(), peer.RadixTree()
    for at, step in enumerate(Fleet(seed).steps(400)):
        assert take(ours, step) == take(theirs, step), (at, step)


def test_the_record_is_still_true(peer: Any) -> None:
    for stream in (*RECORD["streams"], RECORD["events"], *RECORD["differences"].values()):
        tree = peer.RadixTree()
        for recorded in stream:
            assert take(tree, recorded["step"]) == recorded["gives"]
    for case in RECORD["hashes"]:
        assert peer.compute_block_hash_for_seq(*case["of"]) == case["are"]


def queries(fleet: Fleet) -> list[Step]:
    return [{"find": list(prompt)} for prompt in fleet.prompts]


@pytest.mark.parametrize("seed", range(5))
def test_a_dump_gives_a_tree_with_the_same_scores(seed: int) -> None:
    fleet, tree, again = Fleet(seed), RadixTree(), RadixTree()
    for step in fleet.steps(300):
        take(tree, step)
    for number, text in enumerate(tree.dump_tree_as_events()):
        router_event = json.loads(text)
        assert router_event["event"]["event_id"] == number
        again.apply_event(router_event["worker_id"], json.dumps(router_event["event"]).encode())
    for query in queries(fleet):
        assert take(again, query) == take(tree, query)


def test_a_dump_has_the_real_form() -> None:
    tree = RadixTree()
    tree.apply_event(2**64 - 1, stored(None, (name_of((1,)), 2**64 - 1), dp_rank=3))
    assert tree.dump_tree_as_events() == [
        '{"worker_id":18446744073709551615,"storage_tier":"device","residency_domain":"worker",'
        '"event":{"event_id":0,"data":{"stored":{"parent_hash":null,"start_position":null,'
        f'"blocks":[{{"block_hash":{name_of((1,))},"tokens_hash":18446744073709551615,'
        '"mm_extra_info":null}]}},"dp_rank":3}}'
    ]


def test_the_real_package_takes_our_dump(peer: Any) -> None:
    fleet, ours, theirs = Fleet(77), RadixTree(), peer.RadixTree()
    for step in fleet.steps(300):
        take(ours, step)
    for text in ours.dump_tree_as_events():
        router_event = json.loads(text)
        theirs.apply_event(router_event["worker_id"], json.dumps(router_event["event"]).encode())
    for query in queries(fleet):
        assert take(theirs, query) == take(ours, query)

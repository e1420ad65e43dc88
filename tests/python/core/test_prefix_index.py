"""PrefixIndex: the index by itself, against a model that is obviously right."""

from __future__ import annotations

import pickle
from array import array
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import kvroute
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

if TYPE_CHECKING:
    from kvroute._core import IndexEvent

LOCAL = [11, 12, 13, 14]
ENGINE = [101, 102, 103, 104]


def test_a_stored_prefix_matches_as_far_as_it_is_held() -> None:
    index = kvroute.PrefixIndex()
    assert index.store("w0", ENGINE, LOCAL) == 4
    assert index.store(1, ENGINE[:2], LOCAL[:2], dp_rank=3) == 2
    overlaps = index.match([11, 12, 13, 99])
    assert overlaps == {("w0", 0): 3, (1, 3): 2}
    assert index.match([12]) == {}


def test_a_match_is_a_mapping_and_gives_arrays() -> None:
    index = kvroute.PrefixIndex()
    index.store("w0", ENGINE, LOCAL)
    overlaps = index.match(array("Q", LOCAL))
    assert isinstance(overlaps, Mapping)
    assert (len(overlaps), overlaps["w0", 0], ("w0", 1) in overlaps) == (1, 4, False)
    assert list(overlaps) == list(overlaps.keys()) == [("w0", 0)]
    assert list(overlaps.items()) == [(("w0", 0), 4)]
    assert list(overlaps.values()) == [4]
    assert overlaps.get(("x", 0)) is None
    with pytest.raises(KeyError):
        overlaps["x", 0]
    targets, depths = overlaps.arrays()
    assert targets == [("w0", 0)]
    assert depths == array("I", [4])
    assert repr(overlaps) == "Overlaps({('w0', 0): 4})"


def test_a_removed_block_cuts_off_what_follows_until_it_returns() -> None:
    index = kvroute.PrefixIndex()
    index.store("w", ENGINE, LOCAL)
    assert index.remove("w", [102]) == 1
    assert index.match(LOCAL) == {("w", 0): 1}
    assert index.store("w", [102], [12], parent=101) == 1
    assert index.match(LOCAL) == {("w", 0): 4}


def test_blocks_wait_for_their_parent() -> None:
    index = kvroute.PrefixIndex()
    assert index.store("w", ENGINE[2:], LOCAL[2:], parent=102) == 0
    assert index.match(LOCAL) == {}
    assert index.stats().waiting == 2
    assert index.store("v", ENGINE[:2], LOCAL[:2]) == 2  # another's names are none of its business
    assert index.store("w", ENGINE[:2], LOCAL[:2]) == 4
    assert index.match(LOCAL) == {("w", 0): 4, ("v", 0): 2}
    stats = index.stats()
    assert stats.waiting == 0
    assert (stats.counters["unknown_parents"], stats.counters["adopted"]) == (2, 2)


def test_nothing_waits_where_nothing_may() -> None:
    index = kvroute.PrefixIndex(max_waiting=0)
    assert index.store("w", ENGINE[2:], LOCAL[2:], parent=102) == 0
    assert index.store("w", ENGINE[:2], LOCAL[:2]) == 2
    assert index.match(LOCAL) == {("w", 0): 2}
    assert index.stats().counters["waited_in_vain"] == 2
    for wrong in (-1, 1.5, None, True):
        with pytest.raises(kvroute.InvalidArgument, match="^max_waiting: expected an integer"):
            kvroute.PrefixIndex(max_waiting=wrong)  # type: ignore[arg-type]


def test_tiers_add_to_the_device() -> None:
    index = kvroute.PrefixIndex()
    index.store("w", ENGINE, LOCAL)
    assert index.store_known("w", ENGINE[2:], "host") == 2
    assert index.remove("w", ENGINE[1:]) == 3
    assert index.store("w", [104], [14], parent=103, tier="disk") == 1
    index.store("v", ENGINE[:2], LOCAL[:2], tier="external")
    assert index.match(LOCAL) == {("w", 0): 1}
    index.store("w", [102], [12], parent=101)
    targets, depths = index.overlaps(LOCAL)
    assert targets == [("w", 0), ("v", 0)]
    assert [list(tier) for tier in depths] == [[2, 0], [4, 0], [4, 0], [4, 2]]
    assert index.remove("w", [104], tier="host") == 1
    assert [list(tier) for tier in index.overlaps(LOCAL)[1]] == [[2, 0], [3, 0], [4, 0], [4, 2]]
    assert index.store_known("w", [999], "host") == 0
    stats = index.stats()
    assert (stats.held, stats.held_lower) == (2, 4)


def test_a_tier_is_one_of_four() -> None:
    index = kvroute.PrefixIndex()
    expected = "^tier: expected 'device', 'host', 'disk' or 'external', got"
    for call in (
        lambda tier: index.store("w", [1], [11], tier=tier),
        lambda tier: index.store_known("w", [1], tier),
        lambda tier: index.remove("w", [1], tier=tier),
    ):
        for wrong in ("gpu", "", None, 0):
            with pytest.raises(kvroute.InvalidArgument, match=expected):
                call(wrong)


def test_copies_are_counted_unless_told_otherwise() -> None:
    counting, once = kvroute.PrefixIndex(), kvroute.PrefixIndex(repeated_stores="set")
    for index in (counting, once):
        assert index.store("w", [1], [11]) == 1
        assert index.store("w", [1], [11]) == 0
        index.remove("w", [1])
    assert counting.match([11]) == {("w", 0): 1}
    assert once.match([11]) == {}
    with pytest.raises(kvroute.InvalidArgument, match="^repeated_stores: expected 'count' or"):
        kvroute.PrefixIndex(repeated_stores="many")  # type: ignore[arg-type]


def test_clear_takes_one_rank_or_all() -> None:
    index = kvroute.PrefixIndex()
    for rank in (0, 1):
        index.store("w", ENGINE, LOCAL, dp_rank=rank)
    index.clear("w", dp_rank=1)
    assert index.match(LOCAL) == {("w", 0): 4}
    index.clear("w")
    assert index.match(LOCAL) == {}
    index.clear("never seen")


def test_remove_worker_forgets_it_and_its_targets() -> None:
    index = kvroute.PrefixIndex()
    index.store("w", ENGINE, LOCAL)
    index.store("v", ENGINE, LOCAL)
    index.remove_worker("w")
    assert index.targets() == [("v", 0)]
    assert index.match(LOCAL) == {("v", 0): 4}
    with pytest.raises(kvroute.UnknownWorker, match='got "w"'):
        index.remove_worker("w")
    assert index.remove("w", ENGINE) == 0


def test_hashes_come_as_lists_or_arrays() -> None:
    index = kvroute.PrefixIndex()
    index.store("w", np.array(ENGINE, dtype="u8"), array("Q", LOCAL))
    assert index.match(np.array(LOCAL, dtype="i8")) == {("w", 0): 4}
    with pytest.raises(kvroute.InvalidArgument, match="^local_hashes: expected as many as engine"):
        index.store("w", ENGINE, LOCAL[:2])
    with pytest.raises(kvroute.InvalidArgument, match=r"^parent: .* got the int -1"):
        index.store("w", ENGINE, LOCAL, parent=-1)


class Meddler:
    """A number that fills an array with zeros when it is asked for its value."""

    def __init__(self, value: int, array: np.ndarray[Any, Any]) -> None:
        self.value = value
        self.array = array

    def __index__(self) -> int:
        self.array[:] = 0
        return self.value


def test_arrays_may_be_written_to_while_the_index_changes() -> None:
    index = kvroute.PrefixIndex()
    index.store("w", [100], [10])
    for hashes in ("engine", "local"):
        engine, local = np.array(ENGINE, dtype="u8"), np.array(LOCAL, dtype="u8")
        written = {"engine": engine, "local": local}[hashes]
        engine_view, local_view = engine[:], local[:]
        engine_view.flags.writeable = local_view.flags.writeable = False
        index.store("w", engine_view, local_view, parent=Meddler(100, written))
        assert not written.any()
        assert index.match([10, *LOCAL]) == {("w", 0): 5}
        assert index.remove("w", ENGINE) == 4


def test_arrays_may_be_written_to_while_a_batch_is_read() -> None:
    index = kvroute.PrefixIndex()
    engine, local = np.array(ENGINE, dtype="u8"), np.array(LOCAL, dtype="u8")

    def events() -> Iterator[IndexEvent]:
        yield ("store", "w", 0, None, engine, local)
        engine[:] = local[:] = 0
        yield ("remove", "w", 0, array("Q", ENGINE[3:]))

    assert index.apply(events()).removed == 1
    assert index.match(LOCAL) == {("w", 0): 3}


def test_arrays_without_integers_are_refused_by_name() -> None:
    index = kvroute.PrefixIndex()
    for hashes in (np.zeros(2, dtype="datetime64[s]"), np.zeros(2, dtype="f8"), memoryview(b"ab")):
        with pytest.raises(
            kvroute.InvalidArgument, match="^local_hashes: expected a list or tuple"
        ):
            index.match(hashes)
    released = memoryview(array("Q", LOCAL))
    released.release()
    with pytest.raises(kvroute.InvalidArgument, match="^local_hashes: .*released memoryview"):
        index.match(released)


@pytest.mark.parametrize(
    "limit",
    ["\ud800", 10**5000, -1, True, 2**63, "x" * 1000],
    ids=lambda given: type(given).__name__,
)
def test_a_memory_limit_that_is_none_is_refused_by_name(limit: int | str) -> None:
    with pytest.raises(kvroute.InvalidArgument, match="^memory_limit: expected"):
        kvroute.PrefixIndex(limit)


def test_hashes_of_every_size_come_through_as_they_are() -> None:
    edges = [0, 1, 2**30 - 1, 2**30, 2**31, 2**60 - 1, 2**60, 2**63, 2**64 - 1]
    index = kvroute.PrefixIndex()
    index.store("w", edges, edges)
    assert index.match(np.array(edges, dtype="u8")) == {("w", 0): len(edges)}
    assert index.match(tuple(edges)) == {("w", 0): len(edges)}
    for wrong in (2**64, 2**90, -1, -(2**40), -(2**62)):
        with pytest.raises(kvroute.InvalidArgument, match=rf"^local_hashes\[1\]: .*, got {wrong}"):
            index.match([0, wrong])


def test_stats_count_what_is_there() -> None:
    index = kvroute.PrefixIndex(memory_limit="64MiB")
    empty = index.stats().bytes
    index.store("w", ENGINE, LOCAL)
    index.store("v", ENGINE, LOCAL)
    stats = index.stats()
    assert (stats.blocks, stats.held, stats.targets, stats.predicted) == (4, 8, 2, 0)
    assert stats.memory_limit == 64 * 2**20
    assert stats.bytes >= empty
    assert sum(stats.bytes_by_kind.values()) == stats.bytes
    assert stats.bytes_by_kind["waiting"] == 0
    index.store("w", [9], [9], parent=8)
    assert index.stats().bytes_by_kind["waiting"] > 0


def test_an_index_refuses_pickling() -> None:
    with pytest.raises(TypeError, match="PrefixIndex cannot be pickled"):
        pickle.dumps(kvroute.PrefixIndex())


class IndexAgainstModel(RuleBasedStateMachine):
    """Per target the set of held prefixes; a prefix is a tuple of labels, and its own name."""

    workers = st.sampled_from(["a", "b", 0])
    chains = st.lists(st.integers(0, 2), min_size=1, max_size=8)

    def __init__(self) -> None:
        super().__init__()
        self.index = kvroute.PrefixIndex(repeated_stores="set", max_waiting=0)
        self.held: dict[tuple[str | int, int], set[tuple[int, ...]]] = {}

    @staticmethod
    def name(prefix: tuple[int, ...]) -> int:
        number = 1
        for label in prefix:
            number = number * 3 + label
        return number

    @rule(worker=workers, chain=chains)
    def store(self, worker: str | int, chain: list[int]) -> None:
        prefixes = [tuple(chain[: i + 1]) for i in range(len(chain))]
        self.index.store(worker, [self.name(p) for p in prefixes], chain)
        self.held.setdefault((worker, 0), set()).update(prefixes)

    @rule(worker=workers, chain=chains, split=st.integers(1, 7))
    def store_below_a_parent(self, worker: str | int, chain: list[int], split: int) -> None:
        parent, rest = tuple(chain[:split]), chain[split:]
        if not rest:
            return
        held = self.held.setdefault((worker, 0), set())
        prefixes = [tuple(chain[: split + i + 1]) for i in range(len(rest))]
        self.index.store(worker, [self.name(p) for p in prefixes], rest, parent=self.name(parent))
        if parent in held:
            held.update(prefixes)

    @rule(worker=workers, chain=chains)
    def remove(self, worker: str | int, chain: list[int]) -> None:
        self.index.remove(worker, [self.name(tuple(chain))])
        self.held.get((worker, 0), set()).discard(tuple(chain))

    @rule(worker=workers)
    def clear(self, worker: str | int) -> None:
        self.index.clear(worker)
        self.held[worker, 0] = set()

    @rule(chain=chains)
    def match(self, chain: list[int]) -> None:
        expected = {}
        for target, held in self.held.items():
            depth = 0
            while depth < len(chain) and tuple(chain[: depth + 1]) in held:
                depth += 1
            if depth > 0:
                expected[target] = depth
        assert self.index.match(chain) == expected

    @invariant()
    def counts_agree(self) -> None:
        assert self.index.stats().held == sum(len(held) for held in self.held.values())


TestIndexAgainstModel = IndexAgainstModel.TestCase
TestIndexAgainstModel.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)

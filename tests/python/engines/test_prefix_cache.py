"""The prefix cache against a model that keeps everything in lists and looks through them."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from kvroute.engines.errors import InvalidConfigError
from kvroute.engines.prefix_cache import (
    BlocksRemoved,
    BlocksStored,
    CacheCleared,
    PrefixCache,
)

Name = tuple[int, ...]


def names_of(path: list[int]) -> list[Name]:
    """A block's name is the path to it: distinct in a sequence, shared by equal prefixes."""
    return [tuple(path[: depth + 1]) for depth in range(len(path))]


class ModelCache:
    """Blocks in one list, least recently released first; each with the users that hold it."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.unnamed = 0
        self.blocks: list[tuple[Name, list[int]]] = []

    def users(self, name: Name) -> list[int] | None:
        return next((users for held, users in self.blocks if held == name), None)

    def match(self, names: list[Name]) -> int:
        depth = 0
        while depth < len(names) and self.users(names[depth]) is not None:
            depth += 1
        return depth

    def available(self) -> int:
        used = sum(1 for _, users in self.blocks if users)
        return self.capacity - self.unnamed - used

    def take(self, count: int) -> None:
        self.unnamed += count
        while self.unnamed + len(self.blocks) > self.capacity:
            oldest = next(block for block in self.blocks if not block[1])
            self.blocks.remove(oldest)

    def hold(self, name: Name, user: int) -> None:
        users = self.users(name)
        if users is None:
            self.blocks.append((name, [user]))
        else:
            users.append(user)

    def release(self, names: list[Name], user: int) -> None:
        for name in reversed(names):
            users = self.users(name)
            assert users is not None
            users.remove(user)
            if not users:
                self.blocks.remove((name, users))
                self.blocks.append((name, users))


class CacheMachine(RuleBasedStateMachine):
    """Sequences come, grow, and leave; both caches must agree after every step."""

    @initialize(capacity=st.integers(1, 12))
    def start(self, capacity: int) -> None:
        self.cache = PrefixCache(capacity)
        self.model = ModelCache(capacity)
        self.running: dict[int, tuple[list[Name], int, int]] = {}
        self.next_user = 0
        self.replayed: set[Name] = set()

    @rule(path=st.lists(st.integers(0, 1), min_size=1, max_size=7), extra=st.integers(0, 3))
    def admit(self, path: list[int], extra: int) -> None:
        names = names_of(path)
        hits = self.cache.match(names, len(path) - 1)
        assert hits == min(self.model.match(names), len(path) - 1)
        needed = len(path) - hits + extra
        if needed > self.cache.num_available - self.cache.num_idle(names, hits):
            return
        user = self.next_user
        self.next_user += 1
        self.cache.reference(names, hits)
        for name in names[:hits]:
            self.model.hold(name, user)
        assert self.cache.take_blocks(needed)
        self.model.take(needed)
        self.running[user] = (names, hits, needed)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def name_some(self, data: st.DataObject) -> None:
        user = data.draw(st.sampled_from(sorted(self.running)))
        names, named, unnamed = self.running[user]
        stop = data.draw(st.integers(named, min(len(names), named + unnamed)))
        self.cache.name_blocks(names, named, stop, owner=user)
        for name in names[named:stop]:
            self.model.hold(name, user)
        self.model.unnamed -= stop - named
        self.running[user] = (names, stop, unnamed - (stop - named))

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        user = data.draw(st.sampled_from(sorted(self.running)))
        names, named, unnamed = self.running.pop(user)
        self.cache.release(names, named, unnamed)
        self.model.unnamed -= unnamed
        self.model.release(names[:named], user)

    @rule(count=st.integers(1, 14))
    def ask_for_too_much(self, count: int) -> None:
        if count > self.model.available():
            before = self.cache.names()
            assert not self.cache.take_blocks(count)
            assert self.cache.names() == before

    @rule()
    def clear(self) -> None:
        cleared = self.cache.clear()
        assert cleared == (not self.running)
        if cleared:
            self.model.blocks = []

    @invariant()
    def agrees_with_the_model(self) -> None:
        assert self.cache.names() == {name for name, _ in self.model.blocks}
        assert self.cache.num_available == self.model.available()
        assert self.cache.num_named == len(self.model.blocks) <= self.cache.num_blocks
        assert 0.0 <= self.cache.usage <= 1.0

    @invariant()
    def no_block_without_its_parent(self) -> None:
        held = self.cache.names()
        assert all(len(name) == 1 or name[:-1] in held for name in held)

    @invariant()
    def events_tell_the_content(self) -> None:
        for event in self.cache.take_events():
            if isinstance(event, BlocksStored):
                assert not self.replayed & set(event.names)
                first = event.names[0]
                assert event.parent == (first[:-1] or None)
                assert event.first == len(first) - 1
                self.replayed |= set(event.names)
            elif isinstance(event, BlocksRemoved):
                assert self.replayed >= set(event.names)
                self.replayed -= set(event.names)
            else:
                self.replayed = set()
        assert self.replayed == self.cache.names()


TestPrefixCache = CacheMachine.TestCase
TestPrefixCache.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_evicts_the_least_recently_released_and_deepest_first() -> None:
    cache = PrefixCache(4)
    for names in (["a", "ab"], ["x", "xy"]):
        assert cache.take_blocks(2)
        cache.name_blocks(names, 0, 2)
        cache.release(names, 2)
    cache.take_events()
    cache.reference(["a"], 1)
    cache.release(["a"], 1)
    assert cache.take_blocks(3)
    assert cache.take_events() == [BlocksRemoved(["ab", "xy", "x"])]
    assert cache.names() == {"a"}


def test_a_referenced_block_is_never_evicted() -> None:
    cache = PrefixCache(2)
    cache.take_blocks(1)
    cache.name_blocks(["a"], 0, 1)
    assert not cache.take_blocks(2)
    assert "a" in cache


def test_content_that_two_compute_at_once_is_held_once() -> None:
    cache = PrefixCache(4)
    for _ in range(2):
        cache.take_blocks(2)
    cache.name_blocks(["a", "ab"], 0, 2, owner="first")
    cache.name_blocks(["a", "ac"], 0, 2, owner="second")
    assert cache.num_available == 1
    assert cache.take_events() == [
        BlocksStored(["a", "ab"], None, 0, "first"),
        BlocksStored(["ac"], "a", 1, "second"),
    ]


def test_clear_says_so_once() -> None:
    cache = PrefixCache(2)
    assert cache.clear()
    assert cache.take_events() == [CacheCleared()]
    assert cache.take_events() == []


def test_without_recording_there_are_no_events() -> None:
    cache = PrefixCache(1, record_events=False)
    cache.take_blocks(1)
    cache.name_blocks(["a"], 0, 1)
    cache.release(["a"], 1)
    cache.take_blocks(1)
    assert cache.take_events() == []


def test_capacity_must_be_positive() -> None:
    with pytest.raises(InvalidConfigError, match="num_blocks"):
        PrefixCache(0)

"""The prefix cache of a simulated engine: reference counts and LRU eviction over named blocks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from kvroute.engines.errors import InvalidConfigError

BlockName: TypeAlias = Hashable
"""What names a block's content together with all before it: an engine hash, or a trace's id."""


@dataclass(frozen=True, slots=True)
class BlocksStored:
    """Blocks ``first``, ``first + 1``, ... of a sequence came into the cache.

    ``parent`` names the block before the first one, None at the sequence's start; ``owner`` is
    what the caller passed to `PrefixCache.name_blocks`.
    """

    names: Sequence[BlockName]
    parent: BlockName | None
    first: int
    owner: object


@dataclass(frozen=True, slots=True)
class BlocksRemoved:
    """Blocks were evicted, in this order."""

    names: Sequence[BlockName]


@dataclass(frozen=True, slots=True)
class CacheCleared:
    """Every block was dropped."""


CacheEvent: TypeAlias = "BlocksStored | BlocksRemoved | CacheCleared"


class PrefixCache:
    """``num_blocks`` blocks, each free, unnamed (a running sequence's own) or named (content).

    A named block is referenced by the running sequences that use it. Without a reference it keeps
    its content, is *idle*, and is evicted when a block is needed, least recently used first. A
    sequence's references are given back deepest block first, so that a prefix outlives what
    follows it: a block is never evicted before its children. Content is held once: a sequence
    that computes a block which is already there shares it.

    Pure and deterministic: no clock, no I/O, no dependence on hash order. Not thread-safe. Every
    operation takes constant time per block that it names.

    Args:
        num_blocks: the capacity, at least 1.
        record_events: keep `CacheEvent` values for `take_events`; without, none are made.
    """

    def __init__(self, num_blocks: int, *, record_events: bool = True) -> None:
        if num_blocks < 1:
            raise InvalidConfigError(f"num_blocks: expected at least 1, got {num_blocks}")
        self.num_blocks = num_blocks
        self._record_events = record_events
        self._references: dict[BlockName, int] = {}
        self._idle: OrderedDict[BlockName, None] = OrderedDict()
        self._unnamed = 0
        self._events: list[CacheEvent] = []

    @property
    def num_available(self) -> int:
        """Blocks that `take_blocks` could give now: empty ones and idle ones."""
        return self.num_blocks - self._unnamed - len(self._references) + len(self._idle)

    @property
    def num_named(self) -> int:
        """Blocks that hold content, referenced or idle."""
        return len(self._references)

    @property
    def usage(self) -> float:
        """The share of blocks in use by running sequences, 0 to 1; idle content does not count."""
        return 1.0 - self.num_available / self.num_blocks

    def __contains__(self, name: BlockName) -> bool:
        return name in self._references

    def names(self) -> set[BlockName]:
        """The names of all content, as a new set."""
        return set(self._references)

    def match(self, names: Sequence[BlockName], limit: int | None = None) -> int:
        """How many leading ``names`` (of the first ``limit``) are held."""
        references = self._references
        depth = 0
        for name in names if limit is None else names[:limit]:
            if name not in references:
                break
            depth += 1
        return depth

    def num_idle(self, names: Sequence[BlockName], count: int) -> int:
        """How many of the first ``count`` names are idle: what referencing them would take."""
        idle = self._idle
        return sum(1 for name in names[:count] if name in idle)

    def reference(self, names: Sequence[BlockName], count: int) -> None:
        """Reference the first ``count`` names, each of which must be held."""
        references = self._references
        idle = self._idle
        for name in names[:count]:
            users = references[name]
            references[name] = users + 1
            if not users:
                del idle[name]

    def take_blocks(self, count: int) -> bool:
        """Take ``count`` unnamed blocks, evicting idle content as needed.

        Returns False, and changes nothing, when fewer are available.
        """
        missing = count - (self.num_blocks - self._unnamed - len(self._references))
        if missing > 0:
            if missing > len(self._idle):
                return False
            self._evict(missing)
        self._unnamed += count
        return True

    def name_blocks(
        self, names: Sequence[BlockName], first: int, stop: int, owner: object = None
    ) -> None:
        """Turn ``stop - first`` unnamed blocks into ``names[first:stop]``, each referenced once.

        ``names[:first]`` are the caller's earlier blocks. Where the content is held already, the
        caller shares it and its own block becomes empty.
        """
        new = names[first:stop]
        references = self._references
        self._unnamed -= stop - first
        if references.keys().isdisjoint(new):
            references.update(dict.fromkeys(new, 1))
            self._note_stored(names, first, stop, owner)
            return
        run = first
        for position, name in enumerate(new, first):
            users = references.get(name)
            if users is None:
                references[name] = 1
                continue
            references[name] = users + 1
            if not users:
                del self._idle[name]
            self._note_stored(names, run, position, owner)
            run = position + 1
        self._note_stored(names, run, stop, owner)

    def release(self, names: Sequence[BlockName], count: int, unnamed: int = 0) -> None:
        """Give back one reference to each of the first ``count`` names and ``unnamed`` blocks."""
        references = self._references
        idle = self._idle
        self._unnamed -= unnamed
        for name in reversed(names[:count]):
            users = references[name] - 1
            references[name] = users
            if not users:
                idle[name] = None

    def clear(self) -> bool:
        """Drop all content; False, and nothing changes, while a sequence holds any block."""
        if self._unnamed or len(self._idle) != len(self._references):
            return False
        self._references.clear()
        self._idle.clear()
        if self._record_events:
            self._events.append(CacheCleared())
        return True

    def take_events(self) -> list[CacheEvent]:
        """What changed since the last call, in order."""
        events = self._events
        self._events = []
        return events

    def _evict(self, count: int) -> None:
        references = self._references
        pop_oldest = self._idle.popitem
        evicted = [pop_oldest(last=False)[0] for _ in range(count)]
        for name in evicted:
            del references[name]
        if self._record_events:
            self._events.append(BlocksRemoved(evicted))

    def _note_stored(
        self, names: Sequence[BlockName], first: int, stop: int, owner: object
    ) -> None:
        if first < stop and self._record_events:
            parent = names[first - 1] if first else None
            self._events.append(BlocksStored(names[first:stop], parent, first, owner))

"""Dynamo's RadixTree over kvroute's PrefixIndex."""

from __future__ import annotations

import operator
from collections.abc import ItemsView, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, cast

from kvroute._core import InvalidArgument, PrefixIndex, UnknownWorker
from kvroute.compat.dynamo.block_uses import BlockUses
from kvroute.compat.dynamo.cache_event import (
    CacheEvent,
    malformed,
    parse,
    stored_as_router_event,
)

if TYPE_CHECKING:
    from kvroute._core import Hashes, IndexEvent

_HALF = 2**63
_WHOLE = 2**64


@dataclass(frozen=True, slots=True, eq=False)
class OverlapScores:
    """What `find_matches` found."""

    scores: dict[tuple[int, int], int]
    """{(worker_id, dp_rank): leading blocks}, of the targets that hold at least the first."""
    frequencies: list[int] = field(default_factory=list)
    """Earlier look-ups of the leading blocks, those without any left out; empty unless the tree
    has an `expiration_duration_secs`."""


class RadixTree:
    """Which worker holds which blocks. Thread-safe; no thread of its own.

    A worker is a number from 0 to 2**64 - 1 (otherwise OverflowError).
    """

    def __init__(
        self,
        expiration_duration_secs: float | None = None,
        *,
        memory_limit: int | str | None = None,
    ) -> None:
        self._index = PrefixIndex(memory_limit, repeated_stores="set")
        self._has_negative_names = False
        self._uses = None
        if expiration_duration_secs is not None:
            seconds = expiration_duration_secs
            if isinstance(seconds, bool) or not isinstance(seconds, Real) or not seconds >= 0:
                raise InvalidArgument(
                    "expiration_duration_secs: expected None or a number of seconds, at least 0, "
                    f"got {seconds!r}"
                )
            self._uses = BlockUses(expiration_duration_secs)

    def find_matches(
        self,
        sequence: Hashes,
        early_exit: bool = False,  # noqa: ARG002 (a permission that is of no use here)
    ) -> OverlapScores:
        """Leading blocks of the request that each target holds without a gap."""
        if isinstance(sequence, (bytes, bytearray, range)):
            sequence = list(sequence)
        found = self._index.match(sequence).items()
        if self._has_negative_names:
            scores = {(_worker_id(name), rank): depth for (name, rank), depth in found}
        else:
            scores = dict(cast("ItemsView[tuple[int, int], int]", found))
        if self._uses is None or not scores:
            return OverlapScores(scores)
        reached = _leading(sequence, max(scores.values()))
        return OverlapScores(scores, self._uses.count(reached))

    def apply_event(
        self, worker_id: int, kv_cache_event_bytes: bytes | bytearray | memoryview
    ) -> None:
        """Applies one JSON event of a worker (see `cache_event.parse`).

        ValueError where it is malformed; then nothing has changed. RuntimeError where a stored
        block is its own parent (nothing has changed), or where a block to remove is not held (the
        others are removed)."""
        name, event = _worker_name(worker_id), parse(kv_cache_event_bytes)
        if event.parent is not None and event.parent in event.block_hashes:
            raise RuntimeError("Failed to apply event: Invalid block sequence")
        if name < 0:
            self._has_negative_names = True
        try:
            result = self._index.apply([_index_event(name, event)])
        except InvalidArgument as problem:
            raise malformed(str(problem)) from None
        if event.kind == "removed" and result.unknown > 0:
            repeated = len(event.block_hashes) - len(set(event.block_hashes))
            if result.unknown > repeated:
                raise RuntimeError("Failed to apply event: Failed to find block")

    def remove_worker(self, worker_id: int) -> None:
        """Forgets the worker with all its ranks; nothing happens to one that has stored nothing."""
        try:
            self._index.remove_worker(_worker_name(worker_id))
        except UnknownWorker:
            return

    def clear_all_blocks(self, worker_id: int) -> None:
        """Forgets the blocks of all ranks of the worker."""
        self._index.clear(_worker_name(worker_id))

    def dump_tree_as_events(self) -> list[str]:
        """Stored events that give a tree with the same scores, each as the JSON of a router event:
        its `event` is what `apply_event` takes, its `worker_id` whose it is."""
        dump: list[str] = []
        for _, name, rank, parent, engine_hashes, local_hashes, _ in self._index.dump():
            event = CacheEvent("stored", rank, parent, engine_hashes, local_hashes)
            dump.append(stored_as_router_event(_worker_id(name), len(dump), event))
        return dump


def _index_event(worker: int, event: CacheEvent) -> IndexEvent:
    if event.kind == "stored":
        chain = (event.parent, event.block_hashes, event.tokens_hashes)
        return ("store", worker, event.dp_rank, *chain)
    if event.kind == "removed":
        return ("remove", worker, event.dp_rank, event.block_hashes)
    return ("clear", worker, event.dp_rank)


def _worker_name(worker_id: int) -> int:
    """The worker's name in the index, whose numbers are signed."""
    number = operator.index(worker_id)
    if not 0 <= number < _WHOLE:
        raise OverflowError(f"worker_id: expected 0 <= n < 2**64, got {number}")
    return number if number < _HALF else number - _WHOLE


def _worker_id(name: int | str) -> int:
    number = int(name)
    return number if number >= 0 else number + _WHOLE


def _leading(hashes: Hashes, count: int) -> Hashes:
    return hashes[:count] if isinstance(hashes, Sequence) else memoryview(hashes)[:count]

"""A mapping that forgets: what is oldest, and what is too old."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

V = TypeVar("V")


class Expiring(Generic[V]):
    """Values by name, at most `limit` of them, each for at most `seconds` after its last put.

    Every operation is O(1), but for `sweep`, which is O(what it drops), and iteration.
    """

    def __init__(self, limit: int, seconds: float) -> None:
        self._limit = limit
        self._seconds = seconds
        self._values: OrderedDict[str, tuple[float, V]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def items(self) -> Iterator[tuple[str, V]]:
        """The oldest first."""
        return ((key, value) for key, (_, value) in self._values.items())

    def put(self, key: str, value: V, now: float) -> None:
        """Makes it the newest. Where there is no room, the oldest is dropped."""
        self._values.pop(key, None)
        if len(self._values) >= self._limit:
            self._values.popitem(last=False)
        self._values[key] = (now, value)

    def get(self, key: str) -> V | None:
        found = self._values.get(key)
        return found[1] if found else None

    def pop(self, key: str) -> V | None:
        found = self._values.pop(key, None)
        return found[1] if found else None

    def sweep(self, now: float) -> int:
        """Drops what is too old, and says how many."""
        dropped = 0
        while self._values:
            put_at, _ = next(iter(self._values.values()))
            if now - put_at < self._seconds:
                break
            self._values.popitem(last=False)
            dropped += 1
        return dropped

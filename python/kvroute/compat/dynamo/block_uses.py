"""How often blocks were asked for within a time."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from kvroute._core import sequence_hashes

if TYPE_CHECKING:
    from kvroute._core import Hashes


class BlockUses:
    """Counts, for each block of a prefix, the look-ups of the last `seconds`. Thread-safe; what is
    older is dropped with each call."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._uses: OrderedDict[int, deque[float]] = OrderedDict()  # the last used ones at the end

    def count(self, local_hashes: Hashes) -> list[int]:
        """Earlier look-ups of each block that had any, from the first block on; counts this one."""
        counts = []
        with self._lock:
            now = self._clock()
            for block in sequence_hashes(local_hashes):
                uses = self._uses.setdefault(block, deque())
                while uses and now - uses[0] > self._seconds:
                    uses.popleft()
                if uses:
                    counts.append(len(uses))
                uses.append(now)
                self._uses.move_to_end(block)
            while self._uses:
                block, uses = next(iter(self._uses.items()))
                if now - uses[-1] <= self._seconds:
                    break
                del self._uses[block]
        return counts

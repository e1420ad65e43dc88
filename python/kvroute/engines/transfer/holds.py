"""The blocks that a prefill engine keeps for another engine, until read or expired."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from kvroute.engines.prefix_cache import BlockName, PrefixCache
from kvroute.engines.transfer.ledger import Ledger

_FIRST_ID = 1
_LAST_ID = (1 << 31) - 1


class Hold:
    """One prompt's full blocks. They stay referenced: in use, not evicted.

    Attributes:
        handoff: what the other engine asks for them by.
        keys: names of the blocks' content that all engines share.
        block_ids: numbers that the engine made up for them, never used before.
        done: it has ended: read, released or leaked.
    """

    __slots__ = ("block_ids", "done", "expiry", "handoff", "keys", "names")

    def __init__(
        self,
        handoff: str,
        names: Sequence[BlockName],
        keys: Sequence[int],
        block_ids: list[int],
    ) -> None:
        self.handoff = handoff
        self.names = names
        self.keys = keys
        self.block_ids = block_ids
        self.done = False
        self.expiry: asyncio.TimerHandle | None = None


class Holds:
    """All holds of an engine. On one event loop; each hold costs its blocks and one timer.

    Args:
        cache: whose blocks they are.
        ledger: counts how they end.
        seconds: how long one may last.
        on_room: called when blocks came free.
    """

    def __init__(
        self, cache: PrefixCache, ledger: Ledger, seconds: float, on_room: Callable[[], None]
    ) -> None:
        self._cache = cache
        self._ledger = ledger
        self._seconds = seconds
        self._on_room = on_room
        self._open: dict[str, Hold] = {}
        self._next_id = _FIRST_ID

    @property
    def num_handoffs(self) -> int:
        """Holds that last."""
        return len(self._open)

    @property
    def num_blocks(self) -> int:
        """Their blocks; one that two of them share counts twice."""
        return sum(len(hold.names) for hold in self._open.values())

    def get(self, handoff: str) -> Hold | None:
        """The hold that lasts under this name."""
        return self._open.get(handoff)

    def take(self, handoff: str, names: Sequence[BlockName], keys: Sequence[int]) -> Hold:
        """Keep `names`, each of which must be in the cache; `handoff` must be new."""
        assert handoff not in self._open
        self._cache.reference(names, len(names))
        if self._next_id + len(names) > _LAST_ID:
            self._next_id = _FIRST_ID
        block_ids = list(range(self._next_id, self._next_id + len(names)))
        self._next_id += len(names)
        hold = Hold(handoff, names, keys, block_ids)
        self._open[handoff] = hold
        self._ledger.held += 1
        hold.expiry = asyncio.get_running_loop().call_later(self._seconds, self.leak, hold)
        return hold

    def finish_read(self, hold: Hold) -> None:
        """The other engine has them. A hold ends once: nothing happens when it has."""
        if self._end(hold):
            self._ledger.read += 1

    def release(self, hold: Hold) -> None:
        """The other engine does not want them."""
        if self._end(hold):
            self._ledger.released += 1

    def leak(self, hold: Hold) -> None:
        """Nobody will come for them."""
        if self._end(hold):
            self._ledger.leaked += 1
            self._ledger.leaked_blocks += len(hold.names)

    def close(self) -> None:
        """The engine stops: what lasts has leaked."""
        for hold in list(self._open.values()):
            self.leak(hold)

    def _end(self, hold: Hold) -> bool:
        if hold.done:
            return False
        hold.done = True
        if hold.expiry is not None:
            hold.expiry.cancel()
        del self._open[hold.handoff]
        self._cache.release(hold.names, len(hold.names))
        self._on_room()
        return True

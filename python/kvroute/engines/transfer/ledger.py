"""What became of the blocks that engines hand over: the counts behind ``GET /debug/transfers``."""

from __future__ import annotations

from collections import Counter
from typing import Any


class Ledger:
    """Counts of one engine. Blocks are whole ones; a handoff is one prompt's.

    Attributes:
        held: handoffs computed here and kept for another engine.
        read: of them, those that were read (or pushed) to the end.
        released: of them, those that their reader gave back unread.
        leaked, leaked_blocks: of them, those that nobody read before they expired or the engine
            stopped, and their blocks.
        received, received_blocks: prompts whose blocks came from another engine, and the blocks.
        unclaimed: arrivals that no request came for before they expired.
        missed: reason -> prompts of a decode role that it computed itself because nothing had come.
        refused: reason (a field's name) -> requests answered 400.
        failed: reason -> handoffs that broke.
        notices: notices sent to the proxy.
    """

    def __init__(self) -> None:
        self.held = 0
        self.read = 0
        self.released = 0
        self.leaked = 0
        self.leaked_blocks = 0
        self.received = 0
        self.received_blocks = 0
        self.unclaimed = 0
        self.notices = 0
        self.missed: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()

    def counts(self) -> dict[str, Any]:
        """All of them, by name."""
        return {
            name: dict(value) if isinstance(value, Counter) else value
            for name, value in vars(self).items()
        }

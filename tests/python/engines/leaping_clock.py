"""An event loop that need not live through what it waits for in vain."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_QUIET = 0.15
_LONGEST_LOOK = 0.03
_LEAP = 1.0
_BETWEEN_LEAPS = 0.01


class LeapingClock:
    """The running loop's clock, which leaps ahead while no socket has anything to say.

    So a limit may be as long as a slow machine needs and is still over soon for what hangs. Quiet
    is a loop that has looked several times, so that a machine which stood still meanwhile is not;
    and a leap is short beside the limits, so that they end in their order.
    """

    def __init__(self) -> None:
        loop: Any = asyncio.get_running_loop()
        self._select = loop._selector.select
        self._leapt = 0.0
        self._quiet = 0.0
        self._may_leap = False
        loop._selector.select = self._look
        loop.time = self.time

    def time(self) -> float:
        return time.monotonic() + self._leapt

    @contextmanager
    def leaping(self) -> Iterator[None]:
        """It leaps while this lasts; else it is an ordinary one."""
        self._quiet = 0.0
        self._may_leap = True
        try:
            yield
        finally:
            self._may_leap = False

    def _look(self, timeout: float | None = None) -> Any:
        if not self._may_leap:
            return self._select(timeout)
        look = _LONGEST_LOOK if timeout is None else min(timeout, _LONGEST_LOOK)
        began = time.monotonic()
        if found := self._select(look):
            self._quiet = 0.0
            return found
        self._quiet += min(time.monotonic() - began, look)
        if self._quiet > _QUIET:
            self._quiet = _QUIET - _BETWEEN_LEAPS
            self._leapt += _LEAP
        return []

"""The bound on connections to all engines together."""

from __future__ import annotations

import asyncio
from collections import deque


class NoSlotError(Exception):
    """Every slot was taken for as long as the caller would wait."""


class ConnectionSlots:
    """A number of slots, handed out in the order of asking. For one event loop."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = count
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def acquire(self, timeout: float) -> None:
        """Takes a slot; NoSlotError if none became free within `timeout` seconds."""
        if self._free > 0:
            self._free -= 1
            return
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        timer = loop.call_later(timeout, _give_up, turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.release()  # the slot came together with the cancellation
            raise
        finally:
            timer.cancel()

    def release(self) -> None:
        """Gives a slot back, to whoever has waited longest."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


def _give_up(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_exception(NoSlotError())

"""Runs a coroutine such that SIGINT and SIGTERM end it in order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any


def run_until_interrupted(main: Coroutine[Any, Any, None]) -> signal.Signals | None:
    """Runs `main` in a new event loop; the signal that cancelled it, None where it returned.

    Each SIGINT or SIGTERM cancels once more, so a second one cuts a cleanup short.
    """
    return asyncio.run(_guard(main))


async def _guard(main: Coroutine[Any, Any, None]) -> signal.Signals | None:
    loop = asyncio.get_running_loop()
    work = asyncio.create_task(main)
    received: list[signal.Signals] = []

    def interrupt(number: signal.Signals) -> None:
        received.append(number)
        work.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt, number)
    try:
        await work
    except asyncio.CancelledError:
        if not received:
            raise
        return received[0]
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
    return None

"""A bound on a wait that never loses a cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def within(seconds: float, coroutine: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result; asyncio.TimeoutError after `seconds`, when it has been cancelled.

    Python's own ``wait_for`` before 3.12 gives the result instead of the cancellation when both
    come at once, so that a task which was told to end would go on.
    """
    task = asyncio.ensure_future(coroutine)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
            if task.cancelled():
                raise asyncio.TimeoutError
        return task.result()
    except asyncio.CancelledError:
        task.cancel()
        task.add_done_callback(_outcome_seen)
        raise


def _outcome_seen(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()

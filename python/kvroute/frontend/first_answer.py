"""Two legs under way at once: which of them decides the attempt, and whose failure it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from kvroute.frontend.legs import Begun, LegFailedError, WholeAnswer

_VERDICT = 0.2
"""Seconds to wait for the other leg's word on a failure: one leg's is often the other's doing."""


async def first_answer(
    prefill: asyncio.Future[WholeAnswer], decode: asyncio.Future[Begun]
) -> Begun | WholeAnswer:
    """The decode leg's answer, or the prefill leg's where that refuses the request (4xx).

    Raises UpstreamBusyError, and LegFailedError when a leg failed. Where both did, one of them is
    named and carries the other: the one that broke down, timed out or could not be reached rather
    than the one that answered 5xx; of two alike the prefill leg, for which the decode leg waits.
    """
    both: set[asyncio.Future[Any]] = {prefill, decode}
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    if not decode.done() and _is_done_well(prefill) and prefill.result().status < 400:
        await asyncio.wait({decode})
    if not _is_done_well(decode):
        await asyncio.wait(both, timeout=_VERDICT)
    if _is_done_well(decode):
        return decode.result()
    if _is_done_well(prefill) and prefill.result().status >= 400:
        return prefill.result()
    raise _blamed(_error(prefill), _error(decode))


async def end(task: asyncio.Future[Any], undo: Callable[[Any], None]) -> None:
    """Cancels the task if it still runs, and waits for its end; `undo` gets a result it had."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled() and task.exception() is None:
        undo(task.result())


def _error(task: asyncio.Future[Any]) -> BaseException | None:
    return task.exception() if task.done() else None


def _is_done_well(task: asyncio.Future[Any]) -> bool:
    return task.done() and task.exception() is None


def _blamed(prefill: BaseException | None, decode: BaseException | None) -> BaseException:
    """The error to raise of one that is there at least."""
    if isinstance(prefill, LegFailedError) and isinstance(decode, LegFailedError):
        is_decode = prefill.reason == "status_5xx" and decode.reason != "status_5xx"
        first, second = (decode, prefill) if is_decode else (prefill, decode)
        first.also = second
        return first
    errors = [error for error in (prefill, decode) if error is not None]
    # What is no leg's failure says nothing of the workers, and another attempt would be in vain.
    return next((one for one in errors if not isinstance(one, LegFailedError)), errors[0])

"""Two legs under way at once: which of them decides the attempt, and whose failure it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from kvroute.frontend.legs import Begun, LegFailedError, WholeAnswer

_VERDICT = 0.2
"""Seconds to wait for the other leg's word on a failure: one leg's is often the other's doing."""
_MAYBE_FILLED = 2.0
"""Seconds that a decode leg has whose prefill leg failed when the blocks may have gone already: a
stream that has them begins within that time, and one that waits for them in vain is not waited for
as long as its engine would."""


async def first_answer(
    prefill: asyncio.Future[WholeAnswer], decode: asyncio.Future[Begun]
) -> Begun | WholeAnswer:
    """The decode leg's answer, or the prefill leg's where that refuses the request.

    A decode leg whose prefill leg began to answer well has all the time that engines have; one
    whose prefill leg failed otherwise has little.

    Raises UpstreamBusyError, and LegFailedError when a leg failed. Where both did, one of them is
    named and carries the other: the one that broke down, timed out or could not be reached rather
    than the one that answered 5xx; of two alike the prefill leg, for which the decode leg waits.
    A prefill leg that timed out beside a silent decode leg carries that: either may have kept the
    other waiting.
    """
    both: set[asyncio.Future[Any]] = {prefill, decode}
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    if not decode.done():
        await asyncio.wait({decode}, timeout=_patience(prefill))
    elif not _is_done_well(decode):
        await asyncio.wait({prefill}, timeout=_VERDICT)
    if _is_done_well(decode):
        return decode.result()
    if _is_done_well(prefill) and prefill.result().status >= 400:
        return prefill.result()
    failure = _error(prefill)
    if isinstance(failure, LegFailedError) and failure.reason == "timeout" and not decode.done():
        failure.also = LegFailedError("decode", "timeout", "it gave no answer in that time either")
    raise _blamed(failure, _error(decode))


async def end(task: asyncio.Future[Any], undo: Callable[[Any], None]) -> None:
    """Cancels the task if it still runs, and waits for its end; `undo` gets a result it had."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled() and task.exception() is None:
        undo(task.result())


def _patience(prefill: asyncio.Future[WholeAnswer]) -> float | None:
    """Seconds for the decode leg beside a prefill leg that is over; None for the engine's own."""
    error = prefill.exception()
    if error is None:
        return None if prefill.result().status < 400 else _VERDICT
    if not isinstance(error, LegFailedError):
        return _VERDICT
    if error.had_begun:
        return None
    was_computed = error.reason not in ("unreachable", "busy") and error.status != 503
    return _MAYBE_FILLED if was_computed else _VERDICT


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

"""Two legs at once: how long the decode leg may still answer, and who is blamed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from kvroute.frontend import first_answer as module
from kvroute.frontend.first_answer import first_answer
from kvroute.frontend.legs import Begun, LegFailedError, WholeAnswer

pytestmark = pytest.mark.timeout(30)

BEGUN: Any = object()
LONG = 20.0


def failure(reason: str, *, status: int | None = None, had_begun: bool = False) -> LegFailedError:
    error = LegFailedError("prefill", reason, "it failed")
    error.status, error.had_begun = status, had_begun
    return error


async def outcome(error: LegFailedError, *, answers: bool) -> Begun | WholeAnswer:
    """Of a prefill leg that fails at once, beside a decode leg that answers later or never."""
    loop = asyncio.get_running_loop()
    prefill: asyncio.Future[WholeAnswer] = loop.create_future()
    decode: asyncio.Future[Begun] = loop.create_future()
    prefill.set_exception(error)
    if answers:
        loop.call_later(0.05, decode.set_result, BEGUN)
    return await asyncio.wait_for(first_answer(prefill, decode), LONG / 2)


@pytest.mark.parametrize(
    "error",
    [
        failure("status_5xx", status=500),
        failure("broken"),
        failure("timeout"),
        failure("protocol", had_begun=True),
        failure("broken", had_begun=True),
    ],
    ids=lambda error: f"{error.reason}-{error.had_begun}",
)
async def test_a_decode_leg_that_may_have_its_blocks_is_waited_for(
    error: LegFailedError, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_VERDICT", 0.0)
    monkeypatch.setattr(module, "_MAYBE_FILLED", 0.0 if error.had_begun else LONG)
    assert await outcome(error, answers=True) is BEGUN


@pytest.mark.parametrize(
    "error",
    [failure("unreachable"), failure("busy", status=429), failure("status_5xx", status=503)],
    ids=lambda error: error.reason,
)
async def test_one_whose_prefill_never_began_is_not(
    error: LegFailedError, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_VERDICT", 0.0)
    monkeypatch.setattr(module, "_MAYBE_FILLED", LONG)
    with pytest.raises(LegFailedError) as caught:
        await outcome(error, answers=False)
    assert caught.value is error
    assert error.also is None


async def test_of_two_silent_legs_neither_is_blamed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAYBE_FILLED", 0.0)
    error = failure("timeout")
    with pytest.raises(LegFailedError):
        await outcome(error, answers=False)
    assert error.also is not None
    assert (error.also.leg, error.also.reason) == ("decode", "timeout")

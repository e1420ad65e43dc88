from __future__ import annotations

import asyncio
import os
import signal

import pytest
from kvroute.demo.interruption import run_until_interrupted


def test_a_coroutine_that_returns_was_not_interrupted() -> None:
    async def main() -> None:
        await asyncio.sleep(0)

    assert run_until_interrupted(main()) is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels_and_cleanup_runs(number: signal.Signals) -> None:
    cleaned = []

    async def main() -> None:
        try:
            asyncio.get_running_loop().call_soon(os.kill, os.getpid(), number)
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0.01)
            cleaned.append(True)

    before = signal.getsignal(number)
    assert run_until_interrupted(main()) is number
    assert cleaned == [True]
    assert signal.getsignal(number) == before


def test_errors_pass_through() -> None:
    async def main() -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        run_until_interrupted(main())

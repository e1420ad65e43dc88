"""Waiting for a simulated engine's progress without polling it by the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import pytest
from kvroute.engines.core import EngineCore

Until: TypeAlias = Callable[[Callable[[], bool]], Awaitable[None]]

_TIMEOUT = 60.0


@pytest.fixture
async def until(monkeypatch: pytest.MonkeyPatch) -> Until:
    """A coroutine function that waits until a predicate on any engine's state is true."""
    progress = asyncio.Event()
    publish = EngineCore._publish_load

    def publish_and_tell(core: EngineCore) -> None:
        publish(core)
        progress.set()

    monkeypatch.setattr(EngineCore, "_publish_load", publish_and_tell)

    async def wait(predicate: Callable[[], bool]) -> None:
        deadline = asyncio.get_running_loop().time() + _TIMEOUT
        while not predicate():
            progress.clear()
            left = deadline - asyncio.get_running_loop().time()
            await asyncio.wait_for(progress.wait(), left)

    return wait

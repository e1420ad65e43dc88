"""Waiting for a simulated engine's progress; makes the harness beside this file importable."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
from kvroute.engines.core import EngineCore

sys.path.insert(0, str(Path(__file__).parent))

Until: TypeAlias = Callable[[Callable[[], bool]], Awaitable[None]]

_TIMEOUT = 60.0
_UNTOLD = 0.02
"""How long what changes besides the load (a fault, a wait) may stay unseen."""


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
            if asyncio.get_running_loop().time() > deadline:
                raise TimeoutError
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(progress.wait(), _UNTOLD)

    return wait


@pytest.fixture
def unused_port() -> Iterator[int]:
    """A port at which nobody listens, and nobody else can."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield int(holder.getsockname()[1])

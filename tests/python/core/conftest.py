from __future__ import annotations

import sys
from pathlib import Path

import kvroute
import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def clock() -> kvroute.VirtualClock:
    return kvroute.VirtualClock()


@pytest.fixture
def router(clock: kvroute.VirtualClock) -> kvroute.KvRouter:
    router = kvroute.KvRouter(block_size=16, seed=7, clock=clock)
    for worker in ("w0", "w1", "w2"):
        router.add_worker(worker)
    return router

"""Simulated LLM engines: a real scheduler and prefix cache behind real interfaces, and no model.

`SimulatedEngine` runs one on the current event loop, `EmbeddedEngine` likewise but without HTTP,
`SimulatedEngineProcess` as a process (``kvroute mock``). Their inside, `Scheduler` and
`PrefixCache`, are pure classes that a simulation drives on a clock of its own. Importing this
package imports none of the servers' libraries until one of the first three is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from kvroute.engines.cost_model import CostModel
from kvroute.engines.prefix_cache import (
    BlocksRemoved,
    BlocksStored,
    CacheCleared,
    CacheEvent,
    PrefixCache,
)
from kvroute.engines.scheduler import Scheduler, StepResult
from kvroute.engines.sequence import EngineSequence

if TYPE_CHECKING:
    from kvroute.engines.config import EngineConfig, KvRole
    from kvroute.engines.embedded import EmbeddedEngine
    from kvroute.engines.engine import SimulatedEngine, running
    from kvroute.engines.process import SimulatedEngineProcess

__all__ = [
    "BlocksRemoved",
    "BlocksStored",
    "CacheCleared",
    "CacheEvent",
    "CostModel",
    "EmbeddedEngine",
    "EngineConfig",
    "EngineSequence",
    "KvRole",
    "PrefixCache",
    "Scheduler",
    "SimulatedEngine",
    "SimulatedEngineProcess",
    "StepResult",
    "running",
]

_LAZY = {
    "EmbeddedEngine": "kvroute.engines.embedded",
    "EngineConfig": "kvroute.engines.config",
    "KvRole": "kvroute.engines.config",
    "SimulatedEngine": "kvroute.engines.engine",
    "running": "kvroute.engines.engine",
    "SimulatedEngineProcess": "kvroute.engines.process",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Reading of the engines' own load from their Prometheus endpoints, again and again."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable

from kvroute.deadline import within
from kvroute.frontend.backend import Backend
from kvroute.frontend.engine_metrics import EngineLoad, parse_engine_metrics
from kvroute.frontend.fleet import Fleet
from kvroute.frontend.model_group import ModelGroup
from kvroute.frontend.upstream import Upstream, UpstreamBusyError, UpstreamError, get

logger = logging.getLogger("kvroute.frontend")

# trtllm-serve has its iteration log, as JSON, where the others have their metrics.
_PATHS = ("/metrics", "/prometheus/metrics")
_MAX_BYTES = 8 << 20
# Seconds that an engine has for its answer: the interval, within these.
_LEAST_TIME = 1.0
_MOST_TIME = 5.0


class EngineStats:
    """One task for each engine, so that a silent one delays no other.

    Every `interval` seconds an engine is asked for its metrics through the shared client; it has
    as long as the interval, but at least one second and at most five. What it says goes to the
    router (`update_load`, each rank) and `reported` is called. An engine that fails keeps its last
    report, which the policies leave out once it is old. The engines of one model are asked at the
    same time, since policies compare their figures; the models' turns are spread over the interval.
    """

    def __init__(
        self,
        fleet: Fleet,
        upstream: Upstream,
        interval: float,
        reported: Callable[[ModelGroup], None] | None = None,
    ) -> None:
        self._upstream = upstream
        self._interval = interval
        self._timeout = min(max(interval, _LEAST_TIME), _MOST_TIME)
        self._reported = reported
        self._engines = [
            _Engine(group, backend)
            for group in fleet.groups.values()
            for backend in group.backends.values()
        ]

    def start(self) -> list[asyncio.Task[None]]:
        """The tasks; they run until they are cancelled. Needs a running event loop."""
        groups = list(dict.fromkeys(engine.group for engine in self._engines))
        first = asyncio.get_running_loop().time() + self._interval
        return [
            asyncio.create_task(
                self._follow(
                    engine, first + self._interval * groups.index(engine.group) / len(groups)
                )
            )
            for engine in self._engines
        ]

    async def _follow(self, engine: _Engine, tick: float) -> None:
        await self._ask(engine)  # at once: a router that just started knows nothing
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(max(0.0, tick - clock()))
            await self._ask(engine)
            # One that takes long misses ticks, and stays in step.
            tick += self._interval * max(1, math.ceil((clock() - tick) / self._interval))

    async def _ask(self, engine: _Engine) -> None:
        """One reading; raises nothing but what cancels this task."""
        count = engine.backend.metrics.engine_stats
        try:
            loads = await within(self._timeout, self._read(engine))
            if not loads:
                count("unknown")
                engine.warn("no series of vLLM, SGLang or TensorRT-LLM")
                return
            engine.report(loads)
            count("read")
            engine.warned = False
            if self._reported is not None:
                self._reported(engine.group)
        except UpstreamBusyError:
            count("skipped")  # our own limit says nothing of the engine
        except (UpstreamError, asyncio.TimeoutError, ValueError) as error:
            count("failed")
            engine.warn(f"no load read: {error or type(error).__name__}")
        except Exception:  # whatever it is, the readings must go on
            count("failed")
            logger.exception("%s: metrics", engine.backend.url)

    async def _read(self, engine: _Engine) -> list[EngineLoad]:
        loads: list[EngineLoad] = []
        problem: ValueError | None = None
        for path in engine.paths:
            try:
                text = await get(self._upstream, engine.backend.url + path, _MAX_BYTES)
                loads = parse_engine_metrics(text, engine.backend.dp_ranks)
            except ValueError as error:
                problem = problem or error
                continue
            if loads:
                engine.paths = (path,)
                return loads
        engine.paths = _PATHS  # another server may have come to this address
        if problem is not None:
            raise problem
        return loads


class _Engine:
    def __init__(self, group: ModelGroup, backend: Backend) -> None:
        self.group = group
        self.backend = backend
        self.paths: tuple[str, ...] = _PATHS
        self.warned = False

    def report(self, loads: list[EngineLoad]) -> None:
        for rank, load in enumerate(loads):
            self.group.router.update_load(
                self.backend.url,
                rank,
                waiting=load.waiting,
                running=load.running,
                kv_usage=load.kv_usage,
                kv_tokens=load.kv_tokens,
            )

    def warn(self, text: str) -> None:
        """Said once until a reading succeeds."""
        if not self.warned:
            self.warned = True
            logger.warning("%s: metrics: %s", self.backend.url, text)

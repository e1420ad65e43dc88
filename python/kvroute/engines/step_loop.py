"""Drives a scheduler in real time on the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from kvroute.engines.generation import Generation
from kvroute.engines.scheduler import Scheduler, StepResult
from kvroute.engines.sequence import EngineSequence

_TICK = 0.001
_BURST = 0.004
_MAX_LAG = 0.25


class StepLoop:
    """Steps a scheduler as fast as its cost model says, and hands its tokens to the generations.

    Steps follow each other on the engine's own time, which starts at the clock's when there is
    work. Where steps are shorter than a timer can wait (a millisecond), several are made at once
    when their time has passed: tokens come late by a tick at most, never early. An engine that
    cannot keep up with its cost model falls behind by at most a quarter of a second, then
    forgets the rest (``lost_seconds`` counts it).

    Args:
        scheduler: driven by this loop alone.
        on_step: called with each step's result when it is scheduled.
        on_progress: called after tokens were handed on, and when the engine falls idle.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        *,
        on_step: Callable[[StepResult], None],
        on_progress: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scheduler = scheduler
        self._on_step = on_step
        self._on_progress = on_progress
        self._clock = clock
        self._generations: dict[EngineSequence, Generation] = {}
        self._work = asyncio.Event()
        self.lost_seconds = 0.0

    def submit(self, generation: Generation) -> None:
        """Queue a generation; RequestRefusedError as `Scheduler.add` raises it."""
        self._scheduler.add(generation.sequence)
        self._generations[generation.sequence] = generation
        self._work.set()

    def abort(self, generation: Generation) -> None:
        """Drop a generation, free its blocks; nothing happens when it has ended."""
        if self._generations.pop(generation.sequence, None) is not None:
            self._scheduler.abort(generation.sequence)
            self._work.set()
            if not self._scheduler.has_work:
                self._on_progress()

    def wake(self) -> None:
        """Blocks came free that no sequence had: what waits may fit now."""
        self._work.set()

    def generation_of(self, sequence: object) -> Generation:
        """The generation of a sequence that is in the scheduler or in the step just made."""
        assert isinstance(sequence, EngineSequence)
        return self._generations[sequence]

    async def run(self) -> None:
        """Step while there is work, wait while there is none; ends by cancellation."""
        try:
            while True:
                await self._work.wait()
                self._work.clear()
                await self._run_until_idle()
        finally:
            for generation in list(self._generations.values()):
                self._scheduler.abort(generation.sequence)
                generation.give_up()
            self._generations.clear()

    async def _run_until_idle(self) -> None:
        clock = self._clock
        engine_time = clock()
        burst_ends = engine_time + _BURST
        ready: dict[EngineSequence, float] = {}
        while self._scheduler.has_work:
            self._work.clear()
            result = self._scheduler.step(engine_time)
            self._on_step(result)
            if result.is_empty:
                # Blocks that are kept for other engines leave no room for what waits.
                self._hand_on(ready)
                await self._work.wait()
                engine_time = clock()
                continue
            engine_time = result.ends_at
            now = clock()
            if engine_time > now:
                self._hand_on(ready)
                await asyncio.sleep(max(engine_time - now, _TICK))
                burst_ends = clock() + _BURST
            elif now > burst_ends:
                self._hand_on(ready)
                await asyncio.sleep(0)
                if now - engine_time > _MAX_LAG:
                    self.lost_seconds += now - engine_time
                    engine_time = now
                burst_ends = clock() + _BURST
            for sequence in result.emitted:
                ready[sequence] = result.ends_at
        self._hand_on(ready)

    def _hand_on(self, ready: dict[EngineSequence, float]) -> None:
        for sequence, ends_at in ready.items():
            generation = self._generations.get(sequence)
            if generation is None:
                continue
            if not generation.first_token_at:
                generation.first_token_at = ends_at
            if sequence.finished:
                del self._generations[sequence]
            generation.offer()
        ready.clear()
        self._on_progress()

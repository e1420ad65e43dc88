"""Simulated engines in virtual time, with a router before them."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import kvroute
from drift_requests import Request
from kvroute.engines.cost_model import CostModel
from kvroute.engines.prefix_cache import BlockName, CacheEvent, PrefixCache
from kvroute.engines.scheduler import Scheduler, StepResult
from kvroute.engines.sequence import EngineSequence

PROGRESS_TOKENS = 64
"""A reservation is told of its output every so many tokens."""


@dataclass(eq=False)
class Running:
    """A request on its engine."""

    request: Request
    reservation: kvroute.Reservation
    sequence: EngineSequence


class Engine:
    """One scheduler and its true prefix cache; `busy` from the begin of a step to its end."""

    def __init__(self, name: str, num_blocks: int, block_size: int, *, events: bool) -> None:
        self.name = name
        self.cache = PrefixCache(num_blocks, record_events=events)
        self.scheduler = Scheduler(self.cache, CostModel(), block_size=block_size)
        self.busy = False


@dataclass
class Outcome:
    """What the engines found and how long it took."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    promised_blocks_off: int = 0
    first_token_seconds: list[float] = field(default_factory=list)
    preemptions: int = 0


class Fleet:
    """Serves requests in order of arrival, each where the router sends it.

    `observe(request)` is called before each decision, `publish(engine, events)` with what changed
    in an engine's cache. With `sessions` a conversation's requests carry its id.
    """

    def __init__(
        self,
        engines: list[Engine],
        router: kvroute.KvRouter,
        clock: kvroute.VirtualClock,
        *,
        remember_output: bool = True,
        observe: Callable[[Request], None],
        publish: Callable[[Engine, list[CacheEvent]], None] | None = None,
        sessions: bool = False,
    ) -> None:
        self._engines = {engine.name: engine for engine in engines}
        self._router = router
        self._clock = clock
        self._remember_output = remember_output
        self._observe = observe
        self._publish = publish
        self._sessions = sessions
        self._block_size = engines[0].scheduler.block_size
        self._steps: list[tuple[float, int, Engine, StepResult]] = []
        self._order = itertools.count()
        self._running: dict[str, Running] = {}
        self.outcome = Outcome()

    def serve(self, requests: Iterable[Request]) -> Outcome:
        for request in requests:
            self.advance_to(request.arrival)
            self.admit(request)
        self.drain()
        return self.outcome

    def drain(self) -> None:
        """Ends all that runs."""
        while self._steps:
            self._end_step()

    def running(self, sequence: object) -> Running:
        """The request of an event's owner."""
        assert isinstance(sequence, EngineSequence)
        return self._running[sequence.request_id]

    def advance_to(self, time: float) -> None:
        """Ends the steps that end until then, and sets the clock."""
        while self._steps and self._steps[0][0] <= time:
            self._end_step()
        self._move_clock(time)

    def _move_clock(self, time: float) -> None:
        self._clock.advance(max(0.0, time - self._clock.now()))

    def admit(self, request: Request) -> Running:
        """Sends a request, that arrives now, where the router says."""
        self._observe(request)
        session = f"conversation {request.conversation}" if self._sessions else None
        reservation = self._router.reserve(request.prompt, session_id=session)
        engine = self._engines[str(reservation.choice.worker)]
        full = len(request.prompt) // self._block_size
        computed = len(request.prompt) + len(request.output) - 1  # the last token never is
        names = request.names[: computed // self._block_size]

        def name_block(position: int) -> int | None:
            return names[position] if position < len(names) else None

        sequence = EngineSequence(
            reservation.request_id,
            len(request.prompt),
            len(request.output),
            list[BlockName](names[:full]),
            name_block,
        )
        running = Running(request, reservation, sequence)
        self._running[sequence.request_id] = running
        engine.scheduler.add(sequence)
        if not engine.busy:
            self._begin_step(engine, request.arrival)
        return running

    def _begin_step(self, engine: Engine, time: float) -> None:
        result = engine.scheduler.step(time)
        engine.busy = True
        heapq.heappush(self._steps, (result.ends_at, next(self._order), engine, result))
        if result.cache_events and self._publish is not None:
            self._publish(engine, result.cache_events)

    def _end_step(self) -> None:
        time, _, engine, result = heapq.heappop(self._steps)
        self._move_clock(time)
        for sequence in result.first_tokens:
            running = self._running[sequence.request_id]
            running.reservation.first_token()
            self._note_first_token(running, time)
        for sequence in result.emitted:
            if sequence.emitted % PROGRESS_TOKENS == 0:
                self._running[sequence.request_id].reservation.progress(sequence.emitted)
        for sequence in result.finished:
            running = self._running.pop(sequence.request_id)
            output = running.request.output if self._remember_output else None
            running.reservation.release(output)
        self.outcome.preemptions += len(result.preempted)
        engine.busy = False
        if engine.scheduler.has_work:
            self._begin_step(engine, time)

    def _note_first_token(self, running: Running, time: float) -> None:
        outcome = self.outcome
        promised = running.reservation.choice.cached_tokens
        found = running.sequence.cached_tokens
        outcome.prompt_tokens += running.sequence.prompt_tokens
        outcome.cached_tokens += found
        outcome.promised_blocks_off += abs(promised - found) // self._block_size
        outcome.first_token_seconds.append(time - running.request.arrival)

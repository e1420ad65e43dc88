"""Replays a trace over HTTP, open loop: requests leave at the trace's times, answers or not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import aiohttp

from kvroute.demo.completion_stream import Completion, CompletionError, stream_completion
from kvroute.traces import PromptBuilder, TraceRequest

_MAX_KEPT_FAILURES = 20
_LAG_INTERVAL = 0.05


@dataclass(slots=True)
class ReplayResult:
    """What a replay got. Times in wall seconds.

    `completions` has one entry for each request that succeeded. `failures` counts the others, and
    `failure_messages` keeps the first few. `worst_delay` is the longest that a request left after
    its time, for want of a place among `max_in_flight` or of CPU. `loop_lags` says how late this
    process woke from sleeps of 50 ms: large values mean that it had no CPU, and that the times to
    first token are not the engines'.
    """

    completions: list[Completion] = field(default_factory=list)
    failures: int = 0
    failure_messages: list[str] = field(default_factory=list)
    worst_delay: float = 0.0
    loop_lags: list[float] = field(default_factory=list)
    wall_seconds: float = 0.0

    def add_failure(self, message: str) -> None:
        """Counts one failed request."""
        self.failures += 1
        if len(self.failure_messages) < _MAX_KEPT_FAILURES:
            self.failure_messages.append(message)


async def replay(
    url: str,
    model: str,
    requests: Sequence[TraceRequest],
    prompts: PromptBuilder,
    *,
    compression: float,
    max_in_flight: int,
    request_timeout: float,
    on_completed: Callable[[], None] = lambda: None,
) -> ReplayResult:
    """Sends each request at its timestamp divided by `compression`, counted from the first's.

    A request that fails is counted, never repeated. `on_completed` is called after each request.
    Cancelling the replay ends all of its requests.
    """
    result = ReplayResult()
    slots = asyncio.Semaphore(max_in_flight)
    running: set[asyncio.Task[None]] = set()
    lag_watch = asyncio.create_task(_watch_lag(result.loop_lags))
    timeout = aiohttp.ClientTimeout(total=request_timeout)
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30.0)
    started = time.perf_counter()

    async def run(request: TraceRequest) -> None:
        try:
            tokens = prompts.prompt(request).tolist()
            output = prompts.output_length(request)
            result.completions.append(await stream_completion(session, url, model, tokens, output))
        except (CompletionError, aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            result.add_failure(str(error) or type(error).__name__)
        finally:
            slots.release()
        on_completed()

    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        try:
            for request in requests:
                due = started + (request.timestamp - requests[0].timestamp) / compression
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                await slots.acquire()
                result.worst_delay = max(result.worst_delay, time.perf_counter() - due)
                task = asyncio.create_task(run(request))
                running.add(task)
                task.add_done_callback(running.discard)
            await asyncio.gather(*running)
        finally:
            lag_watch.cancel()
            for task in running:
                task.cancel()
            await asyncio.gather(lag_watch, *running, return_exceptions=True)
    result.wall_seconds = time.perf_counter() - started
    return result


async def _watch_lag(lags: list[float]) -> None:
    while True:
        before = time.perf_counter()
        await asyncio.sleep(_LAG_INTERVAL)
        lags.append(time.perf_counter() - before - _LAG_INTERVAL)

"""The open-loop replay against a server that counts what reaches it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import orjson
import pytest
from aiohttp import web
from kvroute.demo.replay import ReplayResult, replay
from kvroute.traces import PromptBuilder, TraceRequest, generate_trace

Serve: TypeAlias = Callable[[Any], Awaitable[str]]


class Engine:
    """Answers each completion after `seconds`, and when `together` have come.

    Fails every one whose number is in `failing`.
    """

    def __init__(
        self, seconds: float = 0.0, failing: frozenset[int] = frozenset(), together: int = 1
    ) -> None:
        self.seconds = seconds
        self.together = together
        self.failing = failing
        self.arrivals: list[float] = []
        self.prompts: list[list[int]] = []
        self.running = 0
        self.most_running = 0
        self.changed = asyncio.Condition()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        number = len(self.arrivals)
        self.arrivals.append(time.perf_counter())
        body = orjson.loads(await request.read())
        self.prompts.append(body["prompt"])
        await self._run(1)
        try:
            await asyncio.sleep(self.seconds)
            async with self.changed:
                await self.changed.wait_for(lambda: self.most_running >= self.together)
        finally:
            await self._run(-1)
        if number in self.failing:
            return web.Response(status=500, text=f"number {number}")
        counts = {
            "prompt_tokens": len(body["prompt"]),
            "completion_tokens": body["max_tokens"],
            "prompt_tokens_details": {"cached_tokens": 0},
        }
        stream = b'data: {"choices":[{"text":"x"}]}\n\ndata: %b\n\ndata: [DONE]\n\n' % orjson.dumps(
            {"choices": [], "usage": counts}
        )
        return web.Response(body=stream, headers={"x-kvroute-worker": "w"})

    async def _run(self, change: int) -> None:
        async with self.changed:
            self.running += change
            self.most_running = max(self.most_running, self.running)
            self.changed.notify_all()

    async def wait_for_running(self, count: int) -> None:
        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(lambda: self.running == count), 30)


async def run(
    url: str, trace: list[TraceRequest], *, compression: float = 100.0, **options: float
) -> ReplayResult:
    return await replay(
        url,
        "m",
        trace,
        PromptBuilder(length_scale=0.02),
        compression=compression,
        max_in_flight=int(options.get("max_in_flight", 100)),
        request_timeout=options.get("request_timeout", 60.0),
    )


async def test_every_request_reaches_the_server_with_its_prompt(serve: Serve) -> None:
    engine = Engine()
    trace = generate_trace(50)
    result = await run(await serve(engine.answer), trace)
    prompts = PromptBuilder(length_scale=0.02)
    assert sorted(engine.prompts) == sorted(list(prompts.prompt(request)) for request in trace)
    assert len(result.completions) == 50
    assert result.failures == 0
    assert 0 <= result.worst_delay < result.wall_seconds
    assert {completion.worker for completion in result.completions} == {"w"}


async def test_requests_leave_at_compressed_times_answers_or_not(serve: Serve) -> None:
    engine = Engine(together=4)
    trace = [TraceRequest(at, 10, 1, (0,)) for at in (5.0, 5.0, 55.0, 105.0)]
    url = await serve(engine.answer)
    started = time.perf_counter()
    result = await run(url, trace, compression=100.0)
    assert result.failures == 0
    assert engine.most_running == 4
    for arrival, due in zip(engine.arrivals, (0.0, 0.0, 0.5, 1.0), strict=True):
        # Timers fire a hair early; how late they fire is the machine's affair.
        assert due - 0.01 < arrival - started < due + 30


async def test_requests_in_flight_are_bounded_and_waiting_is_measured(serve: Serve) -> None:
    engine = Engine(seconds=0.02)
    trace = [TraceRequest(0.0, 10, 1, (0,))] * 12
    result = await run(await serve(engine.answer), trace, max_in_flight=3)
    assert engine.most_running == 3
    assert result.worst_delay > 3 * 0.02 - 0.005
    assert len(result.completions) == 12


async def test_failures_are_counted_and_do_not_stop_the_replay(serve: Serve) -> None:
    engine = Engine(failing=frozenset({1, 4}))
    completed = 0

    def count() -> None:
        nonlocal completed
        completed += 1

    trace = [TraceRequest(at / 10, 10, 1, (0,)) for at in range(6)]
    result = await replay(
        await serve(engine.answer),
        "m",
        trace,
        PromptBuilder(),
        compression=10.0,
        max_in_flight=8,
        request_timeout=60.0,
        on_completed=count,
    )
    assert (len(result.completions), result.failures, completed) == (4, 2, 6)
    assert sorted(result.failure_messages) == ["status 500: number 1", "status 500: number 4"]


async def test_kept_failure_messages_are_bounded() -> None:
    result = ReplayResult()
    for number in range(1000):
        result.add_failure(str(number))
    assert result.failures == 1000
    assert len(result.failure_messages) == 20


async def test_a_request_that_takes_too_long_fails(serve: Serve) -> None:
    engine = Engine(seconds=60.0)
    trace = [TraceRequest(0.0, 10, 1, (0,))]
    result = await run(await serve(engine.answer), trace, request_timeout=0.1)
    assert result.failures == 1
    assert "imeout" in result.failure_messages[0]


async def test_a_server_that_is_not_there_fails_each_request() -> None:
    trace = [TraceRequest(0.0, 10, 1, (0,))] * 3
    result = await run("http://127.0.0.1:9", trace)
    assert result.failures == 3
    assert "connect" in result.failure_messages[0].lower()


async def test_cancelling_ends_all_requests(serve: Serve) -> None:
    engine = Engine(seconds=30.0)
    trace = [TraceRequest(0.0, 10, 1, (0,))] * 5
    url = await serve(engine.answer)
    before = asyncio.all_tasks()
    replaying = asyncio.create_task(run(url, trace))
    await engine.wait_for_running(5)
    replaying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await replaying
    left = {task for task in asyncio.all_tasks() - before if "replay.py" in repr(task)}
    assert not left

"""Requests that no engine has room for: refused, or held back in a bounded queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from frontend_harness import EngineRequest, FakeEngine, Frontend, answer, running_frontend
from kvroute.frontend.protocols import core_router


class Gate:
    """An engine that answers when it is told to; requests in the order of their coming."""

    def __init__(self) -> None:
        self.prompts: list[int] = []
        self.came = asyncio.Event()
        self._answers = asyncio.Semaphore(0)

    async def __call__(self, request: EngineRequest) -> None:
        self.prompts.append(request.json["prompt"][0])
        self.came.set()
        await self._answers.acquire()
        request.writer.write(answer())

    def answer(self, count: int = 1) -> None:
        for _ in range(count):
            self._answers.release()

    async def has(self, count: int) -> None:
        async def seen() -> None:
            while len(self.prompts) < count:
                self.came.clear()
                await self.came.wait()

        await asyncio.wait_for(seen(), 5)


@asynccontextmanager
async def busy(room: int = 1, **settings: Any) -> AsyncIterator[tuple[Frontend, Gate]]:
    """A frontend whose engines have room for so many requests at once."""
    gate = Gate()
    async with (
        FakeEngine(gate) as engine,
        running_frontend(
            engine.url, **{"max_waiting": 0, "queue_limit": 8, **settings}
        ) as frontend,
    ):
        frontend.router.room = room
        yield frontend, gate


async def waiting(frontend: Frontend, count: int) -> None:
    """Returns when so many requests wait."""

    async def seen() -> None:
        while await frontend.metric("kvroute_queue_waiting") != count:
            pass

    await asyncio.wait_for(seen(), 5)


async def send(frontend: Frontend, prompt: list[int], **headers: str) -> aiohttp.ClientResponse:
    named = {f"x-kvroute-{name}": value for name, value in headers.items()}
    async with frontend.completion({"prompt": prompt}, headers=named) as response:
        await response.read()
        return response


async def line_up(
    frontend: Frontend, *prompts: list[int], **headers: str
) -> list[asyncio.Task[aiohttp.ClientResponse]]:
    """Sends these one after the other; returns when all of them wait."""
    before = round(await frontend.metric("kvroute_queue_waiting"))
    tasks = []
    for number, prompt in enumerate(prompts, before + 1):
        tasks.append(asyncio.create_task(send(frontend, prompt, **headers)))
        await waiting(frontend, number)
    return tasks


async def test_without_a_queue_a_client_is_told_when_to_come_back() -> None:
    async with busy(room=0, queue_limit=0) as (frontend, _):
        response = await send(frontend, [1])
        assert (response.status, response.headers["retry-after"]) == (503, "1")
        assert await frontend.metric("kvroute_queue_waiting") == 0


async def test_a_request_waits_until_another_has_ended() -> None:
    async with busy() as (frontend, gate):
        running = asyncio.create_task(send(frontend, [0]))
        await gate.has(1)
        tasks = await line_up(frontend, [1], [2])
        gate.answer(3)
        assert [(await task).status for task in (running, *tasks)] == [200] * 3
        assert gate.prompts == [0, 1, 2]
        await frontend.nothing_booked()
        assert await frontend.metric("kvroute_queue_seconds_count") == 3
        assert await frontend.metric("kvroute_decision_seconds_count") == 3


async def test_a_full_queue_refuses_with_a_time() -> None:
    async with busy(queue_limit=1) as (frontend, gate):
        running = asyncio.create_task(send(frontend, [0]))
        await gate.has(1)
        tasks = await line_up(frontend, [1])
        refused = await send(frontend, [2])
        assert refused.status == 503
        assert int(refused.headers["retry-after"]) >= 1
        error = (await refused.json())["error"]
        assert error["message"] == "all engines are busy; 1 requests wait already"
        assert await frontend.metric("kvroute_queue_refusals_total", reason="full") == 1
        gate.answer(2)
        await asyncio.gather(running, *tasks)


async def test_a_wait_has_an_end() -> None:
    async with busy(room=0, queue_timeout=0.02) as (frontend, _):
        response = await send(frontend, [1])
        assert response.status == 503
        assert "retry-after" in response.headers
        assert await frontend.metric("kvroute_queue_refusals_total", reason="timeout") == 1
        assert await frontend.metric("kvroute_queue_waiting") == 0


async def test_a_client_that_leaves_waits_no_more() -> None:
    async with busy() as (frontend, gate):
        running = asyncio.create_task(send(frontend, [0]))
        await gate.has(1)
        (gone,) = await line_up(frontend, [1])
        gone.cancel()
        await waiting(frontend, 0)
        (last,) = await line_up(frontend, [2])
        gate.answer(2)
        await asyncio.gather(running, last)
        assert gate.prompts == [0, 2]
        await frontend.nothing_booked()


async def test_the_header_says_who_is_first() -> None:
    async with busy(queue_order="priority") as (frontend, gate):
        running = asyncio.create_task(send(frontend, [0]))
        await gate.has(1)
        tasks = await line_up(frontend, [1], priority="2.5")
        tasks += await line_up(frontend, [2], priority="-1")
        tasks += await line_up(frontend, [3])
        gate.answer(4)
        await asyncio.gather(running, *tasks)
        assert gate.prompts == [0, 2, 3, 1]


async def test_without_the_header_the_body_s_priority_counts() -> None:
    async with busy(queue_order="priority") as (frontend, gate):
        running = asyncio.create_task(send(frontend, [0]))
        await gate.has(1)
        tasks = await line_up(frontend, [1])

        async def urgent() -> None:
            async with frontend.completion({"prompt": [2], "priority": -7}) as response:
                assert response.status == 200

        second = asyncio.create_task(urgent())
        await waiting(frontend, 2)
        gate.answer(3)
        await asyncio.gather(running, second, *tasks)
        assert gate.prompts == [0, 2, 1]


async def test_the_shortest_is_first_where_it_is_wanted() -> None:
    async with busy(queue_order="shortest_uncached") as (frontend, gate):
        running = asyncio.create_task(send(frontend, [0]))
        await gate.has(1)
        tasks = await line_up(frontend, [1] * 200_000, [2] * 10)
        gate.answer(3)
        await asyncio.gather(running, *tasks)
        assert gate.prompts == [0, 2, 1]


async def test_tenants_share() -> None:
    async with busy() as (frontend, gate):
        running = asyncio.create_task(send(frontend, [0]))
        await gate.has(1)
        tasks = await line_up(frontend, [1], [2], [3], tenant="flood")
        tasks += await line_up(frontend, [4], tenant="other")
        gate.answer(5)
        await asyncio.gather(running, *tasks)
        assert gate.prompts == [0, 1, 4, 2, 3]


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"priority": "urgent"}, "x-kvroute-priority: expected a number, got 'urgent'"),
        ({"priority": "nan"}, "x-kvroute-priority: expected a number, got 'nan'"),
        ({"tenant": "t" * 257}, "x-kvroute-tenant: expected at most 256 characters"),
    ],
)
async def test_a_wrong_header_is_named(headers: dict[str, str], message: str) -> None:
    async with busy() as (frontend, _):
        response = await send(frontend, [1], **headers)
        assert response.status == 400
        assert message in (await response.json())["error"]["message"]


async def test_a_load_report_lets_the_next_one_in() -> None:
    gate = Gate()

    async def engine_answers(request: EngineRequest) -> None:
        if request.path == "/metrics":
            request.writer.write(answer(b"vllm:num_requests_waiting 0.0\n"))
        else:
            await gate(request)

    async with (
        FakeEngine(engine_answers) as engine,
        running_frontend(
            engine.url, max_waiting=0, queue_limit=8, engine_stats_interval=0.02
        ) as frontend,
    ):
        frontend.router.room = 0
        tasks = await line_up(frontend, [1])
        frontend.router.room = 1
        gate.answer()
        assert (await tasks[0]).status == 200


async def test_the_core_lets_a_request_in_when_its_engine_has_drained() -> None:
    queued = 9

    async def engine_answers(request: EngineRequest) -> None:
        if request.path == "/metrics":
            request.writer.write(answer(b"vllm:num_requests_waiting %d.0\n" % queued))
        else:
            request.writer.write(answer())

    async with (
        FakeEngine(engine_answers) as engine,
        running_frontend(
            engine.url,
            make_router=core_router,
            max_waiting=4,
            queue_limit=8,
            engine_stats_interval=0.02,
        ) as frontend,
    ):
        while await frontend.metric("kvroute_target_waiting") != 9:
            pass
        tasks = await line_up(frontend, [1], [2])
        queued = 4
        assert [(await task).status for task in tasks] == [200, 200]
        assert await frontend.metric("kvroute_decisions_total", rule="kv_cost") == 2


async def test_copies_that_the_first_one_leaves_no_room_for_go_with_it() -> None:
    async with busy(room=2) as (frontend, gate):
        gate.answer()
        async with frontend.completion({"n": 5}) as response:
            assert response.status == 200
        assert len(frontend.router.reservations) == 2
        await frontend.nothing_booked()


async def test_the_thresholds_reach_the_router() -> None:
    limits = {"max_waiting": 4, "max_kv_usage": 0.9, "max_prefill_tokens": 100_000}
    async with running_frontend("http://a:1", **limits) as frontend:
        assert frontend.router.options == limits
    async with running_frontend("http://a:1") as frontend:
        assert frontend.router.options == {}

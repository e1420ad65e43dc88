"""Connections, waits and memory: what is taken is bounded and given back."""

from __future__ import annotations

import asyncio
import gc

import pytest
from frontend_harness import STREAM_HEAD, EngineRequest, FakeEngine, answer, chunk, running_frontend
from kvroute.deadline import within
from kvroute.frontend.connection_slots import ConnectionSlots, NoSlotError
from kvroute.frontend.intake import Job
from leaping_clock import LeapingClock


async def test_our_own_full_pool_is_no_failure_of_an_engine() -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def handler(request: EngineRequest) -> None:
        reached.set()
        await go_on.wait()
        request.writer.write(answer())

    async with (
        FakeEngine(handler) as engine,
        running_frontend(
            engine.url, max_backend_connections=1, backend_connect_timeout_seconds=20
        ) as frontend,
    ):

        async def ask() -> int:
            async with frontend.completion() as got:
                return int(got.status)

        first = asyncio.create_task(ask())
        await reached.wait()
        with LeapingClock().leaping():
            got = await frontend.completion()
        async with got:
            assert got.status == 503
            assert "all 1 connections" in (await got.json())["error"]["message"]
        assert await frontend.metric("kvroute_request_failures_total") == 0
        assert await frontend.metric("kvroute_reroutes_total") == 0
        async with frontend.client.get(frontend.url + "/health") as got:
            assert got.status == 200
        go_on.set()
        assert await first == 200
        for _ in range(3):  # every path has given its slot back
            assert await ask() == 200
        await frontend.nothing_booked()


async def test_a_request_waits_for_a_connection_that_becomes_free() -> None:
    async def handler(request: EngineRequest) -> None:
        request.writer.write(answer())

    async with (
        FakeEngine(handler) as engine,
        running_frontend(engine.url, max_backend_connections=1) as frontend,
    ):

        async def ask() -> int:
            async with frontend.completion() as got:
                return int(got.status)

        assert await asyncio.gather(*(ask() for _ in range(20))) == [200] * 20


async def test_slots_go_to_those_who_wait_in_their_order() -> None:
    slots = ConnectionSlots(1)
    await slots.acquire(1)
    waiting = [asyncio.create_task(slots.acquire(30)) for _ in range(3)]
    await asyncio.sleep(0)
    slots.release()
    await waiting[0]
    assert [task.done() for task in waiting] == [True, False, False]
    waiting[1].cancel()
    slots.release()
    await waiting[2]
    with pytest.raises(NoSlotError):
        await slots.acquire(0.01)
    slots.release()
    await slots.acquire(0.01)


async def test_a_slot_that_comes_with_a_cancellation_is_not_lost() -> None:
    slots = ConnectionSlots(1)
    await slots.acquire(1)
    waiting = asyncio.create_task(slots.acquire(30))
    await asyncio.sleep(0)
    slots.release()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await slots.acquire(0.01)


async def test_a_wait_that_ends_with_its_cancellation_is_cancelled() -> None:
    done = asyncio.Event()
    outer = asyncio.create_task(within(30, done.wait()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    done.set()
    await asyncio.sleep(0)
    outer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await outer


async def test_a_wait_has_the_result_the_error_or_a_timeout() -> None:
    async def one() -> int:
        return 1

    async def fail() -> int:
        raise LookupError("a fault")

    ended = asyncio.Event()

    async def never() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    assert await within(5, one()) == 1
    with pytest.raises(LookupError):
        await within(5, fail())
    with pytest.raises(asyncio.TimeoutError):
        await within(0.01, never())
    assert ended.is_set()


async def test_a_prompt_is_not_held_while_its_answer_is_streamed() -> None:
    go_on = asyncio.Event()

    async def handler(request: EngineRequest) -> None:
        request.writer.write(STREAM_HEAD + chunk(b"data: 1\n\n"))
        await go_on.wait()
        request.writer.write(b"0\r\n\r\n")

    async with FakeEngine(handler) as engine, running_frontend(engine.url) as frontend:
        body = {"prompt": list(range(1000)), "stream": True}
        async with frontend.completion(body) as got:
            await got.content.readuntil(b"\n\n")
            assert frontend.app.services is not None
            (group,) = frontend.app.services.fleet.groups.values()
            (job,) = (
                each for each in gc.get_objects() if isinstance(each, Job) and each.group is group
            )
            assert (job.body, job.prompts) == (b"", [])
            assert (job.request.fields, job.request.prompts) == ({}, [])
            go_on.set()
            await got.read()


async def test_health_checks_survive_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = asyncio.Event()

    async def handler(request: EngineRequest) -> None:
        asked.set()
        request.writer.write(answer())

    async with (
        FakeEngine(handler) as engine,
        running_frontend(
            engine.url,
            static_backend_health_checks=True,
            static_backend_health_check_interval=0.01,
        ) as frontend,
    ):
        services = frontend.app.services
        assert services is not None
        failed = asyncio.Event()

        async def fail(*_: object) -> None:
            failed.set()
            raise LookupError("a fault")

        with monkeypatch.context() as patch:
            patch.setattr(services.upstream, "request", fail)
            await asyncio.wait_for(failed.wait(), 10)
        asked.clear()
        await asyncio.wait_for(asked.wait(), 10)

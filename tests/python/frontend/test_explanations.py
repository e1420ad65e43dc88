"""The limits and errors of POST /v1/kvroute/explain: those of the completions."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from frontend_harness import EngineRequest, FakeEngine, answer, replies, running_frontend
from kvroute import InvalidArgument, NoEligibleWorker

PATH = "/v1/kvroute/explain"


async def test_a_body_above_the_limit_is_refused() -> None:
    async with (
        running_frontend("http://127.0.0.1:1", max_body_bytes=1000) as frontend,
        frontend.client.post(frontend.url + PATH, data=b"x" * 1001) as got,
    ):
        assert got.status == 413


async def test_a_body_that_never_comes_is_given_up() -> None:
    async with running_frontend("http://127.0.0.1:1", client_timeout_seconds=0.1) as frontend:
        reader, writer = await frontend.connect()
        writer.write(b"POST %s HTTP/1.1\r\nContent-Length: 100\r\n\r\n{" % PATH.encode())
        answered = await asyncio.wait_for(reader.readuntil(b"\r\n"), 10)
        assert answered.startswith(b"HTTP/1.1 408 ")
        writer.close()


async def test_it_counts_among_the_running_requests() -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def handler(request: EngineRequest) -> None:
        reached.set()
        await go_on.wait()
        request.writer.write(answer())

    async with (
        FakeEngine(handler) as engine,
        running_frontend(engine.url, max_concurrent_requests=1) as frontend,
    ):

        async def complete() -> int:
            async with frontend.completion() as got:
                return int(got.status)

        running = asyncio.create_task(complete())
        await reached.wait()
        async with frontend.client.post(frontend.url + PATH, json={"prompt": [1]}) as got:
            assert got.status == 503
        go_on.set()
        assert await running == 200


@pytest.mark.parametrize(
    ("error", "status"),
    [(InvalidArgument("token_ids: wrong"), 400), (NoEligibleWorker("nobody"), 503)],
)
async def test_what_the_router_refuses_is_told(error: Exception, status: int) -> None:
    def explain(*_: Any, **__: Any) -> Any:
        raise error

    async with (
        FakeEngine(replies(answer())) as engine,
        running_frontend(engine.url) as frontend,
    ):
        frontend.router.explain = explain  # type: ignore[method-assign]
        async with frontend.client.post(frontend.url + PATH, json={"prompt": [1]}) as got:
            assert got.status == status
            assert (await got.json())["error"]["code"] == status


@pytest.mark.parametrize("prompt", [[-1], [1.5], [2**32]])
async def test_what_are_no_token_ids_is_named(prompt: Any) -> None:
    async with (
        running_frontend("http://127.0.0.1:1") as frontend,
        frontend.client.post(frontend.url + PATH, json={"prompt": prompt}) as got,
    ):
        assert got.status == 400
        assert (await got.json())["error"]["param"] == "prompt"

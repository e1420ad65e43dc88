"""Engines that fail, clients that leave: what the client gets, and that nothing stays booked."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from frontend_harness import (
    STREAM_HEAD,
    EngineRequest,
    FakeEngine,
    Frontend,
    answer,
    chunk,
    replies,
    running_frontend,
)
from leaping_clock import LeapingClock


async def hang_up(request: EngineRequest) -> None:
    request.writer.close()


async def never(request: EngineRequest) -> None:
    await request.left()


async def error_of(got: aiohttp.ClientResponse) -> dict[str, Any]:
    error: dict[str, Any] = (await got.json())["error"]
    assert error["code"] == got.status
    return error


async def test_an_unreachable_engine_is_replaced_by_another(unused_url: str) -> None:
    async with (
        FakeEngine(replies(answer())) as engine,
        running_frontend(unused_url, engine.url) as frontend,
    ):
        async with frontend.completion() as got:
            assert got.status == 200
            assert got.headers["x-kvroute-worker"] == engine.url
        assert [call["allowed"] for call in frontend.router.calls] == [None, [engine.url]]
        await frontend.nothing_booked()
        assert await frontend.metric("kvroute_reroutes_total") == 1
        assert (
            await frontend.metric(
                "kvroute_request_failures_total", worker=unused_url, reason="unreachable"
            )
            == 1
        )


async def test_an_unreachable_engine_rests_while_another_takes_requests(unused_url: str) -> None:
    async with (
        FakeEngine(replies(answer())) as engine,
        running_frontend(unused_url, engine.url) as frontend,
    ):
        for _ in range(3):
            async with frontend.completion() as got:
                assert got.status == 200
        allowed = [call["allowed"] for call in frontend.router.calls]
        assert allowed == [None, [engine.url], [engine.url], [engine.url]]


async def test_a_rested_engine_is_tried_again(unused_url: str) -> None:
    async with running_frontend(unused_url, backend_cooldown_seconds=60) as frontend:
        for _ in range(2):
            async with frontend.completion() as got:
                assert got.status == 503  # alone, it is tried although it should rest
        assert len(frontend.router.calls) == 2
        await frontend.nothing_booked()


async def test_without_reroutes_an_unreachable_engine_is_an_error(unused_url: str) -> None:
    async with (
        FakeEngine(replies(answer())) as engine,
        running_frontend(
            unused_url, engine.url, max_instance_failover_reroute_attempts=0
        ) as frontend,
    ):
        async with frontend.completion() as got:
            assert got.status == 503
            error = await error_of(got)
            assert unused_url in error["message"]
            assert error["type"] == "service_unavailable"
        assert engine.requests == []
        await frontend.nothing_booked()


async def test_attempts_are_bounded_by_the_configured_number() -> None:
    async with (
        FakeEngine(hang_up) as first,
        FakeEngine(hang_up) as second,
        FakeEngine(replies(answer())) as third,
        running_frontend(first.url, second.url, third.url) as frontend,
    ):
        async with frontend.completion() as got:
            assert got.status == 502
        assert third.requests == []
        async with frontend.completion() as got:
            assert got.status == 200
        await frontend.nothing_booked()


async def test_an_engine_that_hangs_up_before_a_byte_is_tried_once_on_a_fresh_connection() -> None:
    async def handler(request: EngineRequest) -> None:
        if request.connection == 1:
            request.writer.close()
        else:
            request.writer.write(answer())

    async with FakeEngine(handler) as engine, running_frontend(engine.url) as frontend:
        async with frontend.completion() as got:
            assert got.status == 200
        assert [request.connection for request in engine.requests] == [1, 2]
        assert len(frontend.router.calls) == 1


async def test_a_kept_connection_that_closes_is_no_failure() -> None:
    """The engine answers once on each connection, then closes it when the next request comes."""

    async def handler(request: EngineRequest) -> None:
        if sum(r.connection == request.connection for r in engine.requests) > 1:
            request.writer.close()
        else:
            request.writer.write(answer())

    engine = FakeEngine(handler)
    async with engine, running_frontend(engine.url) as frontend:
        for _ in range(20):
            async with frontend.completion() as got:
                assert got.status == 200
        assert await frontend.metric("kvroute_request_failures_total") == 0


async def test_an_engine_that_dies_after_its_head_is_replaced() -> None:
    async def dies(request: EngineRequest) -> None:
        request.writer.write(STREAM_HEAD)
        await request.writer.drain()
        request.writer.close()

    whole = STREAM_HEAD + chunk(b"data: 1\n\n") + b"0\r\n\r\n"
    async with (
        FakeEngine(dies) as first,
        FakeEngine(replies(whole)) as second,
        running_frontend(first.url, second.url) as frontend,
    ):
        async with frontend.completion({"stream": True}) as got:
            assert got.status == 200
            assert await got.read() == b"data: 1\n\n"
        await frontend.nothing_booked()


async def test_a_stream_that_breaks_off_ends_with_an_error_and_without_its_end() -> None:
    async def dies(request: EngineRequest) -> None:
        request.writer.write(STREAM_HEAD + chunk(b"data: 1\n\n"))
        await request.writer.drain()
        await first_read.wait()
        request.writer.close()

    first_read = asyncio.Event()
    async with FakeEngine(dies) as engine, running_frontend(engine.url) as frontend:
        async with frontend.completion({"stream": True}) as got:
            assert await got.content.readuntil(b"\n\n") == b"data: 1\n\n"
            first_read.set()
            assert b"broke off" in await got.content.readuntil(b"\n\n")
            with pytest.raises(aiohttp.ClientPayloadError):
                await got.read()
        await frontend.nothing_booked()
        assert await frontend.metric("kvroute_request_failures_total", reason="broken") == 1


async def test_a_whole_answer_that_breaks_off_is_seen_as_broken() -> None:
    async def dies(request: EngineRequest) -> None:
        request.writer.write(answer(b"x" * 100)[:-50])
        await request.writer.drain()
        request.writer.close()

    async with FakeEngine(dies) as engine, running_frontend(engine.url) as frontend:
        async with frontend.completion() as got:
            with pytest.raises(aiohttp.ClientPayloadError):
                await got.read()
        await frontend.nothing_booked()


async def test_an_engine_that_stays_silent_is_a_timeout() -> None:
    async with (
        FakeEngine(never) as engine,
        running_frontend(engine.url, backend_read_timeout_seconds=0.1) as frontend,
    ):
        async with frontend.completion() as got:
            assert got.status == 504
            assert (await error_of(got))["type"] == "gateway_timeout"
        await frontend.nothing_booked()
        assert await frontend.metric("kvroute_request_failures_total", reason="timeout") == 1


async def test_an_engine_that_falls_silent_in_a_stream_ends_it() -> None:
    async def handler(request: EngineRequest) -> None:
        request.writer.write(STREAM_HEAD + chunk(b"data: 1\n\n"))
        await request.writer.drain()
        await request.left()

    async with (
        FakeEngine(handler) as engine,
        running_frontend(engine.url, backend_read_timeout_seconds=20) as frontend,
    ):
        async with frontend.completion({"stream": True}) as got:
            with LeapingClock().leaping(), pytest.raises(aiohttp.ClientPayloadError):
                await got.read()
        await frontend.nothing_booked()


async def test_no_answer_that_is_http_is_an_engines_failure() -> None:
    async with (
        FakeEngine(replies(b"SSH-2.0-OpenSSH\r\n\r\n")) as engine,
        running_frontend(engine.url) as frontend,
    ):
        async with frontend.completion() as got:
            assert got.status == 502
        await frontend.nothing_booked()


async def test_a_client_that_leaves_during_prefill_ends_the_engines_request() -> None:
    reached, left = asyncio.Event(), asyncio.Event()

    async def handler(request: EngineRequest) -> None:
        reached.set()
        await request.left()
        left.set()

    async with FakeEngine(handler) as engine, running_frontend(engine.url) as frontend:
        request = asyncio.create_task(post(frontend))
        await reached.wait()
        assert frontend.router.stats().reservations == 1
        request.cancel()  # closes the client's connection
        await left.wait()
        await frontend.nothing_booked()
        assert len(engine.requests) == 1
        assert await frontend.metric("kvroute_client_disconnects_total") == 1
        assert await frontend.metric("kvroute_request_failures_total") == 0
        assert await frontend.metric("kvroute_requests_in_flight") == 0


async def post(frontend: Frontend) -> bytes:
    async with frontend.completion({"stream": True}) as got:
        return bytes(await got.read())


async def test_a_client_that_leaves_mid_stream_ends_the_engines_request() -> None:
    left = asyncio.Event()

    async def handler(request: EngineRequest) -> None:
        request.writer.write(STREAM_HEAD + chunk(b"data: 1\n\n"))
        await request.left()
        left.set()

    async with FakeEngine(handler) as engine, running_frontend(engine.url) as frontend:
        async with frontend.completion({"stream": True}) as got:
            await got.content.readuntil(b"\n\n")
            got.close()
        await left.wait()
        await frontend.nothing_booked()


async def test_a_client_that_leaves_while_the_engine_tokenizes_books_nothing() -> None:
    reached, left = asyncio.Event(), asyncio.Event()

    async def handler(request: EngineRequest) -> None:
        assert request.path == "/tokenize"
        reached.set()
        await request.left()
        left.set()

    async with (
        FakeEngine(handler) as engine,
        running_frontend(engine.url, tokenize_timeout_seconds=30) as frontend,
    ):
        request = asyncio.create_task(post_text(frontend))
        await reached.wait()
        request.cancel()
        await left.wait()
        assert frontend.router.calls == []


async def post_text(frontend: Frontend) -> None:
    async with frontend.completion({"prompt": "some text"}) as got:
        await got.read()


async def test_a_client_that_leaves_in_its_body_books_nothing() -> None:
    async with (
        FakeEngine(replies(answer())) as engine,
        running_frontend(engine.url) as frontend,
    ):
        _, writer = await frontend.connect()
        writer.write(b"POST /v1/completions HTTP/1.1\r\nContent-Length: 100\r\n\r\n{")
        await writer.drain()
        writer.close()
        async with frontend.completion() as got:
            assert got.status == 200
        assert len(engine.requests) == 1


async def test_a_slow_client_holds_the_engine_back() -> None:
    """What an engine sends faster than the client reads is not piled up in the frontend."""
    sent = 0
    block = b"x" * 65536

    async def handler(request: EngineRequest) -> None:
        nonlocal sent
        request.writer.write(STREAM_HEAD)
        try:
            for _ in range(2000):
                request.writer.write(chunk(block))
                await asyncio.wait_for(request.writer.drain(), 0.5)
                sent += len(block)
        except asyncio.TimeoutError:
            stuck.set()
            return
        request.writer.write(b"0\r\n\r\n")

    stuck = asyncio.Event()
    async with FakeEngine(handler) as engine, running_frontend(engine.url) as frontend:
        async with frontend.completion({"stream": True}) as got:
            await asyncio.wait_for(stuck.wait(), 20)
            assert sent < 64 << 20
            got.close()
        await frontend.nothing_booked()


async def test_a_router_that_raises_answers_an_error_and_books_nothing() -> None:
    async with (
        FakeEngine(replies(answer())) as engine,
        running_frontend(engine.url) as frontend,
    ):
        frontend.router.workers.clear()
        async with frontend.completion() as got:
            assert got.status == 503
        assert frontend.router.stats().reservations == 0


async def test_a_client_that_stops_reading_is_left_after_a_while() -> None:
    left = asyncio.Event()

    async def handler(request: EngineRequest) -> None:
        request.writer.write(STREAM_HEAD)
        try:
            while True:
                request.writer.write(chunk(b"x" * 65536))
                await request.writer.drain()
        except ConnectionError:
            left.set()
            raise

    async with (
        FakeEngine(handler) as engine,
        running_frontend(engine.url, client_timeout_seconds=0.2) as frontend,
    ):
        _, writer = await frontend.connect()
        body = b'{"model": "m", "prompt": [1], "stream": true}'
        writer.write(
            b"POST /v1/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        await asyncio.wait_for(left.wait(), 20)  # nothing reads the answer
        await frontend.nothing_booked()
        writer.close()


async def test_a_fault_of_our_own_is_a_500_and_books_nothing() -> None:
    async with (
        FakeEngine(replies(answer())) as engine,
        running_frontend(engine.url) as frontend,
    ):
        frontend.router.chosen.clear()  # makes the fake router raise KeyError
        async with frontend.completion() as got:
            assert got.status == 500
            assert (await error_of(got))["type"] == "internal_error"
        assert frontend.router.stats().reservations == 0


async def test_a_request_that_is_cut_off_by_the_shutdown_books_nothing() -> None:
    reached = asyncio.Event()

    async def handler(request: EngineRequest) -> None:
        reached.set()
        await request.left()

    async with FakeEngine(handler) as engine:
        async with running_frontend(engine.url) as frontend:
            router = frontend.router
            request = asyncio.create_task(post(frontend))
            await reached.wait()
        assert router.closed
        assert router.stats().reservations == 0
        with pytest.raises(aiohttp.ClientError):
            await request

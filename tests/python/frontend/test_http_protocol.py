"""Bounds on a request's head, also on a connection that has served requests."""

from __future__ import annotations

import asyncio

import pytest
from frontend_harness import EngineRequest, FakeEngine, answer, running_frontend

REQUEST = b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n"


async def read_answer(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    (length,) = (
        int(line.split(b":")[1])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length")
    )
    await reader.readexactly(length)


@pytest.mark.parametrize("start", [b"G", b"GET / HTTP/1.1\r\nX-Slow: ", b"\r\n"])
async def test_a_later_head_that_never_ends_is_given_up(start: bytes) -> None:
    async with running_frontend("http://127.0.0.1:1", head_timeout=0.2) as frontend:
        reader, writer = await frontend.connect()
        for _ in range(2):
            writer.write(REQUEST)
            await asyncio.wait_for(read_answer(reader), 10)
        writer.write(start)
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()


async def test_a_later_head_without_end_is_cut_off() -> None:
    async with running_frontend("http://127.0.0.1:1") as frontend:
        reader, writer = await frontend.connect()
        writer.write(REQUEST)
        await asyncio.wait_for(read_answer(reader), 10)
        writer.write(b"GET /health HTTP/1.1\r\nX-Endless: ")
        writer.write(b"x" * 4000)
        answered = await asyncio.wait_for(reader.read(), 10)
        assert answered.startswith(b"HTTP/1.1 431 ")
        writer.close()


async def test_the_next_requests_head_does_not_end_an_answer() -> None:
    go_on = asyncio.Event()

    async def handler(request: EngineRequest) -> None:
        await go_on.wait()
        request.writer.write(answer(b'{"done": 1}'))

    async with (
        FakeEngine(handler) as engine,
        running_frontend(engine.url, head_timeout=0.1) as frontend,
    ):
        reader, writer = await frontend.connect()
        body = b'{"prompt": [1]}'
        writer.write(
            b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%sGET /hea"
            % (len(body), body)
        )
        asyncio.get_running_loop().call_later(0.4, go_on.set)
        answered = await asyncio.wait_for(reader.read(), 10)
        assert answered.endswith(b'{"done": 1}')
        writer.close()


async def test_requests_in_many_pieces_and_in_one_are_served() -> None:
    async with running_frontend("http://127.0.0.1:1") as frontend:
        reader, writer = await frontend.connect()
        writer.write(REQUEST * 3)
        for _ in range(3):
            await asyncio.wait_for(read_answer(reader), 10)
        for _ in range(2):
            for byte in REQUEST:
                writer.write(bytes([byte]))
                await writer.drain()
            await asyncio.wait_for(read_answer(reader), 10)
        writer.close()

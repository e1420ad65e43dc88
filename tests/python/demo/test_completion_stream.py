"""A streamed completion as the client reads it, against an engine of scripted bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import aiohttp
import orjson
import pytest
from aiohttp import web
from kvroute.demo import completion_stream
from kvroute.demo.completion_stream import CompletionError, stream_completion

Serve: TypeAlias = Callable[[Any], Awaitable[str]]


def event(content: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(content) + b"\n\n"


TOKEN = event({"choices": [{"text": "a b", "finish_reason": None}]})
DONE = b"data: [DONE]\n\n"


def usage(prompt: int, cached: int | None, completion: int) -> bytes:
    details = None if cached is None else {"cached_tokens": cached}
    counts = {"prompt_tokens": prompt, "completion_tokens": completion}
    return event({"choices": [], "usage": {**counts, "prompt_tokens_details": details}})


def answering(*pieces: bytes, worker: str | None = "http://w") -> Any:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        if worker is not None:
            response.headers["x-kvroute-worker"] = worker
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(0)
        return response

    return handler


class Clock:
    """In place of the `time` that the client looks at; stands until it is set."""

    def __init__(self) -> None:
        self.now = 100.0
        self.looked = asyncio.Event()

    def perf_counter(self) -> float:
        self.looked.set()
        return self.now


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(completion_stream, "time", clock)
    return clock


async def test_reads_usage_worker_and_time(
    serve: Serve, session: aiohttp.ClientSession, clock: Clock
) -> None:
    seen: list[dict[str, Any]] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append(orjson.loads(await request.read()))
        clock.now += 7.0
        answer: web.StreamResponse = await answering(TOKEN, TOKEN, usage(3, 2, 5), DONE)(request)
        return answer

    completion = await stream_completion(session, await serve(handler), "m", [7, 8, 9], 5)
    assert completion.time_to_first_token == 7.0
    assert completion.worker == "http://w"
    assert (completion.prompt_tokens, completion.cached_tokens) == (3, 2)
    assert completion.completion_tokens == 5
    assert seen == [
        {
            "model": "m",
            "prompt": [7, 8, 9],
            "max_tokens": 5,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ]


async def test_time_to_first_token_ends_at_the_first_event(
    serve: Serve, session: aiohttp.ClientSession, clock: Clock
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        clock.looked.clear()
        clock.now += 7.0
        await response.write(TOKEN)
        await asyncio.wait_for(clock.looked.wait(), 30)
        clock.now += 50.0
        await response.write(TOKEN + usage(1, None, 2) + DONE)
        return response

    url = await serve(handler)
    completion = await stream_completion(session, url, "m", [1], 2)
    assert completion.time_to_first_token == 7.0
    assert completion.cached_tokens == 0
    assert completion.worker is None


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
async def test_events_may_be_cut_anywhere(
    serve: Serve, session: aiohttp.ClientSession, size: int
) -> None:
    stream = TOKEN + b": a comment\n\n" + TOKEN + usage(1, 0, 2) + DONE
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    completion = await stream_completion(session, await serve(answering(*pieces)), "m", [1], 2)
    assert completion.completion_tokens == 2


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ((TOKEN, usage(1, 0, 2)), "without its end mark"),
        ((TOKEN, TOKEN, DONE), "has no usage"),
        ((DONE,), "has no usage"),
        ((TOKEN, usage(1, 0, 1), DONE), "and 2 completion tokens, got 1 and 1"),
        ((TOKEN, usage(9, 0, 2), DONE), "usage of 1 prompt and 2 .* got 9 and 2"),
        ((TOKEN, event({"error": {"message": "died"}}), DONE), "error event: .*died"),
        ((TOKEN, b"data: not JSON\n\n", DONE), "has no usage: data: not JSON"),
        ((b"data: " + b"x" * (2 << 20),), "longer than 1048576 bytes"),
    ],
)
async def test_a_broken_stream_is_a_failure(
    serve: Serve, session: aiohttp.ClientSession, pieces: tuple[bytes, ...], message: str
) -> None:
    with pytest.raises(CompletionError, match=message):
        await stream_completion(session, await serve(answering(*pieces)), "m", [1], 2)


async def test_another_status_is_a_failure_with_its_text(
    serve: Serve, session: aiohttp.ClientSession
) -> None:
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"message": "too busy"}}, status=503)

    with pytest.raises(CompletionError, match=r"status 503: .*too busy"):
        await stream_completion(session, await serve(handler), "m", [1], 2)

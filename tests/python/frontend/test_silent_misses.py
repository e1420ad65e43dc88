"""KV-aware routing that misses is noticed: the frontend before simulated engines that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

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
from kvroute.engines import CostModel, SimulatedEngine
from kvroute.frontend.cache_watch import LEAST, WINDOW
from kvroute.frontend.event_watch import FIRST_CHECK
from kvroute.frontend.protocols import core_router

BLOCK = 16
PROMPT_BLOCKS = 6


@contextlib.asynccontextmanager
async def before(engine: SimulatedEngine, **options: Any) -> AsyncIterator[Frontend]:
    """A frontend with the native router before one engine."""
    endpoints = {"kv_events": engine.kv_events, "kv_replay": engine.kv_replay}
    patience = {"backend_connect_timeout_seconds": 60}
    settings = {"block_size": BLOCK, **endpoints, **patience, **options}
    async with running_frontend(engine.http_url, make_router=core_router, **settings) as frontend:
        yield frontend


def simulated(**settings: Any) -> SimulatedEngine:
    return SimulatedEngine(
        **{
            "model": "m",
            "block_size": BLOCK,
            "num_blocks": 4096,
            "cost": CostModel(speed=1000.0),
            **settings,
        }
    )


def prompt(number: int) -> list[int]:
    """The same two blocks, then four of its own."""
    own = [1 + (number * 7 + place) % 30_000 for place in range((PROMPT_BLOCKS - 2) * BLOCK)]
    return [9] * (2 * BLOCK) + own


async def ask(frontend: Frontend, body: dict[str, Any], *, stream: bool = False) -> Any:
    body = {"max_tokens": 2, **body}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    async with frontend.completion(body) as got:
        assert got.status == 200, await got.text()
        return await got.read()


async def ask_all(
    frontend: Frontend, prompts: Iterable[list[int]], *, stream: bool = False
) -> None:
    await asyncio.gather(*(ask(frontend, {"prompt": one}, stream=stream) for one in prompts))


async def until(frontend: Frontend, least: int, name: str, **labels: str) -> None:
    """Returns when a metric is so high. The event thread cannot wake this loop."""
    while await frontend.metric(name, **labels) < least:  # noqa: ASYNC110
        await asyncio.sleep(0.005)


async def announced(frontend: Frontend, blocks: int) -> None:
    """Returns when the router knows of so many stored blocks."""
    await until(frontend, blocks, "kvroute_kv_events_total", kind="stored_blocks")


def told(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    """The causes that the log tells from this level on, in order."""
    causes = (
        "misses", "unforeseen_hits", "prompt_length", "no_events", "unreported", "reports_ended",
    )  # fmt: skip
    return [
        cause
        for record in caplog.records
        if record.name == "kvroute.frontend" and record.levelno >= level
        for cause in causes
        if f": {cause}: " in record.getMessage()
    ]


async def compared(frontend: Frontend) -> float:
    return await frontend.metric("kvroute_cache_compared_requests_total")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_healthy_engine_is_compared_and_nothing_is_said(
    stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with simulated() as engine, before(engine) as frontend:
        await ask(frontend, {"prompt": prompt(0)}, stream=stream)
        await announced(frontend, PROMPT_BLOCKS)
        for _ in range(2):
            await ask_all(frontend, map(prompt, range(LEAST)), stream=stream)
            await announced(frontend, 2 + 4 * LEAST)
        assert told(caplog, logging.INFO) == []
        assert await compared(frontend) == 2 * LEAST
        predicted = await frontend.metric("kvroute_cache_predicted_tokens_total")
        assert predicted == await frontend.metric("kvroute_cache_reported_tokens_total")
        assert predicted >= LEAST * (2 + PROMPT_BLOCKS - 1) * BLOCK
        assert await frontend.metric("kvroute_prompt_length_mismatches_total") == 0
        assert await frontend.metric("kvroute_cache_problem") == 0


@pytest.mark.parametrize("report_cached", ["always", "hits"])
async def test_an_engine_that_forgets_without_a_word_is_noticed_once_and_so_is_its_recovery(
    report_cached: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As vLLM reports ("hits"), some hits must be left: else it might as well not report."""
    caplog.set_level(logging.INFO)
    async with simulated(report_cached=report_cached) as engine, before(engine) as frontend:
        for number in range(4):
            await ask(frontend, {"prompt": prompt(number)})
        await announced(frontend, 2 + 4 * 4)
        for number in range(LEAST + 8):
            if number % 3:
                assert engine.core.cache.clear()
                engine.core.cache.take_events()  # nobody hears of it
            await ask(frontend, {"prompt": prompt(number % 4)})
        assert told(caplog) == ["misses"]
        message = next(r.getMessage() for r in caplog.records if ": misses: " in r.getMessage())
        assert engine.http_url in message
        assert "Its KV events: connected" in message
        assert await frontend.metric("kvroute_cache_problem", cause="misses") == 1
        for number in range(4):
            await ask(frontend, {"prompt": prompt(number)})
        await ask_all(frontend, (prompt(number % 4) for number in range(WINDOW)))
        assert told(caplog) == ["misses"]
        assert "misses: well again" in caplog.text
        assert await frontend.metric("kvroute_cache_problem") == 0


async def test_an_engine_that_hits_nothing_and_reports_only_hits_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with simulated(report_cached="hits") as engine, before(engine) as frontend:
        await ask(frontend, {"prompt": prompt(0)})
        await announced(frontend, PROMPT_BLOCKS)
        await ask(frontend, {"prompt": prompt(0)})
        for _ in range(LEAST):
            assert engine.core.cache.clear()
            engine.core.cache.take_events()
            await ask(frontend, {"prompt": prompt(0)})
        assert told(caplog) == ["reports_ended"]


async def test_an_engine_that_does_not_report_is_no_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with simulated(report_cached="never") as engine, before(engine) as frontend:
        await ask_all(frontend, [prompt(0)] * (2 * LEAST))
        assert told(caplog) == []
        assert told(caplog, logging.INFO) == ["unreported"]
        assert "--enable-prompt-tokens-details" in caplog.text
        assert await compared(frontend) == 0


async def test_an_engine_that_holds_more_than_the_router_knows_is_noticed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It was filled before the router came, and does not say so."""
    known = [[number + 1] * (4 * BLOCK) for number in range(LEAST)]
    async with simulated(kv_replay=None) as engine:
        async with before(engine, kv_events=[], kv_replay=[]) as other:
            await ask_all(other, known)
        async with before(engine) as frontend:
            await ask_all(frontend, known)
        assert told(caplog) == ["unforeseen_hits"]


async def test_a_silent_event_endpoint_is_noticed_once(
    unused_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = unused_url.replace("http", "tcp")
    async with (
        simulated(kv_events=None, kv_replay=None) as engine,
        before(engine, kv_events=endpoint, kv_replay=[]) as frontend,
    ):
        await ask_all(frontend, map(prompt, range(FIRST_CHECK - 1)))
        assert told(caplog) == []
        await ask_all(frontend, map(prompt, range(FIRST_CHECK - 1, 3 * FIRST_CHECK)))
        assert told(caplog) == ["no_events"]
        assert f"no publisher answers at {endpoint}" in caplog.text
        assert await frontend.metric("kvroute_cache_problem", cause="no_events") == 1


async def test_a_publisher_that_says_nothing_is_told_from_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        simulated(kv_events=None, kv_replay=None) as engine,
        simulated() as other,
        before(engine, kv_events=other.kv_events, kv_replay=[]) as frontend,
    ):
        await until(frontend, 1, "kvroute_kv_events_connected")
        await ask_all(frontend, map(prompt, range(FIRST_CHECK)))
        assert told(caplog) == ["no_events"]
        assert "is connected and silent" in caplog.text


async def test_events_that_come_late_end_the_warning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with (
        simulated(kv_events=None, kv_replay=None) as engine,
        simulated() as publisher,
        before(engine, kv_events=publisher.kv_events, kv_replay=[]) as frontend,
    ):
        await until(frontend, 1, "kvroute_kv_events_connected")
        await ask_all(frontend, map(prompt, range(FIRST_CHECK)))
        assert told(caplog) == ["no_events"]
        async with before(publisher, kv_events=[], kv_replay=[]) as other:
            await ask(other, {"prompt": [5] * (4 * BLOCK)})
        await announced(frontend, 1)
        await ask_all(frontend, map(prompt, range(FIRST_CHECK, 2 * FIRST_CHECK)))
        assert "no_events: well again" in caplog.text
        assert await frontend.metric("kvroute_cache_problem", cause="no_events") == 0


async def test_another_block_size_is_named(caplog: pytest.LogCaptureFixture) -> None:
    async with simulated(block_size=2 * BLOCK) as engine, before(engine) as frontend:
        await ask_all(frontend, map(prompt, range(FIRST_CHECK - 1)))
        await until(frontend, 1, "kvroute_kv_events_total", kind="refused_block_size")
        await ask(frontend, {"prompt": prompt(FIRST_CHECK)})
        assert told(caplog) == ["no_events"]
        assert "--block-size is 16 and must be the engine's" in caplog.text


async def test_a_router_that_tokenizes_otherwise_is_told_so(
    tokenizer_directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with simulated() as engine, before(engine, tokenizer=tokenizer_directory) as frontend:
        for number in range(LEAST):
            messages = [{"role": "user", "content": f"tell me of {number:04} foxes " * 5}]
            async with frontend.chat({"messages": messages, "max_tokens": 2}) as got:
                usage = (await got.json())["usage"]
        assert told(caplog)[0] == "prompt_length"
        assert f"the last: {usage['prompt_tokens']}, not " in caplog.text
        assert await frontend.metric("kvroute_prompt_length_mismatches_total") == LEAST
        assert await frontend.metric("kvroute_cache_problem", cause="prompt_length") == 1


async def test_a_model_whose_texts_nobody_tokenizes_is_named_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    tokenizes = False

    async def handler(request: EngineRequest) -> None:
        if request.path == "/tokenize" and not tokenizes:
            request.writer.write(answer(b"{}", status="404 Not Found"))
        else:
            request.writer.write(answer({"tokens": [1, 2, 3]}))

    def warnings() -> list[str]:
        return [
            r.getMessage() for r in caplog.records if "could not be tokenized" in r.getMessage()
        ]

    async with FakeEngine(handler) as engine, running_frontend(engine.url) as frontend:

        async def texts(count: int) -> None:
            for _ in range(count):
                async with frontend.completion({"prompt": "a text"}) as got:
                    assert got.status == 200

        await texts(LEAST - 1)
        assert warnings() == []
        await texts(LEAST)
        (warning,) = warnings()
        assert warning.startswith("model m: of the last 32 texts and chats 32 could not")
        tokenizes = True
        await texts(WINDOW)
        assert "texts and chats are tokenized again" in caplog.text
        assert len(warnings()) == 1


def usage(cached: int | None, length: int = 3) -> dict[str, Any]:
    details = None if cached is None else {"cached_tokens": cached}
    return {"prompt_tokens": length, "prompt_tokens_details": details}


async def compared_after(
    reply: bytes | Callable[[EngineRequest], bytes], body: dict[str, Any]
) -> float:
    """Requests that were compared after this one; FakeRouter predicts 32 tokens of any prompt."""
    async with FakeEngine(replies(reply)) as engine, running_frontend(engine.url) as frontend:
        async with frontend.completion(body) as got:
            await got.read()
        await frontend.nothing_booked()
        return await compared(frontend)


LONG = {"prompt": list(range(100))}


@pytest.mark.parametrize(
    ("changed", "count"),
    [
        ({}, 1),
        ({"n": 2}, 0),
        ({"prompt": [[1] * 100, [2] * 100]}, 0),
        ({"echo": True}, 0),
        ({"prompt_logprobs": 1}, 0),
        ({"prompt": "a text whose tokens nobody tells"}, 0),
    ],
)
async def test_only_what_can_be_compared_is(changed: dict[str, Any], count: int) -> None:
    reply = answer({"choices": [], "usage": usage(64, 100)})
    assert await compared_after(reply, {**LONG, **changed}) == count


@pytest.mark.parametrize("status", ["400 Bad Request", "500 Internal Server Error"])
async def test_an_error_is_not_compared(status: str) -> None:
    assert await compared_after(answer({"usage": usage(64, 100)}, status=status), LONG) == 0


async def test_a_stream_that_breaks_off_is_not_compared() -> None:
    line = b"data: " + json.dumps({"usage": usage(64, 100)}).encode() + b"\n\n"

    async def handler(request: EngineRequest) -> None:
        request.writer.write(STREAM_HEAD + chunk(line))
        await request.writer.drain()
        request.writer.close()

    async with FakeEngine(handler) as engine, running_frontend(engine.url) as frontend:
        with contextlib.suppress(Exception):
            async with frontend.completion(LONG) as got:
                await got.read()
        await frontend.nothing_booked()
        assert await compared(frontend) == 0


async def test_a_client_gets_the_engines_very_bytes() -> None:
    lines = [b'data: {"choices":[{"text":"a"}],"usage":null}\n\n'] * 40
    lines += [b"data: " + json.dumps({"usage": usage(64, 100)}).encode() + b"\n\n"]
    lines += [b"data: [DONE]\n\n"]
    body = b"".join(lines)
    reply = STREAM_HEAD + b"".join(map(chunk, lines)) + b"0\r\n\r\n"
    async with FakeEngine(replies(reply)) as engine, running_frontend(engine.url) as frontend:
        sent = json.dumps({"model": "m", **LONG, "stream": True}).encode()
        async with frontend.completion(sent) as got:
            assert await got.read() == body
        assert engine.requests[0].body == sent
        await frontend.nothing_booked()
        assert await compared(frontend) == 1

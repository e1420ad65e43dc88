"""A simulated engine without HTTP answers as the one with HTTP does."""

from __future__ import annotations

import asyncio
import json
from array import array
from typing import Any

import kvroute
import pytest
from kvroute.engines import CostModel, EmbeddedEngine
from kvroute.engines.errors import EngineStoppedError, RequestRefusedError

FAST = CostModel(speed=1000)
PROMPT = array("I", range(1, 65))


async def answered(engine: EmbeddedEngine, body: dict[str, Any], ids: Any = None) -> dict[str, Any]:
    (answer,) = [part async for part in engine.answer(body, ids)]
    decoded = json.loads(answer)
    assert isinstance(decoded, dict)
    return decoded


async def streamed(engine: EmbeddedEngine, body: dict[str, Any], ids: Any = None) -> list[str]:
    parts = [part async for part in engine.answer({**body, "stream": True}, ids)]
    events = b"".join(parts).decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    return events[:-2]


async def test_token_ids_of_the_caller_are_the_prompt() -> None:
    async with EmbeddedEngine(cost=FAST) as engine:
        for body in ({"prompt": "another"}, {}, {"messages": [{"role": "user", "content": "x"}]}):
            answer = await answered(engine, {**body, "max_tokens": 4}, PROMPT)
            assert answer["usage"]["prompt_tokens"] == 64
            assert answer["usage"]["completion_tokens"] == 4
        assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] > 0


async def test_a_stream_ends_with_usage_and_done() -> None:
    async with EmbeddedEngine(cost=FAST) as engine:
        body = {"prompt": "hi", "max_tokens": 5, "stream_options": {"include_usage": True}}
        *_, usage = await streamed(engine, body)
        assert json.loads(usage.removeprefix("data: "))["usage"]["completion_tokens"] == 5


async def test_a_chat_is_rendered_where_no_token_ids_are_given() -> None:
    async with EmbeddedEngine(cost=FAST) as engine:
        chat = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3}
        first, *_ = await streamed(engine, chat)
        assert (
            json.loads(first.removeprefix("data: "))["choices"][0]["delta"]["role"] == "assistant"
        )


async def test_a_router_hears_of_its_blocks() -> None:
    async with EmbeddedEngine(cost=FAST, block_size=16) as engine:
        with kvroute.KvRouter(block_size=16) as router:
            router.add_worker("w", kv_events=engine.kv_events, kv_replay=engine.kv_replay)
            await answered(engine, {"max_tokens": 1}, PROMPT)
            deadline = asyncio.get_running_loop().time() + 30
            while router.overlaps(PROMPT).get(("w", 0), 0) < 4:
                assert asyncio.get_running_loop().time() < deadline
                await asyncio.sleep(0.01)


async def test_a_stream_that_is_closed_gives_its_request_up() -> None:
    async with EmbeddedEngine() as engine:
        stream = engine.answer({"max_tokens": 10_000, "stream": True}, PROMPT)
        await anext(stream)
        assert engine.load["running"] == 1
        await stream.aclose()
        assert engine.load["running"] == 0


async def test_what_runs_when_the_engine_stops_ends_with_an_error() -> None:
    async with EmbeddedEngine() as engine:
        stream = engine.answer({"max_tokens": 10_000, "stream": True}, PROMPT)
        await anext(stream)
        await engine.core.stop()
        with pytest.raises(EngineStoppedError):
            [chunk async for chunk in stream]


@pytest.mark.parametrize("body", [{"prompt": []}, {"prompt": "a", "max_tokens": 0}])
async def test_a_request_that_makes_no_sense_is_refused(body: dict[str, Any]) -> None:
    async with EmbeddedEngine() as engine:
        with pytest.raises(RequestRefusedError):
            await answered(engine, body)

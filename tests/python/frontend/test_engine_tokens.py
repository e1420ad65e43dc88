"""Which engines are asked for tokens when some of them fail."""

from __future__ import annotations

from typing import Any

import pytest
from frontend_harness import EngineRequest, FakeEngine, Frontend, Handler, answer, running_frontend
from leaping_clock import LeapingClock


def tokenizing(tokenize: bytes | None) -> Handler:
    """An engine that answers everything, and /tokenize with these bytes, or never."""

    async def handler(request: EngineRequest) -> None:
        if request.path != "/tokenize":
            request.writer.write(answer())
        elif tokenize is None:
            await request.left()
        else:
            request.writer.write(tokenize)

    return handler


def asked(engine: FakeEngine) -> int:
    return sum(request.path == "/tokenize" for request in engine.requests)


async def complete(frontend: Frontend, times: int, **body: Any) -> None:
    for _ in range(times):
        async with frontend.completion({"prompt": "some text", **body}) as got:
            assert got.status == 200


GOOD = answer({"tokens": [7, 8]})


@pytest.mark.parametrize(
    "bad",
    [
        None,
        answer(b"{}", status="500 Internal Server Error"),
        answer(b"not json"),
        answer({"tokens": [-1]}),
        answer({"tokens": ["a"]}),
        b"garbage\r\n\r\n",
    ],
)
async def test_another_engine_is_asked_and_the_failed_one_rests(bad: bytes | None) -> None:
    async with (
        FakeEngine(tokenizing(bad)) as first,
        FakeEngine(tokenizing(GOOD)) as second,
        running_frontend(first.url, second.url, tokenize_timeout_seconds=20) as frontend,
    ):
        with LeapingClock().leaping():
            await complete(frontend, 6)
        assert [call["token_ids"] for call in frontend.router.calls] == [[7, 8]] * 6
        assert asked(second) == 6
        assert asked(first) == 1
        assert await frontend.metric("kvroute_tokenizations_total", source="engine") == 6


async def test_an_unreachable_engine_is_passed_over(unused_url: str) -> None:
    async with (
        FakeEngine(tokenizing(GOOD)) as engine,
        running_frontend(unused_url, engine.url) as frontend,
    ):
        await complete(frontend, 4)
        assert [call["token_ids"] for call in frontend.router.calls] == [[7, 8]] * 4
        assert asked(engine) == 4
        assert await frontend.metric("kvroute_reroutes_total") == 0


async def test_a_rested_engine_is_asked_again() -> None:
    async with (
        FakeEngine(tokenizing(answer(b"{}", status="500 Oops"))) as engine,
        running_frontend(engine.url, backend_cooldown_seconds=0) as frontend,
    ):
        await complete(frontend, 3)
        assert asked(engine) == 3


async def test_a_prompt_that_an_engine_refuses_is_no_failure_of_the_engine() -> None:
    async with (
        FakeEngine(tokenizing(answer(b"{}", status="400 Bad Request"))) as first,
        FakeEngine(tokenizing(answer(b"{}", status="400 Bad Request"))) as second,
        running_frontend(first.url, second.url) as frontend,
    ):
        await complete(frontend, 4)
        assert (asked(first), asked(second)) == (2, 2)
        assert await frontend.metric("kvroute_tokenizations_total", source="none") == 4


async def test_a_long_prompt_that_takes_too_long_lets_no_engine_rest() -> None:
    async with (
        FakeEngine(tokenizing(None)) as engine,
        running_frontend(engine.url, tokenize_timeout_seconds=20) as frontend,
    ):
        with LeapingClock().leaping():
            await complete(frontend, 2, prompt="x" * 300_000)
            assert asked(engine) == 2
            await complete(frontend, 2)
            assert asked(engine) == 3


async def test_a_batch_of_texts_moves_to_the_next_engine_whole() -> None:
    async def sick(request: EngineRequest) -> None:
        if request.path == "/tokenize" and request.json["prompt"] == "b":
            request.writer.write(answer(b"{}", status="500 Oops"))
        else:
            request.writer.write(GOOD)

    async with (
        FakeEngine(sick) as first,
        FakeEngine(tokenizing(GOOD)) as second,
        running_frontend(first.url, second.url) as frontend,
    ):
        await complete(frontend, 1, prompt=["a", "b", "c"])
        assert [call["token_ids"] for call in frontend.router.calls] == [[7, 8]] * 3
        assert asked(second) == 3


async def test_what_vllm_gives_a_chats_template_reaches_the_engines_tokenizer() -> None:
    body = {
        "chat_template_kwargs": {"a": 1, "reasoning_effort": "low"},
        "reasoning_effort": "high",
        "documents": [{"title": "t", "text": "x"}],
        "add_special_tokens": True,
    }
    async with (
        FakeEngine(tokenizing(GOOD)) as engine,
        running_frontend(engine.url) as frontend,
        frontend.chat(body) as got,
    ):
        assert got.status == 200
        assert engine.requests[0].json == {
            "model": "m",
            "messages": [{"role": "user", "content": "hello"}],
            "add_special_tokens": True,
            "chat_template_kwargs": {
                "a": 1,
                "reasoning_effort": "high",
                "documents": [{"title": "t", "text": "x"}],
            },
        }

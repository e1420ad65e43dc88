"""What a request asks of the router, and where its tokens come from."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from frontend_harness import (
    STREAM_HEAD,
    EngineRequest,
    FakeEngine,
    answer,
    chunk,
    replies,
    running_frontend,
)


def counting(tokens: Any) -> Any:
    """An engine that tokenizes to `tokens` and answers everything else."""

    async def handler(request: EngineRequest) -> None:
        if request.path == "/tokenize":
            request.writer.write(answer({"count": 3, "tokens": tokens}))
        else:
            request.writer.write(answer())

    return handler


async def test_token_ids_go_to_the_router_with_salt_and_length() -> None:
    async with (
        FakeEngine(replies(answer())) as engine,
        running_frontend(engine.url) as frontend,
    ):
        body = {"prompt": [5, 6, 7], "cache_salt": "tenant", **hinted(40)}
        async with frontend.completion(body) as got:
            assert got.status == 200
        (call,) = frontend.router.calls
        assert call == {
            "token_ids": [5, 6, 7],
            "allowed": None,
            "expected": 40,
            "session": None,
            "salt": "tenant",
            "namespace": None,
        }
        assert await frontend.metric("kvroute_tokenizations_total", source="request") == 1
        assert await frontend.metric("kvroute_prompt_tokens_total") == 3
        assert await frontend.metric("kvroute_overlap_tokens_total") == 32


def hinted(length: Any) -> dict[str, Any]:
    """A body's part: what Dynamo's clients say of the answer's length."""
    return {"nvext": {"agent_hints": {"osl": length}}}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, None),
        # A bound is no expectation: a client that allows 100,000 tokens would else weigh as much.
        ({"max_tokens": 100_000}, None),
        ({"max_tokens": 100_000, "max_completion_tokens": 90_000}, None),
        (hinted(50), 50),
        (hinted(50) | {"max_tokens": 40}, 40),
        (hinted(50) | {"max_tokens": 40, "max_completion_tokens": 9}, 9),
        (hinted(50) | {"max_tokens": "x", "max_completion_tokens": 99}, 50),
        ({"nvext": {"agent_hints": [50]}}, None),
        ({"nvext": 50}, None),
    ],
)
async def test_the_answers_length_is_what_the_client_expects(
    body: dict[str, Any], expected: int | None
) -> None:
    async with (
        FakeEngine(counting([1, 2, 3])) as engine,
        running_frontend(engine.url) as frontend,
    ):
        async with frontend.chat(body):
            pass
        assert frontend.router.calls[-1]["expected"] == expected


async def test_a_batch_is_routed_by_its_first_prompt_and_booked_whole() -> None:
    booked: list[int] = []

    async def handler(request: EngineRequest) -> None:
        booked.append(frontend.router.stats().reservations)
        request.writer.write(STREAM_HEAD + chunk(b"data: 1\n\n") + b"0\r\n\r\n")

    async with (
        FakeEngine(handler) as first,
        FakeEngine(handler) as second,
        running_frontend(first.url, second.url) as frontend,
    ):
        async with frontend.completion({"prompt": [[1, 2], [3], [4]], "n": 2}) as got:
            chosen = got.headers["x-kvroute-worker"]
        calls = frontend.router.calls
        assert [call["token_ids"] for call in calls] == [[1, 2], [1, 2], [3], [3], [4], [4]]
        assert [call["allowed"] for call in calls] == [None, *[[(chosen, 0)]] * 5]
        assert booked == [6]
        assert all(r.first_tokens == 1 for r in frontend.router.reservations)
        await frontend.nothing_booked()


async def test_a_batch_of_texts_is_tokenized_by_one_engine_and_booked_whole() -> None:
    async with (
        FakeEngine(counting([1, 2])) as first,
        FakeEngine(counting([1, 2])) as second,
        running_frontend(first.url, second.url) as frontend,
    ):
        async with frontend.completion({"prompt": list("abcdefghij")}) as got:
            assert got.status == 200
        calls = frontend.router.calls
        assert [call["token_ids"] for call in calls[:8]] == [[1, 2]] * 8
        assert [call["namespace"] is None for call in calls] == [True] * 8 + [False] * 2
        asked = [r.json["prompt"] for r in first.requests if r.path == "/tokenize"]
        assert sorted(asked) == list("abcdefgh")
        await frontend.nothing_booked()


@pytest.mark.parametrize("policy", ["kv_cost", "round_robin"])
async def test_a_batch_without_tokens_is_booked_whole(policy: str) -> None:
    async with (
        FakeEngine(replies(answer())) as engine,
        running_frontend(engine.url, routing_logic=policy) as frontend,
    ):
        async with frontend.completion({"prompt": ["a", "b"], "n": 2}) as got:
            assert got.status == 200
        assert len(frontend.router.calls) == 4


@pytest.mark.parametrize("length", [0, -1, True, "9", 1.5, 10**30, None])
async def test_an_implausible_length_is_left_to_the_engine(length: Any) -> None:
    async with (
        FakeEngine(replies(answer())) as engine,
        running_frontend(engine.url) as frontend,
    ):
        async with frontend.completion(hinted(length)) as got:
            assert got.status == 200
        assert frontend.router.calls[-1]["expected"] is None


async def test_what_a_huge_batch_books_is_bounded() -> None:
    async with (
        FakeEngine(replies(answer())) as engine,
        running_frontend(engine.url) as frontend,
    ):
        async with frontend.completion({"prompt": [1], "n": 10**9}) as got:
            assert got.status == 200
        assert len(frontend.router.calls) == 256
        await frontend.nothing_booked()


async def test_the_tokens_that_copies_book_are_bounded() -> None:
    ids = list(range(600_000))
    async with (
        FakeEngine(replies(answer())) as engine,
        running_frontend(engine.url) as frontend,
    ):
        async with frontend.completion({"prompt": [ids, [5], ids], "n": 2}) as got:
            assert got.status == 200
        lengths = [len(call["token_ids"]) for call in frontend.router.calls]
        assert lengths == [600_000, 1, 1, 1, 1, 1]
        known = [call["namespace"] is None for call in frontend.router.calls]
        assert known == [True, False, False, False, False, False]


@pytest.mark.parametrize("embeddings", ["YWJj", ["YWJj", "ZGVm"]])
async def test_a_prompt_of_embeddings_is_routed_by_load(embeddings: Any) -> None:
    async with (
        FakeEngine(replies(answer())) as engine,
        running_frontend(engine.url) as frontend,
    ):
        body = json.dumps({"model": "m", "prompt_embeds": embeddings}).encode()
        async with frontend.completion(body) as got:
            assert got.status == 200
        count = len(embeddings) if isinstance(embeddings, list) else 1
        assert [call["namespace"] is None for call in frontend.router.calls] == [False] * count
        assert [request.path for request in engine.requests] == ["/v1/completions"]
        assert engine.requests[0].body == body
        assert await frontend.metric("kvroute_tokenizations_total", source="none") == 1


async def test_an_engine_tokenizes_where_there_is_no_tokenizer() -> None:
    async with (
        FakeEngine(counting([7, 8, 9])) as engine,
        running_frontend(engine.url) as frontend,
    ):
        body = {"prompt": "text", "add_special_tokens": False, "temperature": 1}
        async with frontend.completion(body, headers={"Authorization": "Bearer k"}):
            pass
        asked = engine.requests[0]
        assert asked.path == "/tokenize"
        assert asked.json == {"model": "m", "prompt": "text", "add_special_tokens": False}
        assert asked.headers["authorization"] == "Bearer k"
        assert frontend.router.calls[-1]["token_ids"] == [7, 8, 9]

        tools = [{"type": "function", "function": {"name": "f"}}]
        async with frontend.chat({"tools": tools, "chat_template_kwargs": {"a": 1}}):
            pass
        assert engine.requests[2].json == {
            "model": "m",
            "messages": [{"role": "user", "content": "hello"}],
            "tools": tools,
            "chat_template_kwargs": {"a": 1},
        }
        assert await frontend.metric("kvroute_tokenizations_total", source="engine") == 2


@pytest.mark.parametrize(
    "tokenize_answer",
    [
        answer(b"{}", status="404 Not Found"),
        answer(b"not json"),
        answer(b"[]"),
        answer({"tokens": None}),
        answer({"tokens": []}),
        answer({"tokens": ["a"]}),
        b"garbage\r\n\r\n",
    ],
)
async def test_without_tokens_a_request_is_routed_by_load(tokenize_answer: bytes) -> None:
    async def handler(request: EngineRequest) -> None:
        request.writer.write(tokenize_answer if request.path == "/tokenize" else answer())

    async with FakeEngine(handler) as engine, running_frontend(engine.url) as frontend:
        async with frontend.completion({"prompt": "text"}) as got:
            assert got.status == 200
        (call,) = frontend.router.calls
        assert len(call["token_ids"]) == 1
        assert call["namespace"] is not None
        assert await frontend.metric("kvroute_tokenizations_total", source="none") == 1
        assert await frontend.metric("kvroute_prompt_tokens_total") == 0


async def test_an_engine_that_tokenizes_too_slowly_is_not_waited_for() -> None:
    async def handler(request: EngineRequest) -> None:
        if request.path == "/tokenize":
            await request.left()
        else:
            request.writer.write(answer())

    async with (
        FakeEngine(handler) as engine,
        running_frontend(engine.url, tokenize_timeout_seconds=0.05) as frontend,
        frontend.completion({"prompt": "text"}) as got,
    ):
        assert got.status == 200


@pytest.mark.parametrize("policy", ["round_robin", "roundrobin", "random"])
async def test_policies_that_ignore_the_prompt_ask_nobody_for_its_tokens(policy: str) -> None:
    async with (
        FakeEngine(counting([1])) as engine,
        running_frontend(engine.url, routing_logic=policy) as frontend,
    ):
        async with frontend.completion({"prompt": "text"}) as got:
            assert got.status == 200
        assert [request.path for request in engine.requests] == ["/v1/completions"]
        assert frontend.router.policy == policy


@pytest.mark.parametrize("length", [1, 50_000])
async def test_a_local_tokenizer_spares_the_engine(tokenizer_directory: Path, length: int) -> None:
    async with (
        FakeEngine(counting([1])) as engine,
        running_frontend(engine.url, tokenizer=tokenizer_directory) as frontend,
    ):
        async with frontend.completion({"prompt": ["a" * length, "bb"]}) as got:
            assert got.status == 200
        first, second = (call["token_ids"] for call in frontend.router.calls)
        assert (len(first), len(second)) == (length, 2)
        assert [request.path for request in engine.requests] == ["/v1/completions"]
        assert await frontend.metric("kvroute_tokenizations_total", source="local") == 1


async def test_a_local_template_sees_tools_and_variables(tokenizer_directory: Path) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    async with (
        FakeEngine(counting([1])) as engine,
        running_frontend(engine.url, tokenizer=tokenizer_directory) as frontend,
    ):
        async with frontend.chat():
            pass
        async with frontend.chat({"chat_template_kwargs": {"as": "bot"}}):
            pass
        async with frontend.chat({"tools": tools, "add_generation_prompt": False}):
            pass
        lengths = [len(call["token_ids"]) for call in frontend.router.calls]
        shaped = (
            '[{"type": "function", "function": '
            '{"name": "f", "description": null, "parameters": null}}]'
        )
        assert lengths == [
            len("<user>hello<assistant>"),
            len("<user>hello<bot>"),
            len("<user>hello" + shaped),
        ]
        assert all(request.path != "/tokenize" for request in engine.requests)


@pytest.mark.parametrize(
    "body",
    [
        {"chat_template": "{{ messages }}"},
        {"chat_template_kwargs": {"messages": 1}},
        {"chat_template_kwargs": {"self": 1}},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        {"messages": [{"content": "no role"}]},
        {"messages": ["no object"]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": 4}]}]},
        {"tools": "no list"},
    ],
)
async def test_what_the_local_template_cannot_do_the_engine_is_asked(
    tokenizer_directory: Path, body: dict[str, Any]
) -> None:
    async with (
        FakeEngine(counting([4, 5])) as engine,
        running_frontend(engine.url, tokenizer=tokenizer_directory) as frontend,
    ):
        async with frontend.chat(body) as got:
            assert got.status == 200
        assert frontend.router.calls[-1]["token_ids"] == [4, 5]


async def test_engines_are_asked_for_tokens_in_turn() -> None:
    async with (
        FakeEngine(counting([1])) as first,
        FakeEngine(counting([1])) as second,
        running_frontend(first.url, second.url) as frontend,
    ):
        for _ in range(4):
            async with frontend.completion({"prompt": "x"}):
                pass
        for engine in (first, second):
            paths = [request.path for request in engine.requests]
            assert paths.count("/tokenize") == 2


async def test_an_unhealthy_engine_gets_no_requests_until_it_recovers() -> None:
    state = {"healthy": False}
    changed = asyncio.Event()

    async def sick(request: EngineRequest) -> None:
        if request.path == "/health":
            ok = state["healthy"]
            request.writer.write(answer(status="200 OK" if ok else "503 Service Unavailable"))
            changed.set()
        else:
            request.writer.write(answer())

    async with (
        FakeEngine(sick) as engine,
        running_frontend(
            engine.url,
            static_backend_health_checks=True,
            static_backend_health_check_interval=0.02,
            static_backend_health_check_timeout_seconds=1,
        ) as frontend,
    ):

        async def until(status: int) -> None:
            while True:
                changed.clear()
                await changed.wait()
                async with frontend.client.get(frontend.url + "/health") as got:
                    if got.status == status:
                        return

        await until(503)
        async with frontend.completion() as got:
            assert got.status == 503
            assert "no healthy backend" in (await got.json())["error"]["message"]
        assert await frontend.metric("kvroute_worker_healthy") == 0
        state["healthy"] = True
        await until(200)
        async with frontend.completion() as got:
            assert got.status == 200

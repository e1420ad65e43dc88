"""The local tokenizer behind the frontend: off the loop for large requests, and never an error."""

from __future__ import annotations

import asyncio
import json
import threading
from array import array
from pathlib import Path
from typing import Any

import pytest
from frontend_harness import (
    EngineRequest,
    FakeEngine,
    FakeRouter,
    Frontend,
    answer,
    replies,
    running_frontend,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kvroute.frontend import Settings
from kvroute.frontend.engine_tokens import EngineTokens
from kvroute.frontend.fleet import Fleet
from kvroute.frontend.policy_choice import needs_tokens
from kvroute.frontend.prompts import parse_chat
from kvroute.frontend.protocols import core_router
from kvroute.frontend.token_source import TokenSource
from kvroute.tokenization import Tokenizer
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers, processors

LARGE = "word " * 2000
FUNCTION = {"name": "f", "description": LARGE}
CALL = {"type": "function", "function": {"name": "f", "arguments": json.dumps({"a": LARGE})}}
USER = {"role": "user", "content": "hi"}
GATE = {
    "name": "gate",
    "when": "imbalanced",
    "of": "prefill_tokens",
    "threshold": 4,
    "then": "random",
    "otherwise": "random",
}


@pytest.mark.parametrize(
    "large",
    [
        {"messages": [{"role": "user", "content": LARGE}]},
        {"messages": [{"role": "user", "content": [{"type": "refusal", "refusal": LARGE}]}]},
        {"messages": [USER, {"role": "assistant", "tool_calls": [CALL]}, USER]},
        {"messages": [USER] * 1000},
        {"tools": [{"type": "function", "function": FUNCTION}]},
        {"documents": [{"text": LARGE}]},
        {"chat_template_kwargs": {"as": LARGE}},
    ],
)
async def test_whatever_is_large_is_tokenized_off_the_loop(
    tokenizer_directory: Path, monkeypatch: pytest.MonkeyPatch, large: dict[str, Any]
) -> None:
    threads: list[threading.Thread] = []
    inner = Tokenizer.apply_chat_template

    def spy(*arguments: Any, **options: Any) -> list[int]:
        threads.append(threading.current_thread())
        return inner(*arguments, **options)

    monkeypatch.setattr(Tokenizer, "apply_chat_template", spy)
    async with (
        FakeEngine(replies(answer())) as engine,
        running_frontend(engine.url, tokenizer=tokenizer_directory) as frontend,
    ):
        async with frontend.chat(large) as got:
            assert got.status == 200
        async with frontend.chat() as got:
            assert got.status == 200
    assert [thread is threading.main_thread() for thread in threads] == [False, True]


DEEP = "[" * 3000


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": [{"type": ["x"]}]}]},
        {"tools": 5},
        {"tools": {"function": {}}},
        {
            "messages": [
                {
                    "role": "assistant",
                    "tool_calls": [{"function": {"name": "f", "arguments": DEEP}}],
                }
            ]
        },
        {"tools": json.loads("[" * 500 + "]" * 500)},
        {"chat_template_kwargs": {"add_special_tokens": 1}},
        {"chat_template_kwargs": 5, "documents": []},
    ],
)
async def test_what_a_client_gets_wrong_is_the_engines_to_say(
    tokenizer_directory: Path, body: dict[str, Any]
) -> None:
    async with (
        FakeEngine(replies(answer())) as engine,
        running_frontend(engine.url, tokenizer=tokenizer_directory) as frontend,
    ):
        await answered(frontend, body)
        assert engine.requests[-1].path == "/v1/chat/completions"


async def answered(frontend: Frontend, body: dict[str, Any]) -> None:
    async with frontend.chat(body) as got:
        assert got.status == 200, await got.text()


async def test_a_fault_of_the_tokenizer_is_logged_and_an_engine_asked(
    tokenizer_directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> list[int]:
        raise LookupError("a fault")

    monkeypatch.setattr(Tokenizer, "apply_chat_template", fail)
    async with (
        FakeEngine(replies(answer())) as engine,
        running_frontend(engine.url, tokenizer=tokenizer_directory) as frontend,
    ):
        await answered(frontend, {})
        paths = [request.path for request in engine.requests]
        assert paths == ["/tokenize", "/v1/chat/completions"]
    assert "a fault" in caplog.text


async def test_what_vllm_gives_a_chats_template_reaches_the_local_one(tmp_path: Path) -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Backend(models.BPE({char: i for i, char in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.post_processor = processors.TemplateProcessing(
        single="! $A", special_tokens=[("!", alphabet.index("!"))]
    )
    backend.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "chat_template.jinja").write_text(
        "{{ reasoning_effort }}{% for d in documents %}{{ d.text }}{% endfor %}"
    )
    body = {
        "reasoning_effort": "high",
        "chat_template_kwargs": {"reasoning_effort": "low"},
        "documents": [{"text": "ab"}],
        "add_special_tokens": True,
    }
    async with (
        FakeEngine(replies(answer())) as engine,
        running_frontend(engine.url, tokenizer=tmp_path) as frontend,
    ):
        await answered(frontend, body)
        ids = frontend.router.calls[-1]["token_ids"]
    assert ids == [alphabet.index(char) for char in "!highab"]


@pytest.mark.parametrize(
    ("options", "counted"),
    [
        ({"routing_logic": "round_robin"}, False),
        ({"routing_logic": "least_requests", "max_waiting": 5}, False),
        ({"routing_logic": "random", "max_waiting": 5, "queue_limit": 5}, False),
        ({"routing_logic": "round_robin", "max_prefill_tokens": 5000}, True),
        (
            {
                "routing_logic": "round_robin",
                "max_waiting": 5,
                "queue_limit": 5,
                "queue_order": "shortest_uncached",
            },
            True,
        ),
        ({"routing_logic": "least_load"}, True),
        ({"routing_logic": "power_of_two"}, True),
    ],
)
async def test_texts_are_booked_with_their_tokens_where_these_count(
    tokenizer_directory: Path, options: dict[str, Any], counted: bool
) -> None:
    async with (
        FakeEngine(replies(answer())) as engine,
        running_frontend(engine.url, tokenizer=tokenizer_directory, **options) as frontend,
    ):
        async with frontend.completion({"prompt": "some text"}) as got:
            assert got.status == 200
        assert [len(call["token_ids"]) for call in frontend.router.calls] == [9 if counted else 1]


async def test_the_prefill_threshold_sees_texts_under_any_policy(
    tokenizer_directory: Path,
) -> None:
    reached = asyncio.Event()

    async def handler(request: EngineRequest) -> None:
        reached.set()
        await request.left()

    async with (
        FakeEngine(handler) as engine,
        running_frontend(
            engine.url,
            make_router=core_router,
            tokenizer=tokenizer_directory,
            routing_logic="round_robin",
            max_prefill_tokens=100,
        ) as frontend,
    ):
        body = {"prompt": "x" * 200}
        running = asyncio.create_task(frontend.completion(body).__aenter__())
        await asyncio.wait_for(reached.wait(), 5)
        assert await frontend.metric("kvroute_target_active_prefill_tokens") == 200
        async with frontend.completion(body) as got:
            assert (got.status, got.headers["retry-after"]) == (503, "1")
        running.cancel()


@pytest.mark.parametrize(
    ("policy", "needed"),
    [
        ("kv_cost", True),
        ("random", False),
        ({"name": "session"}, False),
        ({"name": "session", "fallback": "least_load"}, True),
        ({"name": "session", "fallback": {"name": "power_of_two", "of": "least_requests"}}, True),
        (GATE, True),
    ],
)
def test_a_policy_within_another_counts_too(policy: Any, needed: bool) -> None:
    assert needs_tokens(policy) is needed


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["role", "content", "type", "text", "function", "name", "tool_calls"])
        | st.text(max_size=4),
        inner,
        max_size=4,
    ),
    max_leaves=10,
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    messages=st.lists(
        json_values
        | json_values.map(lambda content: {"role": "user", "content": content})
        | json_values.map(lambda calls: {"role": "assistant", "tool_calls": calls}),
        min_size=1,
        max_size=3,
    ),
    tools=json_values,
    variables=json_values,
    documents=json_values,
)
async def test_arbitrary_json_gives_tokens_or_none(
    tokenizer_directory: Path,
    messages: Any,
    tools: Any,
    variables: Any,
    documents: Any,
) -> None:
    fleet = Fleet(Settings(static_backends="http://127.0.0.1:1", static_models="m"), FakeRouter)
    source = TokenSource(
        fleet, NoEngine(), Tokenizer.from_directory(tokenizer_directory), threads=1
    )
    request = parse_chat(
        json.dumps(
            {
                "messages": messages,
                "tools": tools,
                "chat_template_kwargs": variables,
                "documents": documents,
            }
        ).encode()
    )
    try:
        (ids,) = await source.token_ids(fleet.group("m"), request, headers=[])
        assert all(0 <= token < 256 for token in ids)
    finally:
        source.close()


class NoEngine(EngineTokens):
    def __init__(self) -> None: ...

    async def token_ids(self, group: Any, bodies: Any, headers: Any) -> Any:  # noqa: ARG002
        return [array("I")] * len(bodies)

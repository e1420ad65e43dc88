"""The OpenAI face: whole and streamed answers, every form of prompt, errors that name the field."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import aiohttp
import orjson
import pytest
from kvroute.engines import CostModel, SimulatedEngine
from prometheus_client.parser import text_string_to_metric_families

TIMEOUT = 60.0
Until: TypeAlias = Callable[[Callable[[], bool]], Awaitable[None]]


@pytest.fixture
async def engine() -> AsyncIterator[SimulatedEngine]:
    async with SimulatedEngine(
        model="m", block_size=16, num_blocks=512, cost=CostModel(speed=1000)
    ) as engine:
        yield engine


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def post(
    session: aiohttp.ClientSession,
    engine: SimulatedEngine,
    path: str,
    body: Any,
    headers: dict[str, str] | None = None,
) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    async with session.post(engine.http_url + path, data=data, headers=headers) as response:
        return response.status, orjson.loads(await response.read())


async def stream(
    session: aiohttp.ClientSession, engine: SimulatedEngine, path: str, body: Any
) -> list[Any]:
    """The chunks of a streamed answer, which must end with the end mark."""
    async with session.post(engine.http_url + path, json={**body, "stream": True}) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        text = (await response.read()).decode()
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    return [orjson.loads(line) for line in lines]


@pytest.mark.parametrize(
    ("prompt", "prompt_tokens", "choices"),
    [
        ("abc", 4, 1),
        (["abc", "de"], 7, 2),
        ([1, 2, 3], 3, 1),
        ([[1, 2, 3], [4]], 4, 2),
        ([4294967295], 1, 1),
    ],
)
async def test_a_prompt_may_be_text_or_tokens_or_a_list(
    engine: SimulatedEngine,
    session: aiohttp.ClientSession,
    prompt: Any,
    prompt_tokens: int,
    choices: int,
) -> None:
    body = {"model": "m", "prompt": prompt, "max_tokens": 5}
    status, answer = await post(session, engine, "/v1/completions", body)
    assert status == 200
    assert [choice["index"] for choice in answer["choices"]] == list(range(choices))
    assert all(choice["finish_reason"] == "length" for choice in answer["choices"])
    assert answer["usage"] == {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": 5 * choices,
        "total_tokens": prompt_tokens + 5 * choices,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


async def test_n_choices_differ_and_count_their_prompt_once(
    engine: SimulatedEngine, session: aiohttp.ClientSession
) -> None:
    body = {"prompt": [[1] * 40, [2] * 40], "n": 3, "max_tokens": 30}
    _, answer = await post(session, engine, "/v1/completions", body)
    assert len({choice["text"] for choice in answer["choices"]}) == 6
    assert answer["usage"]["prompt_tokens"] == 80
    assert answer["usage"]["completion_tokens"] == 180


async def test_the_same_prompt_and_seed_say_the_same(
    engine: SimulatedEngine, session: aiohttp.ClientSession
) -> None:
    async def text(**body: Any) -> str:
        request = {"prompt": "hello", "max_tokens": 40, **body}
        _, answer = await post(session, engine, "/v1/completions", request)
        return str(answer["choices"][0]["text"])

    assert await text() == await text() == await text(seed=0)
    assert await text(seed=1) != await text(seed=2)
    assert await text(prompt="other") != await text()


@pytest.mark.parametrize("chunk", [1, 7])
async def test_a_stream_says_what_the_whole_answer_says(
    session: aiohttp.ClientSession, chunk: int
) -> None:
    body = {"prompt": [5] * 100, "max_tokens": 50, "n": 2}
    options = {"stream_options": {"include_usage": True}}
    async with SimulatedEngine(tokens_per_chunk=chunk, cost=CostModel(speed=1000)) as engine:
        _, whole = await post(session, engine, "/v1/completions", body)
        chunks = await stream(session, engine, "/v1/completions", {**body, **options})
    *parts, usage = chunks
    for index in range(2):
        choices = [p["choices"][0] for p in parts if p["choices"][0]["index"] == index]
        text = "".join(choice["text"] for choice in choices)
        assert text == whole["choices"][index]["text"]
        reasons = [choice["finish_reason"] for choice in choices]
        assert reasons == [None] * (len(reasons) - 1) + ["length"]
    assert usage["choices"] == []
    assert usage["usage"]["prompt_tokens_details"]["cached_tokens"] == 96
    assert usage["usage"]["completion_tokens"] == 100
    assert len({part["id"] for part in chunks}) == 1


async def test_usage_is_streamed_only_when_asked_for(
    engine: SimulatedEngine, session: aiohttp.ClientSession
) -> None:
    chunks = await stream(session, engine, "/v1/completions", {"prompt": "a", "max_tokens": 3})
    assert all("usage" not in chunk for chunk in chunks)


async def test_a_chat_is_answered_whole_and_streamed_alike(
    engine: SimulatedEngine, session: aiohttp.ClientSession
) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
    ]
    body = {"model": "m", "messages": messages}
    _, whole = await post(session, engine, "/v1/chat/completions", body)
    chunks = await stream(session, engine, "/v1/chat/completions", body)
    assert whole["object"] == "chat.completion"
    assert whole["choices"][0]["finish_reason"] == "stop"
    message = whole["choices"][0]["message"]
    assert message["role"] == "assistant"
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert "".join(delta["content"] for delta in deltas) == message["content"]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


async def test_a_chat_s_next_turn_finds_its_first_turn_and_answer(
    engine: SimulatedEngine, session: aiohttp.ClientSession
) -> None:
    messages = [{"role": "user", "content": "x" * 100}]
    body = {"messages": messages, "max_completion_tokens": 64}
    _, first = await post(session, engine, "/v1/chat/completions", body)
    reply = first["choices"][0]["message"]
    messages += [reply, {"role": "user", "content": "and then?"}]
    _, second = await post(session, engine, "/v1/chat/completions", body)
    said = first["usage"]["total_tokens"] - 1
    cached = second["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert cached == said // 16 * 16


async def test_a_request_id_is_echoed(
    engine: SimulatedEngine, session: aiohttp.ClientSession
) -> None:
    body = {"prompt": "a", "max_tokens": 1}
    headers = {"X-Request-Id": "r-17", "X-data-parallel-rank": "0"}
    url = f"{engine.http_url}/v1/completions"
    async with session.post(url, json=body, headers=headers) as response:
        assert response.headers["X-Request-Id"] == "r-17"
        assert (await response.json())["id"] == "cmpl-r-17"


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/completions", b"{", None),
        ("/v1/completions", [], None),
        ("/v1/completions", {}, "prompt"),
        ("/v1/completions", {"prompt": []}, "prompt"),
        ("/v1/completions", {"prompt": [[]]}, "prompt"),
        ("/v1/completions", {"prompt": [1, "a"]}, "prompt"),
        ("/v1/completions", {"prompt": [-1]}, "prompt"),
        ("/v1/completions", {"prompt": [1 << 32]}, "prompt"),
        ("/v1/completions", {"prompt": [1, 1.5]}, "prompt"),
        ("/v1/completions", {"prompt": [1] * 16384}, "prompt"),
        ("/v1/completions", {"prompt": "a", "max_tokens": 0}, "max_tokens"),
        ("/v1/completions", {"prompt": "a", "max_tokens": "9"}, "max_tokens"),
        ("/v1/completions", {"prompt": "a", "n": 0}, "n"),
        ("/v1/completions", {"prompt": "a", "n": 1000}, "n"),
        ("/v1/completions", {"prompt": "a", "stream": 1}, "stream"),
        ("/v1/completions", {"prompt": "a", "stream_options": {"a": 1}}, "stream_options"),
        ("/v1/completions", {"prompt": "a", "seed": "x"}, "seed"),
        ("/v1/completions", {"prompt": "a", "cache_salt": ""}, "cache_salt"),
        ("/v1/chat/completions", {}, "messages"),
        ("/v1/chat/completions", {"messages": []}, "messages"),
        ("/v1/chat/completions", {"messages": ["a"]}, "messages[0]"),
        ("/v1/chat/completions", {"messages": [{"content": "a"}]}, "messages[0].role"),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0]",
        ),
        ("/v1/chat/completions", {"messages": [{"role": "u"}], "tools": 1}, "tools"),
        ("/tokenize", {"prompt": 1}, "prompt"),
        ("/detokenize", {"tokens": [-1]}, "tokens"),
    ],
)
async def test_bad_input_is_a_400_that_names_the_field(
    engine: SimulatedEngine,
    session: aiohttp.ClientSession,
    path: str,
    body: Any,
    param: str | None,
) -> None:
    status, answer = await post(session, engine, path, body)
    assert status == 400
    assert answer["error"]["type"] == "BadRequestError"
    assert answer["error"]["param"] == param
    assert answer["error"]["code"] == 400
    assert answer["error"]["message"].startswith("body" if param is None else param)


@pytest.mark.parametrize("rank", ["1", "-1", "x", ""])
async def test_a_rank_that_is_not_here_is_refused(
    engine: SimulatedEngine, session: aiohttp.ClientSession, rank: str
) -> None:
    headers = {"X-data-parallel-rank": rank}
    body = {"prompt": "a", "max_tokens": 1}
    status, answer = await post(session, engine, "/v1/completions", body, headers)
    assert (status, answer["error"]["param"]) == (400, "X-data-parallel-rank")


async def test_unknown_models_paths_and_methods(
    engine: SimulatedEngine, session: aiohttp.ClientSession
) -> None:
    body = {"model": "other", "prompt": "a"}
    assert (await post(session, engine, "/v1/completions", body))[0] == 404
    assert (await post(session, engine, "/v1/nothing", {}))[0] == 404
    async with session.get(f"{engine.http_url}/v1/completions") as response:
        assert response.status == 405


async def test_tokenize_says_what_the_chat_path_computes(
    engine: SimulatedEngine, session: aiohttp.ClientSession
) -> None:
    chat = {
        "messages": [{"role": "user", "content": "Grüße"}],
        "tools": [{"type": "function", "function": {"name": "f"}}],
    }
    _, tokens = await post(session, engine, "/tokenize", chat)
    _, answer = await post(session, engine, "/v1/chat/completions", chat)
    assert tokens["count"] == len(tokens["tokens"]) == answer["usage"]["prompt_tokens"]
    assert tokens["max_model_len"] == 512 * 16
    _, special = await post(session, engine, "/tokenize", {**chat, "add_special_tokens": True})
    assert special["tokens"][1:] == tokens["tokens"]
    _, text = await post(session, engine, "/tokenize", {"prompt": "Grüße"})
    _, bare = await post(
        session, engine, "/tokenize", {"prompt": "Grüße", "add_special_tokens": False}
    )
    assert text["tokens"][1:] == bare["tokens"]
    _, back = await post(session, engine, "/detokenize", {"tokens": bare["tokens"]})
    assert back == {"prompt": "Grüße"}


async def test_models_version_and_health(
    engine: SimulatedEngine, session: aiohttp.ClientSession
) -> None:
    async with session.get(f"{engine.http_url}/v1/models") as response:
        (model,) = (await response.json())["data"]
    assert (model["id"], model["max_model_len"]) == ("m", 8192)
    for path in ("/health", "/ping", "/version"):
        async with session.get(engine.http_url + path) as response:
            assert response.status == 200


async def test_metrics_have_vllm_s_names(
    engine: SimulatedEngine, session: aiohttp.ClientSession
) -> None:
    for _ in range(2):
        await post(session, engine, "/v1/completions", {"prompt": [1] * 33, "max_tokens": 4})
    async with session.get(f"{engine.http_url}/metrics") as response:
        families = text_string_to_metric_families(await response.text())
    samples = {sample.name: sample for family in families for sample in family.samples}
    expected = {
        "vllm:num_requests_running": 0,
        "vllm:num_requests_waiting": 0,
        "vllm:kv_cache_usage_perc": 0,
        "vllm:prefix_cache_queries_total": 66,
        "vllm:prefix_cache_hits_total": 32,
        "vllm:prompt_tokens_total": 66,
        "vllm:generation_tokens_total": 8,
        "vllm:num_preemptions_total": 0,
        "vllm:request_success_total": 2,
        "vllm:time_to_first_token_seconds_count": 2,
        "vllm:e2e_request_latency_seconds_count": 2,
        "vllm:cache_config_info": 1,
    }
    assert {name: samples[name].value for name in expected} == expected
    info = samples["vllm:cache_config_info"].labels
    assert (info["block_size"], info["num_gpu_blocks"]) == ("16", "512")
    assert samples["vllm:num_requests_running"].labels == {"model_name": "m", "engine": "0"}


async def test_the_cache_is_reset_only_when_nothing_runs(
    session: aiohttp.ClientSession, until: Until
) -> None:
    async with SimulatedEngine(cost=CostModel(base_step=0.2)) as engine:
        body = {"prompt": [1] * 64, "max_tokens": 8}
        running = asyncio.ensure_future(post(session, engine, "/v1/completions", body))
        await until(lambda: engine.core.scheduler.num_running > 0)
        assert (await post(session, engine, "/reset_prefix_cache", b""))[0] == 409
        await running
        assert (await post(session, engine, "/reset_prefix_cache", b""))[0] == 200
        assert not engine.core.cache.names()
        _, answer = await post(session, engine, "/v1/completions", {**body, "max_tokens": 1})
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_client_that_leaves_frees_its_request(streamed: bool, until: Until) -> None:
    async with SimulatedEngine(block_size=16, cost=CostModel(base_step=0.02)) as engine:
        scheduler = engine.core.scheduler
        async with aiohttp.ClientSession() as session:
            body = {"prompt": [1] * 640, "max_tokens": 2000, "stream": streamed, "n": 2}
            request = asyncio.ensure_future(
                session.post(f"{engine.http_url}/v1/completions", json=body)
            )
            await until(lambda: scheduler.num_running == 2)
            if streamed:
                response = await asyncio.wait_for(request, TIMEOUT)
                await response.content.readany()
                response.close()
            else:
                request.cancel()
                await asyncio.wait([request])
        await until(lambda: not scheduler.has_work)
        assert engine.core.cache.num_available == engine.core.cache.num_blocks


async def test_more_than_may_wait_is_a_503(session: aiohttp.ClientSession) -> None:
    slow = CostModel(base_step=0.1)
    async with SimulatedEngine(max_num_seqs=1, max_waiting=2, cost=slow) as engine:
        bodies = [{"prompt": [number], "max_tokens": 3} for number in range(8)]
        answers = await asyncio.gather(
            *(post(session, engine, "/v1/completions", body) for body in bodies)
        )
    statuses = sorted(status for status, _ in answers)
    assert set(statuses) == {200, 503}
    assert statuses.count(200) >= 2

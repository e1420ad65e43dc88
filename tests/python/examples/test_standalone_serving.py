"""The standalone example, serving."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from example_harness import (
    BLOCK_SIZE,
    MODEL,
    StandaloneExample,
    eventually,
    held_blocks,
    running_requests,
    worker_states,
)

pytestmark = pytest.mark.timeout(120)


def completion(prompt: Any, **fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "prompt": prompt, "max_tokens": 1, **fields}


def chat(text: str, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": MODEL, "messages": messages, "max_tokens": 4, **fields}


def token_ids(seed: int, blocks: int) -> list[int]:
    """A prompt of whole blocks and one token; different seeds share no block."""
    return [(seed * 7919 + i * 31) % 251 for i in range(blocks * BLOCK_SIZE + 1)]


async def post(
    http: aiohttp.ClientSession, url: str, body: dict[str, Any]
) -> tuple[int, dict[str, Any]]:
    """The worker that answered, and the answer."""
    async with http.post(url, json=body) as response:
        answer = await response.json()
        assert response.status == 200, answer
        return int(response.headers["x-kvroute-worker"]), answer


def cached_tokens(answer: dict[str, Any]) -> int:
    return int(answer["usage"]["prompt_tokens_details"]["cached_tokens"])


async def test_the_same_prefix_goes_to_the_worker_that_holds_it(
    standalone: StandaloneExample, http: aiohttp.ClientSession
) -> None:
    url = f"{standalone.url}/v1/completions"
    before = [await held_blocks(http, standalone.router_url, worker) for worker in (0, 1)]
    first, answer = await post(http, url, completion(token_ids(1, 10)))
    assert cached_tokens(answer) == 0

    async def announced() -> bool:
        return await held_blocks(http, standalone.router_url, first) >= before[first] + 10

    await eventually(announced, what="the router hears of the stored blocks")
    for suffix in range(8):
        prompt = [*token_ids(1, 10)[:-1], suffix, 0, suffix]
        worker, answer = await post(http, url, completion(prompt))
        assert worker == first
        assert cached_tokens(answer) == 10 * BLOCK_SIZE


async def test_the_same_chat_goes_to_the_worker_that_holds_it(
    standalone: StandaloneExample, http: aiohttp.ClientSession
) -> None:
    url = f"{standalone.url}/v1/chat/completions"
    body = chat("the very same question " * 40)
    before = [await held_blocks(http, standalone.router_url, worker) for worker in (0, 1)]
    first, answer = await post(http, url, body)
    blocks = answer["usage"]["prompt_tokens"] // BLOCK_SIZE
    assert blocks > 10

    async def announced() -> bool:
        return await held_blocks(http, standalone.router_url, first) >= before[first] + blocks

    await eventually(announced, what="the router hears of the stored blocks")
    for _ in range(4):
        worker, answer = await post(http, url, body)
        assert worker == first
        assert cached_tokens(answer) > 0


async def test_load_without_common_prefixes_spreads(
    standalone: StandaloneExample, http: aiohttp.ClientSession
) -> None:
    async def equally_loaded() -> bool:
        """By what they last reported, which is all that the example goes by."""
        states = await worker_states(http, standalone.router_url)
        return len({(one["waiting"], one["kv_usage"]) for one in states}) == 1

    await eventually(equally_loaded, what="both workers report the same load")
    bodies = [completion(token_ids(100 + i, 4), max_tokens=20) for i in range(32)]
    url = f"{standalone.url}/v1/completions"
    answers = await asyncio.gather(*(post(http, url, body) for body in bodies))
    workers = [worker for worker, _ in answers]
    assert min(workers.count(0), workers.count(1)) >= 8, workers


async def test_a_whole_chat_answer_is_passed_on(
    standalone: StandaloneExample, http: aiohttp.ClientSession
) -> None:
    _, answer = await post(http, f"{standalone.url}/v1/chat/completions", chat("Hello"))
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["role"] == "assistant"
    assert answer["usage"]["completion_tokens"] == 4


@pytest.mark.parametrize("prompt", ["some text", ["two", "texts"], [1, 2, 3], [[1, 2], [3]]])
async def test_every_form_of_prompt_is_served(
    standalone: StandaloneExample, http: aiohttp.ClientSession, prompt: Any
) -> None:
    _, answer = await post(http, f"{standalone.url}/v1/completions", completion(prompt))
    assert answer["object"] == "text_completion"


async def test_a_stream_arrives_while_the_engine_generates(
    standalone: StandaloneExample, http: aiohttp.ClientSession
) -> None:
    body = chat("Tell me a story", max_tokens=1000, stream=True)
    async with http.post(f"{standalone.url}/v1/chat/completions", json=body) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        assert response.headers["x-kvroute-worker"] in {"0", "1"}
        first = await response.content.readuntil(b"\n\n")
        assert first.startswith(b"data: {")
        assert await running_requests(http, standalone.engine_urls) == 1
        rest = (await response.content.read()).decode()
    events = [event.removeprefix("data: ") for event in rest.strip().split("\n\n")]
    assert events[-1] == "[DONE]"
    deltas = [json.loads(event)["choices"][0]["delta"] for event in events[:-1]]
    assert len([delta for delta in deltas if delta.get("content")]) > 100


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_frees_its_engine(
    standalone: StandaloneExample, http: aiohttp.ClientSession, stream: bool
) -> None:
    async def running() -> bool:
        return await running_requests(http, standalone.engine_urls) == 1

    async def idle() -> bool:
        return await running_requests(http, standalone.engine_urls) == 0

    body = completion("a long story", max_tokens=50_000, stream=stream)
    async with aiohttp.ClientSession() as client:
        asking = asyncio.ensure_future(client.post(f"{standalone.url}/v1/completions", json=body))
        await eventually(running, what="the engine runs the request")
        if stream:
            (await asking).close()
        else:
            asking.cancel()
            await asyncio.wait([asking], timeout=5)
    await eventually(idle, timeout=5, what="the engine drops the request")


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/chat/completions", b"{", "body"),
        ("/v1/chat/completions", b"[]", "body"),
        ("/v1/chat/completions", b"{}", "messages"),
        ("/v1/chat/completions", b'{"messages": []}', "messages"),
        ("/v1/chat/completions", b'{"messages": "hello"}', "messages"),
        ("/v1/chat/completions", b'{"messages": [7]}', "messages"),
        ("/v1/completions", b"{}", "prompt"),
        ("/v1/completions", b'{"prompt": null}', "prompt"),
        ("/v1/completions", b'{"prompt": []}', "prompt"),
        ("/v1/completions", b'{"prompt": [1, -1]}', "prompt"),
        ("/v1/completions", b'{"prompt": [1, "a"]}', "prompt"),
        ("/v1/completions", b'{"prompt": [4294967296]}', "prompt"),
        ("/v1/completions", b'{"prompt": "a", "cache_salt": 1}', "cache_salt"),
    ],
)
async def test_a_body_without_a_prompt_is_refused_by_field(
    standalone: StandaloneExample,
    http: aiohttp.ClientSession,
    path: str,
    body: bytes,
    field: str,
) -> None:
    async with http.post(standalone.url + path, data=body) as response:
        answer = await response.json()
        assert response.status == 400, answer
    assert answer["error"]["type"] == "invalid_request_error"
    assert field in answer["error"]["message"]


async def test_what_the_engine_refuses_is_passed_on(
    standalone: StandaloneExample, http: aiohttp.ClientSession
) -> None:
    body = {**completion("text"), "model": "another", "prompt": [1, 2, 3]}
    async with http.post(f"{standalone.url}/v1/completions", json=body) as response:
        assert response.status == 404
        assert "another" in (await response.json())["error"]["message"]


async def test_a_huge_body_is_refused(
    standalone: StandaloneExample, http: aiohttp.ClientSession
) -> None:
    body = b'{"prompt": "' + b"x" * (33 * 2**20) + b'"}'
    async with http.post(f"{standalone.url}/v1/completions", data=io.BytesIO(body)) as response:
        assert response.status == 413


async def test_models_and_health_are_told(
    standalone: StandaloneExample, http: aiohttp.ClientSession
) -> None:
    async with http.get(f"{standalone.url}/v1/models") as response:
        assert [model["id"] for model in (await response.json())["data"]] == [MODEL]
    async with http.get(f"{standalone.url}/health") as response:
        health = await response.json()
    assert health["router_running"] is True
    assert health["workers_running"] == {"0": True, "1": True}


async def test_a_tokenizer_of_our_own_gives_the_engines_tokens(
    start_standalone: Callable[..., StandaloneExample],
    http: aiohttp.ClientSession,
    tokenizer_directory: Path,
) -> None:
    example = start_standalone("--tokenizer", str(tokenizer_directory))
    url = f"{example.url}/v1/chat/completions"
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    body = chat("How will the weather be? " * 30, tools=tools)
    first, answer = await post(http, url, body)
    blocks = answer["usage"]["prompt_tokens"] // BLOCK_SIZE

    async def announced() -> bool:
        return await held_blocks(http, example.router_url, first) >= blocks

    await eventually(announced, what="the router hears of the stored blocks")
    for _ in range(6):
        worker, answer = await post(http, url, body)
        assert worker == first
        assert cached_tokens(answer) >= (blocks - 1) * BLOCK_SIZE

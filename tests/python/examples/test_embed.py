"""examples/embed: select_worker inside somebody else's application."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import pytest
import uvicorn
from example_harness import EXAMPLES, MODEL, eventually
from kvroute.engines import SimulatedEngineProcess

pytestmark = pytest.mark.timeout(120)


@dataclass
class Gateway:
    """The application, served, and its engines."""

    url: str
    module: ModuleType
    engines: list[SimulatedEngineProcess]

    def held_blocks(self) -> int:
        return sum(target.held_blocks for target in self.module.router.stats().targets)


@pytest.fixture
def engines(tokenizer_directory: Path) -> Iterator[list[SimulatedEngineProcess]]:
    settings = {"model": MODEL, "speed": 20, "tokenizer": tokenizer_directory}
    with SimulatedEngineProcess(**settings) as first, SimulatedEngineProcess(**settings) as second:
        yield [first, second]


@pytest.fixture
async def gateway(
    engines: list[SimulatedEngineProcess],
    tokenizer_directory: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Gateway]:
    events = {engine.http_url: engine.kv_events for engine in engines}
    monkeypatch.setenv("ENGINES", json.dumps(events))
    monkeypatch.setenv("TOKENIZER", str(tokenizer_directory))
    spec = importlib.util.spec_from_file_location("embed_app", EXAMPLES / "embed" / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    server = uvicorn.Server(uvicorn.Config(module.app, port=0, log_level="warning"))
    serving = asyncio.ensure_future(server.serve())

    async def started() -> bool:
        assert not serving.done()
        return server.started

    await eventually(started, what="the application serves")
    port = server.servers[0].sockets[0].getsockname()[1]
    yield Gateway(f"http://127.0.0.1:{port}", module, engines)
    server.should_exit = True
    await asyncio.wait_for(serving, 20)


def chat(text: str, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": MODEL, "messages": messages, "max_tokens": 4, **fields}


async def test_a_repeated_chat_goes_where_its_blocks_are(
    gateway: Gateway, http: aiohttp.ClientSession
) -> None:
    url = f"{gateway.url}/v1/chat/completions"
    body = chat("How will the weather be tomorrow? " * 20)
    async with http.post(url, json=body) as response:
        answer = await response.json()
        first = response.headers["x-worker"]
    assert response.status == 200
    assert response.headers["x-cached-tokens"] == "0"
    assert first in {engine.http_url for engine in gateway.engines}
    blocks = answer["usage"]["prompt_tokens"] // 16

    async def announced() -> bool:
        return gateway.held_blocks() >= blocks

    await eventually(announced, what="the router hears of the stored blocks")
    for _ in range(4):
        async with http.post(url, json=body) as response:
            answer = await response.json()
            assert response.headers["x-worker"] == first
        assert int(response.headers["x-cached-tokens"]) == blocks * 16
        assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] > 0


async def test_a_stream_is_passed_on(gateway: Gateway, http: aiohttp.ClientSession) -> None:
    body = chat("Hello", stream=True)
    async with http.post(f"{gateway.url}/v1/chat/completions", json=body) as response:
        assert response.content_type == "text/event-stream"
        assert (await response.read()).rstrip().endswith(b"data: [DONE]")


@pytest.mark.parametrize("body", [b"{", b"{}", b"[]", b'{"messages": "hello"}'])
async def test_a_bad_body_is_a_400(
    gateway: Gateway, http: aiohttp.ClientSession, body: bytes
) -> None:
    async with http.post(f"{gateway.url}/v1/chat/completions", data=body) as response:
        assert response.status == 400


async def test_a_dead_engine_is_a_502(gateway: Gateway, http: aiohttp.ClientSession) -> None:
    for engine in gateway.engines:
        engine.kill()
    async with http.post(f"{gateway.url}/v1/chat/completions", json=chat("Hello")) as response:
        assert response.status == 502

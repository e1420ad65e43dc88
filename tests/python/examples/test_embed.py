"""examples/embed: select_worker inside somebody else's application."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import pytest
import uvicorn
from example_harness import EXAMPLES, MODEL, eventually, running_requests
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


def load_app(
    events: dict[str, str | None], tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> ModuleType:
    monkeypatch.setenv("ENGINES", json.dumps(events))
    monkeypatch.setenv("TOKENIZER", str(tokenizer))
    spec = importlib.util.spec_from_file_location("embed_app", EXAMPLES / "embed" / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextlib.asynccontextmanager
async def served(module: ModuleType) -> AsyncIterator[str]:
    """The URL of the application, on this loop."""
    server = uvicorn.Server(uvicorn.Config(module.app, port=0, log_level="warning"))
    serving = asyncio.ensure_future(server.serve())

    async def started() -> bool:
        assert not serving.done()
        return server.started

    await eventually(started, what="the application serves")
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await asyncio.wait_for(serving, 60)


@pytest.fixture
async def gateway(
    engines: list[SimulatedEngineProcess],
    tokenizer_directory: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Gateway]:
    events = {engine.http_url: engine.kv_events for engine in engines}
    module = load_app(events, tokenizer_directory, monkeypatch)
    async with served(module) as url:
        yield Gateway(url, module, engines)


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


async def test_a_stream_may_last_and_a_silent_engine_is_a_502(
    tokenizer_directory: Path, monkeypatch: pytest.MonkeyPatch, http: aiohttp.ClientSession
) -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            pass
        writer.close()

    engine = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{engine.sockets[0].getsockname()[1]}"
    module = load_app({url: None}, tokenizer_directory, monkeypatch)
    assert module.TIMEOUT.total is None
    assert module.TIMEOUT.sock_read == 600
    module.TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=0.05)
    async with engine, served(module) as gateway_url:
        assert module.app.state.engines.timeout is module.TIMEOUT
        async with http.post(f"{gateway_url}/v1/chat/completions", json=chat("Hi")) as response:
            assert response.status == 502
            assert url in (await response.json())["detail"]
        module.app.state.engines._timeout = aiohttp.ClientTimeout(total=0.05)
        async with http.post(f"{gateway_url}/v1/chat/completions", json=chat("Hi")) as response:
            assert response.status == 502


async def test_a_client_that_leaves_its_stream_ends_it_at_the_engine(
    gateway: Gateway, http: aiohttp.ClientSession
) -> None:
    urls = [engine.http_url for engine in gateway.engines]

    async def running() -> bool:
        return await running_requests(http, urls) == 1

    async def idle() -> bool:
        return await running_requests(http, urls) == 0

    body = chat("Hello", stream=True, max_tokens=60_000)
    async with http.post(f"{gateway.url}/v1/chat/completions", json=body) as response:
        assert await response.content.readany()
        await eventually(running, what="the engine generates")
        response.close()
    await eventually(idle, what="the engine is told that the client left")


async def test_chats_are_tokenized_beside_the_event_loop(
    gateway: Gateway, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    tokenize = gateway.module.tokenizer.apply_chat_template

    def recorded(*arguments: Any) -> list[int]:
        threads.append(threading.get_ident())
        ids: list[int] = tokenize(*arguments)
        return ids

    monkeypatch.setattr(gateway.module.tokenizer, "apply_chat_template", recorded)
    async with http.post(f"{gateway.url}/v1/chat/completions", json=chat("Hello")) as response:
        assert response.status == 200
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()

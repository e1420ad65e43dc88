"""The standalone example when one of its processes dies."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from example_harness import (
    MODEL,
    StandaloneExample,
    eventually,
    held_blocks,
    read_ready_line,
    running_process,
    running_requests,
    start_process,
)

pytestmark = pytest.mark.timeout(120)

BODY: dict[str, Any] = {"model": MODEL, "prompt": [1, 2, 3], "max_tokens": 1}


async def ask(
    http: aiohttp.ClientSession, example: StandaloneExample, **fields: Any
) -> tuple[int, dict[str, Any], float]:
    """Status, answer and seconds of one completion."""
    start = time.monotonic()
    async with http.post(f"{example.url}/v1/completions", json={**BODY, **fields}) as response:
        return response.status, await response.json(), time.monotonic() - start


async def test_a_dead_router_is_a_503_until_another_takes_its_place(
    start_standalone: Callable[..., StandaloneExample], http: aiohttp.ClientSession
) -> None:
    example = start_standalone()
    status, _, _ = await ask(http, example, prompt=list(range(641)))
    assert status == 200

    async def knows_ten_blocks() -> bool:
        return sum([await held_blocks(http, example.router_url, i) for i in (0, 1)]) == 10

    await eventually(knows_ten_blocks, what="the router hears of the stored blocks")
    os.kill(example.router_pid, signal.SIGKILL)
    status, answer, seconds = await ask(http, example)
    assert status == 503
    assert answer["error"]["code"] == 503
    assert f"router at {example.router_url} does not answer" in answer["error"]["message"]
    assert seconds < 30

    port = example.router_url.rpartition(":")[2]
    command = [sys.executable, "router.py", *example.shared_flags(), "--port", port]
    with start_process(command) as successor:
        try:
            read_ready_line(successor)
            await eventually(knows_ten_blocks, what="the engines replay what they hold")
            status, answer, _ = await ask(http, example, prompt=list(range(641)))
        finally:
            successor.terminate()
    assert status == 200
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 640


async def test_a_hanging_router_is_a_503_after_a_second(
    start_standalone: Callable[..., StandaloneExample], http: aiohttp.ClientSession
) -> None:
    example = start_standalone()
    os.kill(example.router_pid, signal.SIGSTOP)
    status, answer, seconds = await ask(http, example)
    assert status == 503
    assert "did not answer within 1 s" in answer["error"]["message"]
    assert 0.9 < seconds < 30
    os.kill(example.router_pid, signal.SIGCONT)

    async def answers() -> bool:
        return (await ask(http, example))[0] == 200

    await eventually(answers, what="the router goes on")


async def test_a_dead_engine_is_a_502_that_names_it(
    start_standalone: Callable[..., StandaloneExample], http: aiohttp.ClientSession
) -> None:
    example = start_standalone()
    for pid in example.engine_pids:
        os.kill(pid, signal.SIGKILL)
    status, answer, seconds = await ask(http, example)
    assert status == 502
    assert answer["error"]["code"] == 502
    assert any(url in answer["error"]["message"] for url in example.engine_urls)
    assert seconds < 30
    status, answer, _ = await ask(http, example, prompt="text, for which an engine is asked")
    assert status == 502
    assert all(url in answer["error"]["message"] for url in example.engine_urls)


async def test_a_stream_whose_engine_dies_ends_with_an_error(
    start_standalone: Callable[..., StandaloneExample], http: aiohttp.ClientSession
) -> None:
    example = start_standalone()
    body = {**BODY, "max_tokens": 50_000, "stream": True}
    async with http.post(f"{example.url}/v1/completions", json=body) as response:
        await response.content.readuntil(b"\n\n")
        for pid in example.engine_pids:
            os.kill(pid, signal.SIGKILL)
        rest = await response.content.read()
    assert rest.rstrip().splitlines()[-1].startswith(b'data: {"error":')
    assert b"broke off" in rest
    assert b"[DONE]" not in rest


async def test_a_whole_answer_whose_engine_dies_is_a_502(
    start_standalone: Callable[..., StandaloneExample], http: aiohttp.ClientSession
) -> None:
    example = start_standalone()
    asking = asyncio.ensure_future(ask(http, example, max_tokens=50_000))

    async def running() -> bool:
        return await running_requests(http, example.engine_urls) == 1

    await eventually(running, what="the engine runs the request")
    for pid in example.engine_pids:
        os.kill(pid, signal.SIGKILL)
    status, answer, _ = await asking
    assert status == 502
    assert answer["error"]["type"] == "engine_unavailable"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_every_process(
    start_standalone: Callable[..., StandaloneExample], number: signal.Signals
) -> None:
    example = start_standalone()
    assert example.stop(number) in (0, -number)
    for pid in (example.router_pid, *example.engine_pids):
        assert not running_process(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends orphans on Linux only")
async def test_no_process_outlives_a_killed_frontend(
    start_standalone: Callable[..., StandaloneExample],
) -> None:
    example = start_standalone()
    example.kill()

    async def all_ended() -> bool:
        pids = (example.router_pid, *example.engine_pids)
        return not any(running_process(pid) for pid in pids)

    await eventually(all_ended, what="the children end")


def test_a_port_that_is_taken_ends_the_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        command = [sys.executable, "router.py", "--port", str(port)]
        with start_process(command) as process:
            assert process.wait(60) == 1

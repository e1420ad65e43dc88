"""Two legs through the frontend, for every connector: one engine's content, and every failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from disagg_harness import (
    CHAT,
    CONNECTORS,
    PROMPT,
    Deployment,
    deployment,
    reason_of,
    text_of,
)

pytestmark = pytest.mark.timeout(120)

COMPLETION = "/v1/completions"
CHATS = "/v1/chat/completions"


@pytest.fixture(params=[(1, 1), (2, 4)], ids=["1P1D", "2P4D"])
def size(request: pytest.FixtureRequest) -> tuple[int, int]:
    pair: tuple[int, int] = request.param
    return pair


@pytest.fixture(params=CONNECTORS)
async def fleet(
    request: pytest.FixtureRequest, size: tuple[int, int], tmp_path: Path
) -> AsyncIterator[Deployment]:
    async with deployment(request.param, *size, tmp_path) as made:
        yield made


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        (COMPLETION, {"prompt": PROMPT, "max_tokens": 20}),
        (COMPLETION, {"prompt": PROMPT, "max_tokens": 1}),
        (COMPLETION, {"prompt": [5, 6, 7], "max_tokens": 3}),
        (CHATS, {"messages": CHAT, "max_tokens": 12}),
        (CHATS, {"messages": CHAT, "max_completion_tokens": 12}),
    ],
    ids=["completion", "one-token", "below-a-block", "chat", "chat-completion-tokens"],
)
async def test_a_client_gets_one_engine_s_content(
    fleet: Deployment, path: str, body: dict[str, Any], stream: bool
) -> None:
    wanted = await fleet.single_answer(path, **body, stream=stream)
    if stream:
        status, answer, done = await fleet.stream(path, **body)
        assert done
    else:
        status, answer, headers = await fleet.ask(path, **body)
        assert headers["x-kvroute-prefill-worker"] in {e.http_url for e in fleet.prefill}
        assert headers["x-kvroute-worker"] in {e.http_url for e in fleet.decode}
        usage, expected = answer["usage"], wanted["usage"]
        for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
            assert usage[name] == expected[name], name
    assert status == 200, answer
    assert text_of(answer) == text_of(wanted)
    assert reason_of(answer) == reason_of(wanted)
    await fleet.settled()


FAULTS = [
    ("prefill", "accepted"),
    ("prefill", "prefill"),
    ("prefill", "answer"),
    ("decode", "accepted"),
    ("decode", "decode_start"),
]


@pytest.mark.parametrize("action", ["error500", "close"])
@pytest.mark.parametrize(("leg", "step"), FAULTS, ids=[f"{leg}-{step}" for leg, step in FAULTS])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_leg_that_fails_once_is_made_good(
    fleet: Deployment, leg: str, step: str, action: str, stream: bool
) -> None:
    body = {"prompt": PROMPT, "max_tokens": 8}
    for engine in fleet.prefill if leg == "prefill" else fleet.decode[:1]:
        await fleet.fault(engine, step, action)
    alone = leg == "decode" and len(fleet.decode) == 1
    wanted = await fleet.single_answer(COMPLETION, **body, stream=stream)
    if stream:
        status, answer, done = await fleet.stream(COMPLETION, **body)
    else:
        status, answer, _ = await fleet.ask(COMPLETION, **body)
        done = status == 200
    if status == 200 and done:
        assert text_of(answer) == text_of(wanted)
    else:  # one clear error: nobody was left to decode, or the answer had begun
        assert alone or stream, answer
        error = answer["error"] if isinstance(answer, dict) else answer[-1]["error"]
        assert error["message"]
    await fleet.settled()


async def test_a_client_that_leaves_ends_both_legs(fleet: Deployment) -> None:
    for engine in fleet.prefill:
        await fleet.fault(engine, "prefill", "hang", count=10)
    asking = asyncio.create_task(fleet.ask(COMPLETION, prompt=PROMPT, max_tokens=8))
    while not any(engine.core.scheduler.has_work for engine in fleet.prefill):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
        if asking.done():
            break
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await fleet.settled()

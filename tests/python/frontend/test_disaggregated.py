"""Two legs through the frontend give a client one engine's content."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from answer_check import check
from disagg_harness import (
    CHAT,
    PROMPT,
    Deployment,
    deployment,
    reason_of,
    text_of,
)

pytestmark = [pytest.mark.timeout(60), pytest.mark.asyncio(loop_scope="module")]

COMPLETION = "/v1/completions"
CHATS = "/v1/chat/completions"
ALONE = ("sglang", "p2p_nccl")  # their engines of one role serve nothing alone
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


@pytest_asyncio.fixture(
    params=("nixl", "sglang", "mooncake", "shared_storage"), scope="module", loop_scope="module"
)
async def fleet(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Deployment]:
    async with deployment(request.param, 2, 4, tmp_path_factory.mktemp("transfer")) as made:
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


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    "options",
    [
        {"max_tokens": None},
        {"max_tokens": 9, "min_tokens": 9},
        {"max_tokens": 9, "temperature": 0.7, "seed": 11},
        {"max_tokens": 20, "stop": ["a", "er"]},
        {"max_tokens": 20, "stop_token_ids": [101]},
        {"max_tokens": 9, "presence_penalty": 0.5},
    ],
    ids=lambda options: ",".join(options),
)
async def test_what_is_asked_for_is_heeded(
    fleet: Deployment, options: dict[str, Any], stream: bool
) -> None:
    usage = {"stream_options": {"include_usage": True}} if stream else {}
    for path, prompt, more in (
        (COMPLETION, {"prompt": PROMPT}, {"logprobs": 3}),
        (CHATS, {"messages": CHAT, "tools": TOOLS}, {"logprobs": True, "top_logprobs": 2}),
    ):
        await check(fleet, path, {**prompt, **more, **options, "stream": stream, **usage})


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"prompt": PROMPT, "n": 2}, "n"),
        ({"prompt": PROMPT, "echo": True}, "echo"),
        ({"prompt": [PROMPT, [1, 2]]}, "batch"),
    ],
    ids=["n", "echo", "batch"],
)
async def test_what_two_legs_cannot_serve_goes_whole_and_is_counted(
    fleet: Deployment, body: dict[str, Any], reason: str
) -> None:
    connector = fleet.prefill[0].config.kv_connector
    whole = {"model": "m", "reason": f"protocol_{reason}"}
    before = await fleet.frontend.metric("kvroute_disagg_whole_requests_total", **whole)
    status, answer, headers = await fleet.ask(COMPLETION, **body, max_tokens=9)
    wanted = await fleet.single_answer(COMPLETION, **body, max_tokens=9)
    if (connector, reason) == ("sglang", "batch"):  # a room for each prompt
        assert (status, answer["choices"]) == (200, wanted["choices"])
        assert "x-kvroute-prefill-worker" in headers
        return
    if connector in ALONE:
        assert (status, answer["error"]["param"]) == (400, reason)
    else:
        assert (status, answer["choices"]) == (200, wanted["choices"])
    assert "x-kvroute-prefill-worker" not in headers
    assert await fleet.frontend.metric("kvroute_disagg_whole_requests_total", **whole) == before + 1
    await fleet.settled()

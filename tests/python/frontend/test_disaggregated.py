"""Two legs through the frontend give a client one engine's content."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
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

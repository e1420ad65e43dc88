"""What two legs of LMCache and P2P NCCL give to a client is what one engine gives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from answer_check import check, view
from disagg_harness import CHAT, PROMPT, Deployment, deployment

pytestmark = [pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]

COMPLETION = "/v1/completions"
CHATS = "/v1/chat/completions"
EXPIRY = 0.5  # of blocks that came for an answer which its first token ended
# The engines' byte tokenizer makes several tokens of such a letter, and the first of them shows no
# text: a prompt that ends with a space goes on with one.
WORDS = ("été", "über", "日本", "œuvre", "ñandú", "🙂")
TEXT = "Say something in French, or in Japanese: "

Answer = Callable[[str], dict[str, Any]]


@pytest_asyncio.fixture(params=["lmcache", "p2p_nccl"], scope="module", loop_scope="module")
async def fleet(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Deployment]:
    folder: Path = tmp_path_factory.mktemp(request.param)
    async with deployment(
        request.param, 1, 2, folder, engines={"transfer_expiry": EXPIRY, "words": WORDS}
    ) as made:
        yield made


USAGE = {"include_usage": True}
COUNTS = {"include_usage": True, "continuous_usage_stats": True}
PROMPTS: dict[str, dict[str, Any]] = {
    "ids": {"prompt": PROMPT},
    "below-a-block": {"prompt": [5, 6, 7]},
    "text": {"prompt": "The quick brown fox"},
    "list-of-a-text": {"prompt": ["The quick brown fox"]},
    "list-of-ids": {"prompt": [PROMPT]},
    "half-a-character-first": {"prompt": TEXT},
    "chat": {"messages": CHAT},
    "chat-parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]},
    "chat-continued": {
        "messages": [*CHAT, {"role": "assistant", "content": "Because "}],
        "add_generation_prompt": False,
        "continue_final_message": True,
    },
}


def path_of(prompt: dict[str, Any]) -> str:
    return CHATS if "messages" in prompt else COMPLETION


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
async def test_every_form_of_a_prompt(
    fleet: Deployment, prompt: dict[str, Any], stream: bool
) -> None:
    await check(fleet, path_of(prompt), {**prompt, "max_tokens": 20, "stream": stream})


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", ["ids", "half-a-character-first", "chat"])
@pytest.mark.parametrize(
    "options",
    [
        {"max_tokens": 1},
        {"max_tokens": 2},
        {"max_tokens": 3},
        {"max_tokens": None},
        {"max_tokens": 9, "min_tokens": 3},
        {"max_tokens": 9, "min_tokens": 9},
        {"max_tokens": 9, "temperature": 0.7, "seed": 11},
        {"max_tokens": 9, "temperature": 0, "seed": 11},
    ],
    ids=lambda options: ",".join(f"{name}={value}" for name, value in options.items()),
)
async def test_limits_and_sampling(
    fleet: Deployment, name: str, options: dict[str, Any], stream: bool
) -> None:
    prompt = PROMPTS[name]
    seen = await check(fleet, path_of(prompt), {**prompt, **options, "stream": stream})
    assert seen["finish_reason"] == ("length" if options["max_tokens"] else "stop")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("top", [0, 1, 3])
@pytest.mark.parametrize("limit", [1, 2, 9])
@pytest.mark.parametrize("name", ["ids", "half-a-character-first", "chat"])
async def test_log_probabilities(
    fleet: Deployment, name: str, limit: int, top: int, stream: bool
) -> None:
    prompt = PROMPTS[name]
    options: dict[str, Any] = {"logprobs": top}
    if "messages" in prompt:
        options = {"logprobs": True, "top_logprobs": top}
    body = {**prompt, **options, "max_tokens": limit, "stream": stream}
    seen = await check(fleet, path_of(prompt), body)
    tokens = seen["logprobs"]["content" if "messages" in prompt else "tokens"]
    assert len(tokens) == limit


STOPS: dict[str, Answer] = {
    "first-token": lambda text: {"stop": text[0]},
    "second-token": lambda text: {"stop": [text[1], "never"]},
    "first-and-second": lambda text: {"stop": text[:2]},
    "first-to-fourth": lambda text: {"stop": ["never", text[:4]]},
    "later": lambda text: {"stop": text[5:7]},
    "begins-like-the-answer": lambda text: {"stop": text[0] + "#"},
    "not-before-the-third": lambda text: {"stop": text[0], "min_tokens": 3},
    "over-min-tokens": lambda text: {"stop": text[:3], "min_tokens": 2},
    "shown": lambda text: {"stop": text[:2], "include_stop_str_in_output": False},
    "first-stop-token": lambda text: {"stop_token_ids": [text.encode()[0]]},
    "later-stop-token": lambda text: {"stop_token_ids": [text.encode()[6], 258]},
    "stop-token-not-before": lambda text: {"stop_token_ids": [text.encode()[0]], "min_tokens": 2},
    "string-and-token": lambda text: {"stop": text[2], "stop_token_ids": [text.encode()[2]]},
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS)
@pytest.mark.parametrize("name", ["ids", "half-a-character-first", "chat"])
async def test_what_ends_an_answer(
    fleet: Deployment, name: str, stop: Answer, stream: bool
) -> None:
    prompt = PROMPTS[name]
    path = path_of(prompt)
    body = {**prompt, "max_tokens": 20}
    text = (await view(fleet, fleet.single.http_url, path, body))["text"]
    usage = {"stream_options": USAGE} if stream else {}
    await check(fleet, path, {**body, **stop(text), "stream": stream, **usage})


WHOLE: dict[str, tuple[dict[str, Any], str]] = {
    "n": ({"prompt": PROMPT, "n": 2}, "n"),
    "echo": ({"prompt": PROMPT, "echo": True}, "echo"),
    "several-prompts": ({"prompt": [PROMPT, [1, 2]]}, "batch"),
}
ONLY_LMCACHE: dict[str, tuple[dict[str, Any], str]] = {
    "tools": ({"messages": CHAT, "tools": [{"type": "function"}]}, "tools"),
    "response-format": (
        {"messages": CHAT, "response_format": {"type": "json_object"}},
        "response_format",
    ),
    "penalty": ({"prompt": PROMPT, "presence_penalty": 0.5}, "penalties"),
}


@pytest.mark.parametrize(
    ("body", "reason"), [*WHOLE.values(), *ONLY_LMCACHE.values()], ids=[*WHOLE, *ONLY_LMCACHE]
)
async def test_what_the_protocol_cannot_serve_goes_whole_and_is_counted(
    fleet: Deployment, body: dict[str, Any], reason: str
) -> None:
    connector = fleet.prefill[0].config.kv_connector
    path = path_of(body)
    if connector == "p2p_nccl" and reason not in [known for _, known in WHOLE.values()]:
        await check(fleet, path, {**body, "max_tokens": 9})
        return
    whole = {"model": "m", "reason": f"protocol_{reason}"}
    before = await fleet.frontend.metric("kvroute_disagg_whole_requests_total", **whole)
    status, answer, headers = await fleet.ask(path, **body, max_tokens=9)
    assert "x-kvroute-prefill-worker" not in headers
    if connector == "p2p_nccl":  # its engines of one role answer nothing without the other's help
        assert (status, answer["error"]["param"]) == (400, reason)
        assert "p2p_nccl serves no such request" in answer["error"]["message"]
    else:
        wanted = await fleet.single_answer(path, **body, max_tokens=9)
        assert (status, answer["choices"]) == (200, wanted["choices"])
    assert await fleet.frontend.metric("kvroute_disagg_whole_requests_total", **whole) == before + 1
    await fleet.settled()


@pytest.mark.parametrize("options", [USAGE, COUNTS, {"continuous_usage_stats": True}])
@pytest.mark.parametrize("limit", [1, 2, 12])
@pytest.mark.parametrize("name", ["ids", "half-a-character-first", "chat"])
async def test_usage_of_a_stream_adds_up(
    fleet: Deployment, name: str, limit: int, options: dict[str, bool]
) -> None:
    prompt = PROMPTS[name]
    body = {**prompt, "max_tokens": limit, "stream": True, "stream_options": options}
    seen = await check(fleet, path_of(prompt), body)
    if "include_usage" not in options:
        assert seen["usage"] is None
    else:
        usage = seen["usage"]
        assert usage["completion_tokens"] == limit
        assert usage["total_tokens"] == usage["prompt_tokens"] + limit

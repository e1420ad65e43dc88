"""Where an answer ends by itself or by a stop string, and what is told of each token."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kvroute.engines import CostModel, SimulatedEngine
from kvroute.engines.byte_tokenizer import ByteTokenizer
from kvroute.engines.ending import Ending, ending_of
from kvroute.engines.output_text import Lexicon, OutputText

LEXICON = Lexicon(ByteTokenizer())
PROMPT = list(range(50))


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1), st.integers(1, 300))
def test_a_text_ends_where_it_ends_when_its_beginning_is_in_the_prompt(
    seed: int, begun: int
) -> None:
    whole = OutputText(LEXICON, seed, PROMPT)
    end = whole.natural_end(begun + 1, 5000)
    assert end is not None
    rest = OutputText(LEXICON, seed, [*PROMPT, *whole.ids(0, begun)])
    assert rest.natural_end(1, 5000) == end - begun


def test_texts_end_after_64_tokens_in_the_mean() -> None:
    ends = [OutputText(LEXICON, seed).natural_end(1, 5000) or 0 for seed in range(2000)]
    assert 58 < sum(ends) / len(ends) < 75


def test_a_limit_or_the_room_comes_before_the_end() -> None:
    end = OutputText(LEXICON, 1).natural_end(1, 5000)
    assert end is not None
    assert ending_of(OutputText(LEXICON, 1), None, 5000) == Ending(end, "stop")
    assert ending_of(OutputText(LEXICON, 1), None, end - 1) == Ending(end - 1, "length")
    assert ending_of(OutputText(LEXICON, 1), end + 5, 5000) == Ending(end + 5, "length")


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 60), st.sampled_from(["e", "er", " a", "n c", "zz"]))
def test_a_stop_string_ends_the_text_before_itself(seed: int, least: int, stop: str) -> None:
    text = OutputText(LEXICON, seed).text(0, 100)
    ending = ending_of(OutputText(LEXICON, seed), 100, 100, least=least, stops=(stop,))
    found = text.find(stop, max(0, least + 1 - len(stop)))
    if found < 0:
        assert ending == Ending(100, "length")
    else:  # a token is a character here
        assert ending == Ending(found + len(stop), "stop", stop, found)


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 60), st.sets(st.sampled_from(list(b"eaxz n"))))
def test_a_stop_token_is_the_last_and_not_shown(seed: int, least: int, stops: set[int]) -> None:
    text = OutputText(LEXICON, seed).text(0, 100)
    ending = ending_of(
        OutputText(LEXICON, seed), 100, 100, least=least, stop_token_ids=sorted(stops)
    )
    found = next((at for at in range(least, 100) if ord(text[at]) in stops), None)
    if found is None:
        assert ending == Ending(100, "length")
    else:
        assert ending == Ending(found + 1, "stop", ord(text[found]), found)


def test_a_stop_token_completes_no_stop_string() -> None:
    text = OutputText(LEXICON, 1).text(0, 100)
    stop, token = text[4:7], ord(text[6])
    first = text.index(text[6])
    ending = ending_of(OutputText(LEXICON, 1), 100, 100, stops=(stop,), stop_token_ids=(token,))
    assert ending == Ending(first + 1, "stop", token, first)
    ending = ending_of(OutputText(LEXICON, 1), 100, 100, stops=(text[:2],), stop_token_ids=(token,))
    assert ending == Ending(2, "stop", text[:2], 0)


@pytest.fixture
async def engine() -> AsyncIterator[SimulatedEngine]:
    async with SimulatedEngine(model="m", cost=CostModel(speed=1000)) as engine:
        yield engine


async def choice(engine: SimulatedEngine, path: str, body: dict[str, Any]) -> Any:
    async with (
        aiohttp.ClientSession() as session,
        session.post(engine.http_url + path, json=body) as response,
    ):
        assert response.status == 200, await response.text()
        return (await response.json())["choices"][0]


async def streamed(engine: SimulatedEngine, path: str, body: dict[str, Any]) -> list[Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(engine.http_url + path, json={**body, "stream": True}) as response,
    ):
        assert response.status == 200, await response.text()
        events = (await response.read()).decode().split("\n\n")
    return [
        orjson.loads(event[6:])["choices"][0] for event in events if event.startswith("data: {")
    ]


async def test_a_stop_string_is_neither_answered_nor_streamed(engine: SimulatedEngine) -> None:
    body = {"prompt": PROMPT, "max_tokens": 60}
    text = (await choice(engine, "/v1/completions", body))["text"]
    stop = text[20:23]
    stopped = {**body, "stop": ["never", stop]}
    whole = await choice(engine, "/v1/completions", stopped)
    assert whole["text"] == text[: text.index(stop)]
    assert (whole["finish_reason"], whole["stop_reason"]) == ("stop", stop)
    chunks = await streamed(engine, "/v1/completions", stopped)
    assert "".join(chunk["text"] for chunk in chunks) == whole["text"]
    assert chunks[-1]["stop_reason"] == stop


async def test_a_stop_token_s_text_is_not_answered(engine: SimulatedEngine) -> None:
    body = {"prompt": PROMPT, "max_tokens": 60}
    text = (await choice(engine, "/v1/completions", body))["text"]
    token = ord(text[20])
    body["stop_token_ids"] = [token]
    whole = await choice(engine, "/v1/completions", body)
    assert whole["text"] == text[: text.index(text[20])]
    assert (whole["finish_reason"], whole["stop_reason"]) == ("stop", token)
    chunks = await streamed(engine, "/v1/completions", body)
    assert "".join(chunk["text"] for chunk in chunks) == whole["text"]


async def test_a_stream_counts_its_tokens_as_it_goes(engine: SimulatedEngine) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    body = {"prompt": PROMPT, "max_tokens": 9, "stream": True, "stream_options": options}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{engine.http_url}/v1/completions", json=body) as response,
    ):
        events = (await response.read()).split(b"\n\n")
    *chunks, last = [orjson.loads(event[6:]) for event in events if event.startswith(b"data: {")]
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert counts == sorted(counts)
    assert (counts[-1], last["usage"]["completion_tokens"]) == (9, 9)
    assert chunks[0]["usage"]["prompt_tokens"] == len(PROMPT)


async def test_a_completion_without_a_limit_ends_by_itself(engine: SimulatedEngine) -> None:
    unlimited = await choice(
        engine, "/v1/completions", {"prompt": PROMPT, "max_tokens": None, "seed": 3}
    )
    assert unlimited["finish_reason"] == "stop"
    plain = await choice(engine, "/v1/completions", {"prompt": PROMPT, "seed": 3})
    assert plain["finish_reason"] == "length"


async def test_a_completion_s_logprobs_stand_for_its_text(engine: SimulatedEngine) -> None:
    body = {"prompt": PROMPT, "max_tokens": 20, "logprobs": 3}
    whole = await choice(engine, "/v1/completions", body)
    told = whole["logprobs"]
    assert "".join(told["tokens"]) == whole["text"]
    assert told["text_offset"] == list(range(20))
    for token, logprob, top in zip(
        told["tokens"], told["token_logprobs"], told["top_logprobs"], strict=True
    ):
        assert top[token] == logprob <= 0
        assert max(top.values()) == logprob
        assert 1 <= len(top) <= 3
    chunks = await streamed(engine, "/v1/completions", body)
    joined = [one for chunk in chunks for one in chunk["logprobs"]["token_logprobs"]]
    assert joined == told["token_logprobs"]


async def test_a_chat_s_logprobs_stand_for_its_text(engine: SimulatedEngine) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    body = {"messages": messages, "max_tokens": 20, "logprobs": True, "top_logprobs": 2}
    whole = await choice(engine, "/v1/chat/completions", body)
    told = whole["logprobs"]["content"]
    assert "".join(entry["token"] for entry in told) == whole["message"]["content"]
    for entry in told:
        assert entry["bytes"] == list(entry["token"].encode())
        if entry["top_logprobs"]:
            assert entry["top_logprobs"][0]["token"] == entry["token"]
    none = await choice(engine, "/v1/chat/completions", {**body, "logprobs": False})
    assert none["logprobs"] is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("stop", 1), ("stop", [""]), ("stop_token_ids", ["a"]), ("min_tokens", -1), ("logprobs", "x")],
)
async def test_a_wrong_value_is_refused(engine: SimulatedEngine, name: str, value: Any) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"{engine.http_url}/v1/completions", json={"prompt": "a", name: value}
        ) as response,
    ):
        assert response.status == 400
        assert (await response.json())["error"]["param"] == name

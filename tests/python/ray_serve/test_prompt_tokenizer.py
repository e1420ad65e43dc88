"""Token ids computed by the router from the prompt or chat of a request."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kvroute.ray_serve import prompt_tokenizer
from kvroute.ray_serve.counters import Counters
from kvroute.ray_serve.options import RouterOptions
from kvroute.ray_serve.token_ids import TokenSource
from kvroute.tokenization import Tokenizer
from pending_requests import pending
from pydantic import BaseModel
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers, processors

TEMPLATE = """\
{%- for message in messages %}{{ message.role + ' : ' + message.content + ' ' }}{% endfor %}
{%- for tool in tools or [] %}{{ tool.function.name + ' ' }}{% endfor %}
{%- if shout %}{{ 'loud ' }}{% endif %}
{%- if add_generation_prompt %}{{ 'assistant :' }}{% endif %}"""
WORDS = ["[UNK]", "<s>", "user", "assistant", "system", ":", "hello", "there", "weather", "loud"]


@pytest.fixture
def directory(tmp_path: Path) -> str:
    """A model's tokenizer: a token for each word, <s> before a prompt."""
    words = {word: number for number, word in enumerate(WORDS)}
    backend = Backend(models.WordLevel(words, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing("<s> $A", None, [("<s>", 1)])
    backend.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "chat_template.jinja").write_text(TEMPLATE)
    return str(tmp_path)


@pytest.fixture
def counters() -> Counters:
    return Counters()


@pytest.fixture
def source(directory: str, counters: Counters) -> Iterator[TokenSource]:
    source = TokenSource(RouterOptions.parse({"tokenizer": directory}), counters)
    yield source
    source.close()


class Message(BaseModel):
    role: str = "user"
    content: str
    name: str | None = None


class ChatRequest(BaseModel):
    messages: list[Message]
    tools: list[Any] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    max_tokens: int | None = None


@dataclass
class PlainMessage:
    role: str
    content: str


class PlainChat:
    def __init__(self, *messages: PlainMessage) -> None:
        self.messages = messages


class CompletionRequest(BaseModel):
    prompt: str | list[str] | list[int] | list[list[int]]
    add_special_tokens: bool = True


CHAT = {"messages": [{"role": "user", "content": "hello"}]}
CHAT_IDS = [2, 5, 6, 3, 5]  # user : hello assistant :
TOOL = {"type": "function", "function": {"name": "weather"}}


def words(ids: Any) -> str:
    return " ".join(WORDS[number] for number in ids)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("hello there", "<s> hello there"),
        ({"prompt": "hello there"}, "<s> hello there"),
        ({"prompt": "hello", "add_special_tokens": False}, "hello"),
        ({"prompt": ["hello", "there"]}, "<s> hello"),
        (CompletionRequest(prompt="hello"), "<s> hello"),
        (CompletionRequest(prompt="hello", add_special_tokens=False), "hello"),
        (CHAT, "user : hello assistant :"),
        ({**CHAT, "prompt": "there"}, "user : hello assistant :"),
        ({**CHAT, "add_generation_prompt": False}, "user : hello"),
        ({**CHAT, "tools": [TOOL]}, "user : hello weather assistant :"),
        ({**CHAT, "chat_template_kwargs": {"shout": True}}, "user : hello loud assistant :"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]},
            "user : hello assistant :",
        ),
        (ChatRequest(messages=[Message(content="hello")]), "user : hello assistant :"),
        (
            ChatRequest(
                messages=[Message(role="system", content="there"), Message(content="hello")],
                tools=[TOOL],
                chat_template_kwargs={"shout": True},
            ),
            "system : there user : hello weather loud assistant :",
        ),
        (PlainChat(PlainMessage("user", "hello")), "user : hello assistant :"),
        ({"messages": [Message(content="hello")]}, "user : hello assistant :"),
    ],
)
async def test_prompts_and_chats_become_the_engines_tokens(
    source: TokenSource, body: Any, expected: str
) -> None:
    assert source.computes
    assert source.read(pending(body)) is None
    prompt = await source.compute(pending(body))
    assert prompt is not None
    assert words(prompt.token_ids) == expected


async def test_keywords_stand_for_the_body_where_there_is_no_argument(source: TokenSource) -> None:
    prompt = await source.compute(pending(prompt="hello"))
    assert prompt is not None
    assert words(prompt.token_ids) == "<s> hello"


@pytest.mark.parametrize("prompt", [[6, 7], [[6, 7], [8]]])
async def test_a_prompt_of_token_ids_is_taken_as_it_is(source: TokenSource, prompt: Any) -> None:
    for body in ({"prompt": prompt}, CompletionRequest(prompt=prompt)):
        found = await source.compute(pending(body))
        assert found is not None
        assert found.token_ids == [6, 7]


async def test_the_rest_of_the_request_is_known_too(source: TokenSource) -> None:
    body = ChatRequest(messages=[Message(content="hello")], max_tokens=5)
    found = await source.compute(pending(body, session_id="s"))
    assert found is not None
    assert (found.session_id, found.expected_output_tokens) == ("s", 5)


@pytest.mark.parametrize("body", [{}, {"messages": []}, {"prompt": None}, {"prompt": []}, None])
async def test_a_request_without_a_prompt_has_no_ids(
    source: TokenSource, counters: Counters, body: Any
) -> None:
    assert await source.compute(pending(body)) is None
    assert counters.malformed_token_ids == 0


async def test_what_no_template_takes_is_logged_once_and_has_no_ids(
    source: TokenSource, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "ray.serve"):
        for body in ({"messages": ["text"]}, {**CHAT, "chat_template": "{{ messages }}"}):
            assert await source.compute(pending(body)) is None
    assert len(caplog.records) == 1


async def test_a_text_under_the_path_is_left_to_the_tokenizer(
    directory: str, counters: Counters
) -> None:
    options = {"tokenizer": directory, "token_ids_argument": "0.prompt"}
    source = TokenSource(RouterOptions.parse(options), counters)
    assert source.read(pending({"prompt": "hello"})) is None
    assert counters.malformed_token_ids == 0
    source.close()


async def test_the_event_loop_goes_on_while_a_thread_tokenizes(
    source: TokenSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, going_on = Tokenizer.encode, threading.Event()

    def waiting(*args: Any, **kwargs: Any) -> list[int]:
        assert going_on.wait(10)
        return encode(*args, **kwargs)

    monkeypatch.setattr(Tokenizer, "encode", waiting)
    computed = asyncio.ensure_future(source.compute(pending({"prompt": "hello"})))
    await asyncio.sleep(0)
    going_on.set()  # reached, though the tokenizer waits for it
    assert await asyncio.wait_for(computed, 10) is not None


async def test_the_tokenizer_is_loaded_in_a_thread_of_its_own_once(
    directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, going_on, threads = Tokenizer.from_directory, threading.Event(), []

    def slow(*args: Any, **kwargs: Any) -> Tokenizer:
        threads.append(threading.current_thread())
        assert going_on.wait(10)
        return load(*args, **kwargs)

    prompt_tokenizer.load_tokenizer.cache_clear()
    monkeypatch.setattr(Tokenizer, "from_directory", slow)
    source = TokenSource(RouterOptions.parse({"tokenizer": directory}))
    asked = [asyncio.ensure_future(source.compute(pending("hello there"))) for _ in range(8)]
    await asyncio.sleep(0)
    going_on.set()
    answers = await asyncio.wait_for(asyncio.gather(*asked), 10)
    assert {words(answer.token_ids) for answer in answers} == {"<s> hello there"}
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()
    source.close()


async def test_a_tokenizer_that_cannot_be_loaded_leaves_requests_without_ids_and_is_told(
    directory: str, caplog: pytest.LogCaptureFixture
) -> None:
    Path(directory, "tokenizer.json").write_text("{")
    prompt_tokenizer.load_tokenizer.cache_clear()
    source = TokenSource(RouterOptions.parse({"tokenizer": directory}))
    for _ in range(2):
        assert await source.compute(pending("hello")) is None
    assert "the tokenizer failed: routed without token ids" in caplog.text
    source.close()


def test_a_directory_is_read_once_a_process(directory: str) -> None:
    assert prompt_tokenizer.load_tokenizer(directory) is prompt_tokenizer.load_tokenizer(directory)

"""An engine with a model's tokenizer: its tokens are the ones that the frontend computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest
import tokenizers
from kvroute.engines import CostModel, SimulatedEngine
from kvroute.tokenization import Tokenizer
from tokenizers import decoders as token_decoders
from tokenizers import models, pre_tokenizers, processors

TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
CHAT = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Where is the river?"},
    ]
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A byte-level BPE tokenizer of single bytes and a few merges, with a chat template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "r"), ("Ġr", "i"), ("v", "e"), ("Ġri", "ve")]
    words = [*alphabet, *("".join(merge) for merge in merges)]
    vocabulary = {word: number for number, word in enumerate(words)}
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = token_decoders.ByteLevel()
    backend.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "chat_template.jinja").write_text(TEMPLATE)
    return tmp_path


async def prompt_tokens(directory: Path, **fields: Any) -> tuple[list[int], int]:
    """A chat's tokens as /tokenize tells them, and how many the chat path counts."""
    body = {**CHAT, "max_tokens": 1, **fields}
    async with (
        SimulatedEngine(tokenizer=directory, cost=CostModel(speed=1000)) as engine,
        aiohttp.ClientSession(engine.http_url) as session,
    ):
        async with session.post("/tokenize", json=body) as response:
            assert response.status == 200, await response.text()
            tokens = (await response.json())["tokens"]
        async with session.post("/v1/chat/completions", json=body) as response:
            assert response.status == 200, await response.text()
            return tokens, (await response.json())["usage"]["prompt_tokens"]


async def test_its_tokens_are_the_tokenizer_s(directory: Path) -> None:
    tokenizer = Tokenizer.from_directory(directory)
    async with (
        SimulatedEngine(tokenizer=directory, cost=CostModel(speed=1000)) as engine,
        aiohttp.ClientSession(engine.http_url) as session,
    ):

        async def post(path: str, body: Any) -> Any:
            async with session.post(path, json=body) as response:
                assert response.status == 200, await response.text()
                return await response.json()

        chat = await post("/tokenize", CHAT)
        assert chat["tokens"] == tokenizer.apply_chat_template(CHAT["messages"])
        answer = await post("/v1/chat/completions", CHAT)
        assert answer["usage"]["prompt_tokens"] == chat["count"]
        text = answer["choices"][0]["message"]["content"]
        again = await post("/tokenize", {"prompt": text, "add_special_tokens": False})
        assert again["count"] == answer["usage"]["completion_tokens"]


async def test_what_the_template_refuses_is_a_400(directory: Path) -> None:
    (directory / "chat_template.jinja").write_text("{{ raise_exception('no such role') }}")
    async with (
        SimulatedEngine(tokenizer=directory, cost=CostModel(speed=1000)) as engine,
        aiohttp.ClientSession(engine.http_url) as session,
        session.post("/v1/chat/completions", json=CHAT) as response,
    ):
        assert response.status == 400
        assert (await response.json())["error"]["param"] == "messages"


async def test_special_tokens_surround_a_chat_only_where_asked_for(directory: Path) -> None:
    backend = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
    backend.add_special_tokens(["<bos>"])
    begin = backend.token_to_id("<bos>")
    backend.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", begin)]
    )
    backend.save(str(directory / "tokenizer.json"))
    plain, counted = await prompt_tokens(directory)
    assert begin not in plain
    assert counted == len(plain)
    assert await prompt_tokens(directory, add_special_tokens=False) == (plain, counted)
    special, counted = await prompt_tokens(directory, add_special_tokens=True)
    assert special == [begin, *plain]
    assert counted == len(special)


async def test_the_template_sees_what_a_chat_gives_it(directory: Path) -> None:
    (directory / "chat_template.jinja").write_text(
        "{% for message in messages %}{{ message.content }}{% endfor %}{{ thinking }}"
        "{{ reasoning_effort }}{{ documents | tojson if documents else '' }}"
    )
    tokenizer = Tokenizer.from_directory(directory)

    async def texts(**fields: Any) -> tuple[str, int]:
        tokens, counted = await prompt_tokens(directory, **fields)
        return tokenizer.decode(tokens).removeprefix("Be brief.Where is the river?"), counted

    async def counted(**fields: Any) -> int:
        return (await prompt_tokens(directory, **fields))[1]

    documents = [{"title": "a", "text": "b"}]
    inside = {"thinking": "T", "reasoning_effort": "high", "documents": documents}
    text, whole = await texts(chat_template_kwargs=inside)
    assert text == 'Thigh[{"title": "a", "text": "b"}]'
    assert whole == await counted(
        chat_template_kwargs={"thinking": "T"}, reasoning_effort="high", documents=documents
    )
    assert whole - 1 == await counted(chat_template_kwargs=inside, reasoning_effort="low")


async def test_a_chat_s_own_flags_win_over_the_template_s_arguments(directory: Path) -> None:
    plain = await prompt_tokens(directory)
    given = {"add_generation_prompt": False, "continue_final_message": True}
    assert await prompt_tokens(directory, chat_template_kwargs=given) == plain

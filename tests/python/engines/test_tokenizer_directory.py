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
from tokenizers import models, pre_tokenizers

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

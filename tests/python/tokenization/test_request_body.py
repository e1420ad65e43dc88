"""The token ids of an OpenAI request's fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kvroute.tokenization import TokenizationError, Tokenizer
from kvroute.tokenization.request_body import (
    CHAT_FIELDS,
    chat_token_ids,
    template_variables,
    text_token_ids,
)

MESSAGES = [{"role": "user", "content": "hello"}]


@pytest.fixture
def tokenizer(template_directories: dict[str, Path]) -> Tokenizer:
    return Tokenizer.from_directory(template_directories["reasoning"])


def text_of(tokenizer: Tokenizer, **fields: Any) -> str:
    return tokenizer.decode(chat_token_ids(tokenizer, {"messages": MESSAGES, **fields}))


def test_an_answer_is_asked_for_unless_the_chat_says_otherwise(tokenizer: Tokenizer) -> None:
    assert "assistant:" in text_of(tokenizer)
    assert "assistant:" not in text_of(tokenizer, add_generation_prompt=False)


def test_variables_reach_the_template(tokenizer: Tokenizer) -> None:
    assert "user (calm): hello" in text_of(
        tokenizer, chat_template_kwargs={"enable_thinking": False}
    )


def test_fields_win_over_variables_of_their_name() -> None:
    fields = {"chat_template_kwargs": {"documents": 1, "other": 2}, "documents": 3}
    assert template_variables(fields) == {"documents": 3, "other": 2}
    assert template_variables({}) == {}


@pytest.mark.parametrize(
    "fields",
    [
        {"chat_template": "{{ messages }}"},
        {"chat_template_kwargs": {"messages": []}},
        {"chat_template_kwargs": 5},
        {"messages": "text"},
    ],
)
def test_what_only_the_engine_could_make_something_of_is_refused(
    tokenizer: Tokenizer, fields: dict[str, Any]
) -> None:
    with pytest.raises(TokenizationError):
        text_of(tokenizer, **fields)


def test_special_tokens_are_added_to_a_text_unless_it_says_otherwise(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def encode(_self: Tokenizer, _text: str, add_special_tokens: bool = True) -> list[int]:
        asked.append(add_special_tokens)
        return [1]

    monkeypatch.setattr(Tokenizer, "encode", encode)
    text_token_ids(tokenizer, "hello", {})
    text_token_ids(tokenizer, "hello", {"add_special_tokens": False})
    assert asked == [True, False]


def test_the_fields_of_a_chat_are_all_that_is_looked_at(tokenizer: Tokenizer) -> None:
    class Watched(dict[str, Any]):
        asked: set[str] = set()  # noqa: RUF012 (of this test alone)

        def get(self, key: str, default: Any = None) -> Any:
            self.asked.add(key)
            return super().get(key, default)

    fields = Watched(messages=MESSAGES)
    chat_token_ids(tokenizer, fields)
    assert fields.asked | {"messages"} == set(CHAT_FIELDS)

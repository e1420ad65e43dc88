"""Which files of a tokenizer directory count, and the errors that name them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kvroute.tokenization import TokenizationError, Tokenizer

CHAT = [{"role": "user", "content": "hi"}]


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(TokenizationError, match="nowhere: expected a directory"):
        Tokenizer.from_directory(tmp_path / "nowhere")


def test_a_missing_tokenizer_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TokenizationError, match=r"tokenizer\.json: expected the tokenizer's file"):
        Tokenizer.from_directory(tmp_path)


def test_a_broken_tokenizer_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(TokenizationError, match=r"tokenizer\.json: "):
        Tokenizer.from_directory(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_broken_configuration_is_named(make_directory: Any, text: str) -> None:
    path = make_directory()
    (path / "tokenizer_config.json").write_text(text)
    with pytest.raises(TokenizationError, match=r"tokenizer_config\.json: expected"):
        Tokenizer.from_directory(path)


def test_a_template_that_does_not_compile_names_its_line(make_directory: Any) -> None:
    path = make_directory("fine\n{% for %}")
    with pytest.raises(TokenizationError, match="chat template, line 2"):
        Tokenizer.from_directory(path)


def test_a_model_without_a_template_encodes_text_and_refuses_chats(make_directory: Any) -> None:
    tokenizer = Tokenizer.from_directory(make_directory())
    assert tokenizer.encode("hello")
    with pytest.raises(TokenizationError, match="found none"):
        tokenizer.apply_chat_template(CHAT)


def test_named_templates_without_a_default_are_refused(make_directory: Any) -> None:
    tokenizer = Tokenizer.from_directory(
        make_directory([{"name": "rag", "template": "x"}, {"name": "tool_use", "template": "y"}])
    )
    with pytest.raises(TokenizationError, match="rag"):
        tokenizer.apply_chat_template(CHAT)
    assert tokenizer.render_chat(CHAT, tools=[{"function": {"name": "f"}}]) == "y"


def test_additional_template_files_are_named_by_their_file(make_directory: Any) -> None:
    path = make_directory(jinja="plain")
    (path / "additional_chat_templates").mkdir()
    (path / "additional_chat_templates" / "tool_use.jinja").write_text("with tools")
    tokenizer = Tokenizer.from_directory(path)
    assert tokenizer.render_chat(CHAT) == "plain"
    assert tokenizer.render_chat(CHAT, tools=[{"function": {"name": "f"}}]) == "with tools"


def test_a_processors_template_is_the_last_resort(make_directory: Any) -> None:
    path = make_directory()
    (path / "chat_template.json").write_text('{"chat_template": "from the processor"}')
    assert Tokenizer.from_directory(path).render_chat(CHAT) == "from the processor"


def test_templates_run_in_a_sandbox(make_directory: Any) -> None:
    path = make_directory("{{ messages.__class__.__mro__[1].__subclasses__() }}")
    with pytest.raises(TokenizationError, match="unsafe"):
        Tokenizer.from_directory(path).render_chat(CHAT)


def test_templates_cannot_change_the_conversation(make_directory: Any) -> None:
    path = make_directory("{% set _ = messages.append(1) %}{{ messages | length }}")
    with pytest.raises(TokenizationError, match="unsafe"):
        Tokenizer.from_directory(path).render_chat(CHAT)

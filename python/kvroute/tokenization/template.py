"""Chat templates: Jinja2 in a sandbox, rendered as Hugging Face Transformers renders them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment

from kvroute.tokenization.content import ContentFormat, detect_content_format
from kvroute.tokenization.errors import TokenizationError

# Ends in a blank so that a template which strips the content can be told from one that keeps it.
_CONTINUE_MARK = "KVROUTE_CONTINUES_HERE "
_REASONING_FIELDS = ("reasoning_content", "thinking", "reasoning")


class ChatTemplate:
    """One compiled chat template. Immutable; may be rendered from several threads at once.

    `content_format` says what the template wants as a message's content ("string" or "openai");
    None detects it from the template's text. Raises TokenizationError for a template that does not
    compile, naming its line.
    """

    def __init__(self, source: str, content_format: ContentFormat | None = None) -> None:
        try:
            self._template = _ENVIRONMENT.from_string(source)
            tree = _ENVIRONMENT.parse(source)
        except jinja2.TemplateSyntaxError as error:
            raise TokenizationError(
                f"chat template, line {error.lineno}: {error.message}"
            ) from error
        self.source = source
        self.content_format: ContentFormat = content_format or detect_content_format(tree)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        **variables: Any,
    ) -> str:
        """The prompt's text. `variables` are visible to the template (bos_token, documents, …).

        Keys of a message whose value is None are dropped, and a message's reasoning is visible
        under all of its names. `continue_final_message` cuts the text right after the last
        message's content. Raises TokenizationError, also for what the template itself refuses by
        ``raise_exception``.
        """
        if continue_final_message and add_generation_prompt:
            raise TokenizationError(
                "continue_final_message and add_generation_prompt exclude each other"
            )
        conversation = [_visible_message(message) for message in messages]
        final_text = ""
        if continue_final_message:
            final_text = _mark_final_message(conversation)
        try:
            text = self._template.render(
                **{
                    "documents": None,
                    **variables,
                    "messages": conversation,
                    "tools": tools,
                    "add_generation_prompt": add_generation_prompt,
                }
            )
        except Exception as error:  # a template may fail in any way; it must not take a caller down
            raise TokenizationError(f"chat template: {error}") from error
        return _cut_at_mark(text, final_text) if continue_final_message else text


class _GenerationBlock(Extension):
    """`{% generation %}…{% endgeneration %}`: marks an assistant's text for training; rendered."""

    tags = {"generation"}  # noqa: RUF012 (declared by the base class)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_render"), [], [], body).set_lineno(line)

    def _render(self, caller: Macro) -> str:
        return str(caller())


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_GenerationBlock, loopcontrols],
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


_ENVIRONMENT = _environment()


def _visible_message(message: Mapping[str, Any]) -> dict[str, Any]:
    visible = {key: value for key, value in message.items() if value is not None}
    reasoning = next((visible[key] for key in _REASONING_FIELDS if key in visible), None)
    if reasoning is not None:
        visible = {"thinking": reasoning, **visible, "reasoning_content": reasoning}
    return visible


def _mark_final_message(conversation: list[dict[str, Any]]) -> str:
    """Appends the mark to the last message's text, which is returned without it."""
    final = conversation[-1]
    content = final.get("content")
    if isinstance(content, str):
        final["content"] = content + _CONTINUE_MARK
        return content
    if isinstance(content, list):
        parts = [dict(part) for part in content]
        final["content"] = parts
        for part in reversed(parts):
            if "text" in part:
                text = str(part["text"])
                part["text"] = text + _CONTINUE_MARK
                return text
    raise TokenizationError("continue_final_message: the final message has no text to continue")


def _cut_at_mark(text: str, final_text: str) -> str:
    at = text.rfind(_CONTINUE_MARK.strip())
    if at < 0 or final_text.strip() not in text:
        raise TokenizationError(
            "continue_final_message: the final message does not appear in the rendered chat"
        )
    kept_blanks = text.startswith(_CONTINUE_MARK, at)
    return text[:at] if kept_blanks else text[:at].rstrip()

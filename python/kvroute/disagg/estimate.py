"""How long a request's prompt is, told from its body alone.

Source of the rule: vllm-project/production-stack, pull request #890 ("conditional disaggregated
routing"): token ids are counted, text is four characters to a token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CHARACTERS_PER_TOKEN = 4

_TEXT_PARTS = (None, "text", "input_text", "output_text")


def estimate_tokens(fields: Mapping[str, Any]) -> int:
    """The estimated number of prompt tokens of a completion's or a chat's parsed body.

    Exact for token ids (``[int]``, ``[[int]]``). For text it is floor(characters / 4), where the
    characters of all of a request's texts are added before they are divided: a string, a list of
    strings, the contents of a chat's messages, and the text parts of contents in parts. Images,
    audio, roles and tool calls count nothing, nor does what is neither text nor token ids: a body
    that an engine would refuse is estimated and never raises. ``prompt`` goes before ``messages``.
    An empty request is 0. O(length), without recursion.
    """
    prompt = fields.get("prompt")
    if prompt is None:
        characters, tokens = _messages_length(fields.get("messages")), 0
    elif isinstance(prompt, str):
        characters, tokens = len(prompt), 0
    else:
        characters, tokens = _prompts_length(prompt)
    return tokens + characters // CHARACTERS_PER_TOKEN


def _prompts_length(prompt: object) -> tuple[int, int]:
    """Characters and token ids in a list: of ids, of texts, or of lists of ids."""
    if not isinstance(prompt, list):
        return 0, 0
    characters, tokens = 0, _count_ids(prompt)
    if tokens == len(prompt):
        return 0, tokens
    for item in prompt:
        if isinstance(item, str):
            characters += len(item)
        elif isinstance(item, list):
            tokens += _count_ids(item)
    return characters, tokens


def _count_ids(items: list[Any]) -> int:
    kinds = set(map(type, items))  # one pass in C: prompts have a hundred thousand ids
    if kinds == {int}:
        return len(items)
    return sum(type(item) is int for item in items) if int in kinds else 0


def _messages_length(messages: object) -> int:
    if not isinstance(messages, list):
        return 0
    return sum(
        _content_length(message.get("content")) for message in messages if isinstance(message, dict)
    )


def _content_length(content: object) -> int:
    if isinstance(content, str):
        return len(content)
    if not isinstance(content, list):
        return 0
    return sum(map(_part_length, content))


def _part_length(part: object) -> int:
    if isinstance(part, str):
        return len(part)
    if not isinstance(part, dict):
        return 0
    kind = part.get("type")
    text = part.get("text")
    is_text = (kind is None or isinstance(kind, str)) and kind in _TEXT_PARTS
    return len(text) if is_text and isinstance(text, str) else 0

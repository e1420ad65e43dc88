"""Requests that two legs cannot serve with one engine's content, each with a reason for metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kvroute.disagg.legs import ClientRequest

_MAX_NESTING = 200  # orjson reads 1024 levels and writes 254, to which a leg adds a few
_LIMITS = ("max_tokens", "max_completion_tokens")
_REASONING = ("reasoning_effort", "include_reasoning", "reasoning", "thinking")
_REASONING_OPTIONS = (
    "thinking",
    "enable_thinking",
    "reasoning",
    "reasoning_effort",
    "thinking_budget",
)
_STRUCTURED = ("structured_outputs",)
_PENALTIES = ("presence_penalty", "frequency_penalty")
_PROCESSORS = ("logits_processors", "custom_logit_processor")
_TEXT_PARTS = (None, "text", "input_text", "output_text", "refusal")


def shared_refusal(request: ClientRequest, *, batches: bool = False) -> str | None:
    """What no protocol can: several answers to one prompt, answers about the prompt itself.

    Reasons: "n", "best_of", "beam_search", "echo", "prompt_logprobs", "prompt_embeds", "max_tokens"
    (anything but a count of at least 1: the engine shall say what is wrong with it), "batch"
    (several prompts in a body) unless `batches`, and "nesting": a leg's body cannot be written.
    """
    fields = request.fields
    for name in ("n", "best_of"):
        if fields.get(name) is not None and fields[name] != 1:
            return name
    if fields.get("use_beam_search"):
        return "beam_search"
    if fields.get("echo"):
        return "echo"
    if fields.get("prompt_logprobs") is not None:
        return "prompt_logprobs"
    if fields.get("prompt_embeds") is not None:
        return "prompt_embeds"
    for name in _LIMITS:
        value = fields.get(name)
        if value is not None and (type(value) is not int or value < 1):
            return "max_tokens"
    if not batches and not request.is_chat and batch_size(fields) != 1:
        return "batch"
    return "nesting" if _is_nested_too_deeply(fields) else None


def _is_nested_too_deeply(fields: Mapping[str, Any]) -> bool:
    prompt = fields.get("prompt")
    if isinstance(prompt, list) and prompt and type(prompt[0]) is int:  # long, and has no depth
        fields = {name: value for name, value in fields.items() if name != "prompt"}
    level: list[Any] = [list(fields.values())]
    for _ in range(_MAX_NESTING):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return True


def batch_size(fields: Mapping[str, Any]) -> int:
    """The prompts in a completion's body: of a list of texts or of lists its length, else 1."""
    prompt = fields.get("prompt")
    if isinstance(prompt, list) and prompt and type(prompt[0]) is not int:
        return len(prompt)
    return 1


def first_token_refusal(request: ClientRequest) -> str | None:
    """What cannot be where one engine makes the first token and another, not knowing, the others.

    The second engine takes the first token for a part of the prompt, and both see a completion
    where the client asked for a chat. Reasons: "tools", "reasoning", "response_format",
    "structured_outputs", "penalties", "logits_processors", "bad_words", "media", "token_ids_asked"
    (``return_token_ids``), "truncation"; and "min_tokens" and "stream_options" where their values
    cannot be: only the second engine would see them, when the client has the first token.
    """
    fields = request.fields
    if not _can_be_least(fields):
        return "min_tokens"
    if not _are_flags(fields.get("stream_options")):
        return "stream_options"
    if fields.get("tools") or fields.get("functions"):
        return "tools"
    if _asks_for_reasoning(fields):
        return "reasoning"
    wanted = fields.get("response_format")
    if wanted is not None and not (isinstance(wanted, dict) and wanted.get("type") == "text"):
        return "response_format"
    if any(
        value is not None and (name in _STRUCTURED or name.startswith("guided_"))
        for name, value in fields.items()
    ):
        return "structured_outputs"
    if any(fields.get(name) for name in _PENALTIES):
        return "penalties"
    if any(fields.get(name) for name in _PROCESSORS):
        return "logits_processors"
    if fields.get("bad_words"):
        return "bad_words"
    if fields.get("return_token_ids"):
        return "token_ids_asked"
    if fields.get("truncate_prompt_tokens") is not None:
        return "truncation"
    return "media" if request.is_chat and _has_media(fields.get("messages")) else None


def _can_be_least(fields: Mapping[str, Any]) -> bool:
    least = fields.get("min_tokens")
    if least is None:
        return True
    limits = [fields[name] for name in _LIMITS if type(fields.get(name)) is int]
    return type(least) is int and 0 <= least <= min(limits, default=least)


def _are_flags(options: object) -> bool:
    if options is None:
        return True
    return isinstance(options, dict) and all(
        value is None or isinstance(value, bool) for value in options.values()
    )


def _asks_for_reasoning(fields: Mapping[str, Any]) -> bool:
    if any(fields.get(name) is not None for name in _REASONING):
        return True
    options = fields.get("chat_template_kwargs")
    return isinstance(options, dict) and any(options.get(name) for name in _REASONING_OPTIONS)


def _has_media(messages: object) -> bool:
    if not isinstance(messages, list):
        return True
    return any(
        not isinstance(part, str) and not (isinstance(part, dict) and _is_text(part.get("type")))
        for message in messages
        if isinstance(message, dict) and isinstance(message.get("content"), list)
        for part in message["content"]
    )


def _is_text(kind: object) -> bool:
    return (kind is None or isinstance(kind, str)) and kind in _TEXT_PARTS

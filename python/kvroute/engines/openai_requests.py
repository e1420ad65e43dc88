"""OpenAI request bodies to what an engine generates from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from kvroute.engines.errors import RequestRefusedError
from kvroute.engines.output_text import Tokenizer

_MAX_CHOICES = 256
_COMPLETION_TOKENS = 16
# What a chat says of its rendering, with vLLM's defaults.
_CHAT_FLAGS = {
    "add_generation_prompt": True,
    "continue_final_message": False,
    "add_special_tokens": False,
}
# Fields of a chat request that vLLM shows to the template; they win over chat_template_kwargs.
_TEMPLATE_FIELDS = ("documents", "reasoning_effort")


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A completion or chat request, its prompts tokenized.

    Attributes:
        chat: which of the two; it has one prompt then.
        prompts: token ids of each prompt.
        n: choices for each prompt.
        max_tokens: as asked for; None for no limit.
        min_tokens: tokens that are there before anything but the limit ends a choice.
        stops: the stop strings.
        stop_token_ids: tokens that end a choice and are not shown.
        logprobs: alternatives to tell of each token; None for no log probabilities.
        stream, include_usage: as asked for.
        running_usage: each chunk of a stream counts its tokens too (``continuous_usage_stats``,
            which counts for nothing without include_usage, as in vLLM).
        seed: of the generated text.
        salt: the cache salt; equal prompts under different salts share nothing.
    """

    chat: bool
    prompts: list[list[int]]
    n: int
    max_tokens: int | None
    min_tokens: int
    stops: list[str]
    stop_token_ids: list[int]
    logprobs: int | None
    stream: bool
    include_usage: bool
    running_usage: bool
    seed: int
    salt: str | None


def parse_json(body: bytes) -> dict[str, Any]:
    """The object in a request's body; RequestRefusedError when there is none."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestRefusedError(f"body: expected JSON ({error})") from error
    if not isinstance(document, dict):
        raise RequestRefusedError("body: expected a JSON object")
    return document


def parse_completion(
    document: dict[str, Any], tokenizer: Tokenizer, prompt_ids: list[int] | None = None
) -> GenerationRequest:
    """A ``/v1/completions`` body: prompt as text, token ids, or a list of either.

    ``prompt_ids`` are the prompt's token ids where the caller has them.
    """
    special = _flag(document, "add_special_tokens", True)
    prompt = document.get("prompt") if prompt_ids is None else prompt_ids
    prompts = _prompts(prompt, tokenizer, special)
    max_tokens = _integer(document, "max_tokens", 1)
    if "max_tokens" not in document:  # null is no limit, as in vLLM
        max_tokens = _COMPLETION_TOKENS
    return _request(document, False, prompts, max_tokens)


def parse_chat(
    document: dict[str, Any], tokenizer: Tokenizer, prompt_ids: list[int] | None = None
) -> GenerationRequest:
    """A ``/v1/chat/completions`` body.

    Its ``documents`` and ``reasoning_effort`` reach the template, as in vLLM. ``prompt_ids`` are
    the prompt's token ids where the caller has them: the template is not asked then.
    """
    given = {name: document[name] for name in _TEMPLATE_FIELDS if document.get(name) is not None}
    prompt = chat_ids(document, tokenizer, given) if prompt_ids is None else prompt_ids
    max_tokens = _integer(document, "max_completion_tokens", 1)
    if max_tokens is None:
        max_tokens = _integer(document, "max_tokens", 1)
    return _request(document, True, [prompt], max_tokens)


def chat_ids(
    document: dict[str, Any], tokenizer: Tokenizer, template_fields: Mapping[str, Any]
) -> list[int]:
    """Token ids of a body's ``messages`` and ``tools``.

    The template sees ``chat_template_kwargs`` and, stronger, `template_fields`. Special tokens are
    added to what it puts only where ``add_special_tokens`` is true.
    """
    messages = document.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RequestRefusedError("messages: expected a list of at least one message", "messages")
    tools = document.get("tools")
    if tools is not None and not isinstance(tools, list):
        raise RequestRefusedError("tools: expected a list", "tools")
    options = document.get("chat_template_kwargs") or {}
    if not isinstance(options, dict):
        raise RequestRefusedError(
            "chat_template_kwargs: expected an object", "chat_template_kwargs"
        )
    flags = {name: _flag(document, name, default) for name, default in _CHAT_FLAGS.items()}
    visible = {name: value for name, value in options.items() if name not in flags}
    try:
        return tokenizer.encode_chat(
            messages, tools, **flags, template_kwargs={**visible, **template_fields}
        )
    except RequestRefusedError:
        raise
    except (TypeError, ValueError) as error:  # the tokenizer's word on messages and options
        raise RequestRefusedError(f"messages: {error}", "messages") from error


def tokenize_ids(document: dict[str, Any], tokenizer: Tokenizer) -> list[int]:
    """Token ids of a ``/tokenize`` body: ``prompt`` or ``messages``.

    vLLM's body has no ``documents`` and no ``reasoning_effort``: they go in
    ``chat_template_kwargs``.
    """
    if "messages" in document:
        return chat_ids(document, tokenizer, {})
    prompt = document.get("prompt")
    if not isinstance(prompt, str):
        raise RequestRefusedError("prompt: expected a string (or messages beside it)", "prompt")
    return tokenizer.encode(prompt, _flag(document, "add_special_tokens", True))


def _request(
    document: dict[str, Any], chat: bool, prompts: list[list[int]], max_tokens: int | None
) -> GenerationRequest:
    n = _integer(document, "n", 1)
    n = 1 if n is None else n
    if n * len(prompts) > _MAX_CHOICES:
        raise RequestRefusedError(
            f"n: expected at most {_MAX_CHOICES} choices a request, got {n * len(prompts)}", "n"
        )
    salt = document.get("cache_salt")
    if salt is not None and (not isinstance(salt, str) or not salt):
        raise RequestRefusedError("cache_salt: expected a non-empty string", "cache_salt")
    options = document.get("stream_options") or {}
    if not isinstance(options, dict):
        raise RequestRefusedError("stream_options: expected an object", "stream_options")
    stream = _flag(document, "stream", False)
    if options and not stream:
        raise RequestRefusedError("stream_options: expected only with stream", "stream_options")
    include_usage = _flag(options, "include_usage", False)
    return GenerationRequest(
        chat=chat,
        prompts=prompts,
        n=n,
        max_tokens=max_tokens,
        min_tokens=_integer(document, "min_tokens", 0) or 0,
        stops=_stops(document.get("stop")),
        stop_token_ids=_stop_token_ids(document.get("stop_token_ids")),
        logprobs=_logprobs(document, chat),
        stream=stream,
        include_usage=include_usage,
        running_usage=include_usage and _flag(options, "continuous_usage_stats", False),
        seed=_integer(document, "seed", None) or 0,
        salt=salt,
    )


def _logprobs(document: dict[str, Any], chat: bool) -> int | None:
    """A completion's ``logprobs`` is the count, a chat's says whether, its ``top_logprobs`` how
    many."""
    if not chat:
        return _integer(document, "logprobs", 0)
    top = _integer(document, "top_logprobs", 0) or 0
    return top if _flag(document, "logprobs", False) else None


def _stops(stop: Any) -> list[str]:
    stops = [] if stop is None else [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or not all(isinstance(one, str) and one for one in stops):
        raise RequestRefusedError("stop: expected non-empty strings", "stop")
    return stops


def _stop_token_ids(ids: Any) -> list[int]:
    ids = [] if ids is None else ids
    if not isinstance(ids, list) or not all(type(one) is int and one >= 0 for one in ids):
        raise RequestRefusedError("stop_token_ids: expected token ids", "stop_token_ids")
    return ids


def _prompts(prompt: Any, tokenizer: Tokenizer, special: bool) -> list[list[int]]:
    if isinstance(prompt, str):
        prompts = [tokenizer.encode(prompt, special)]
    elif isinstance(prompt, list) and prompt and type(prompt[0]) is int:
        prompts = [prompt]
    elif isinstance(prompt, list) and prompt and all(isinstance(item, str) for item in prompt):
        prompts = [tokenizer.encode(item, special) for item in prompt]
    elif isinstance(prompt, list) and prompt and all(isinstance(item, list) for item in prompt):
        prompts = prompt
    else:
        raise RequestRefusedError(
            "prompt: expected a string, a list of token ids, or a non-empty list of either",
            "prompt",
        )
    if not all(prompts):
        raise RequestRefusedError("prompt: expected at least one token, got none", "prompt")
    return prompts


def _integer(document: dict[str, Any], name: str, least: int | None) -> int | None:
    value = document.get(name)
    if value is None:
        return None
    if type(value) is not int or (least is not None and value < least):
        bound = "" if least is None else f" of at least {least}"
        raise RequestRefusedError(f"{name}: expected an integer{bound}, got {value!r}", name)
    return value


def _flag(document: dict[str, Any], name: str, default: bool) -> bool:
    value = document.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise RequestRefusedError(f"{name}: expected true or false, got {value!r}", name)
    return value

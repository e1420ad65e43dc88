"""Reading of a completion request: what routing needs, and what a client must be told is wrong."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson

from kvroute.frontend.errors import ApiError, bad_request

TokenIds: TypeAlias = "array[int]"
"""Token ids as 32-bit unsigned integers: a buffer, which a router reads without converting it."""

NO_TOKENS: TokenIds = array("I")
"""What stands for a prompt whose tokens are unknown."""

MAX_PLANNED = 256
"""Prompts and copies of one request that routing looks at: more tell a policy nothing new."""

_MAX_OUTPUT_TOKENS = 1 << 24


@dataclass(slots=True)
class PromptRequest:
    """One request's prompts. A prompt is a text or token ids; a chat has `messages` instead.

    Of a batch, `prompts` has the first MAX_PLANNED; one that is neither text nor token ids
    (embeddings) is NO_TOKENS. `copies` is how many completions each prompt gets (``n``), `size`
    the body's bytes. `expected_output_tokens` is what the client expects an answer to have, never
    above what it allows (``max_tokens``): that bound alone says nothing, since most clients set it
    far above what comes.
    """

    fields: dict[str, Any]
    size: int
    model: str | None
    prompts: list[str | TokenIds] = field(default_factory=list)
    messages: list[Any] | None = None
    copies: int = 1
    salt: str | None = None
    expected_output_tokens: int | None = None

    def text(self, name: str) -> str | None:
        """A field of the body that is a text or a number, as text; None for any other."""
        value = self.fields.get(name)
        return str(value) if value and isinstance(value, (str, int)) else None

    def drop_prompt(self) -> None:
        """Frees the parsed body and the prompts."""
        self.fields, self.prompts, self.messages = {}, [], None


def parse_completion(body: bytes) -> PromptRequest:
    """A body of POST /v1/completions. Raises ApiError 400 naming the field."""
    request = _parse(body)
    prompt = request.fields.get("prompt")
    embeddings = request.fields.get("prompt_embeds")
    if prompt is None and embeddings is not None:
        count = len(embeddings) if isinstance(embeddings, list) else 1
        request.prompts = [NO_TOKENS] * min(max(1, count), MAX_PLANNED)
    else:
        request.prompts = _prompts(prompt)
    return request


def parse_chat(body: bytes) -> PromptRequest:
    """A body of POST /v1/chat/completions. Raises ApiError 400 naming the field."""
    request = _parse(body)
    messages = request.fields.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _wrong("messages", "a list with at least one message", messages)
    request.messages = messages
    return request


def parse_either(body: bytes) -> PromptRequest:
    """A chat if it has messages, else a completion."""
    return parse_chat(body) if b'"messages"' in body else parse_completion(body)


def _parse(body: bytes) -> PromptRequest:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise bad_request(f"the body is not valid JSON: {error}") from error
    if not isinstance(fields, dict):
        raise bad_request(f"the body: expected an object, got {_kind(fields)}")
    model = fields.get("model")
    if model is not None and not isinstance(model, str):
        raise _wrong("model", "a string", model)
    copies = fields.get("n")
    if copies is None:
        copies = 1
    elif not isinstance(copies, int) or isinstance(copies, bool) or copies < 1:
        raise _wrong("n", "an integer of at least 1", copies)
    salt = fields.get("cache_salt")
    if salt is not None and not isinstance(salt, str):
        raise _wrong("cache_salt", "a string", salt)
    return PromptRequest(
        fields,
        len(body),
        model,
        copies=copies,
        salt=salt or None,
        expected_output_tokens=_expected_output(fields),
    )


def _expected_output(fields: dict[str, Any]) -> int | None:
    """Dynamo's hint, ``nvext.agent_hints.osl``."""
    extension = fields.get("nvext")
    hints = extension.get("agent_hints") if isinstance(extension, dict) else None
    expected = _plausible_length(hints.get("osl")) if isinstance(hints, dict) else None
    if expected is None:
        return None
    bounds = (
        _plausible_length(fields.get(name)) for name in ("max_completion_tokens", "max_tokens")
    )
    return min(expected, next((bound for bound in bounds if bound is not None), expected))


def _plausible_length(value: Any) -> int | None:
    """A number of output tokens to plan with; the engine judges what it was sent."""
    return value if type(value) is int and 0 < value <= _MAX_OUTPUT_TOKENS else None


def _prompts(prompt: Any) -> list[str | TokenIds]:
    """OpenAI's four shapes: a text, texts, token ids, lists of token ids. The first of many."""
    expected = "a string, token ids, or a non-empty list of either"
    if isinstance(prompt, str):
        return [prompt]
    if not isinstance(prompt, list) or not prompt:
        raise _wrong("prompt", expected, prompt)
    first = prompt[0]
    if isinstance(first, int):
        return [_token_ids(prompt, "prompt")]
    if isinstance(first, str):
        texts = prompt[:MAX_PLANNED]
        for index, text in enumerate(texts):
            if not isinstance(text, str):
                raise _wrong(f"prompt[{index}]", "a string like those before", text)
        return texts
    if isinstance(first, list):
        return [
            _token_ids(ids, f"prompt[{index}]") for index, ids in enumerate(prompt[:MAX_PLANNED])
        ]
    raise _wrong("prompt", expected, prompt)


def _token_ids(ids: Any, where: str) -> TokenIds:
    if not isinstance(ids, list) or not ids:
        raise _wrong(where, "a non-empty list of token ids", ids)
    try:
        return array("I", ids)
    except (TypeError, OverflowError) as error:
        raise bad_request(
            f"{where}: expected token ids, integers from 0 to {2**32 - 1}: {error}", "prompt"
        ) from error


def _wrong(name: str, expected: str, got: Any) -> ApiError:
    return bad_request(f"{name}: expected {expected}, got {_kind(got)}", name)


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, (int, float)):
        return f"the number {value}"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return "an object"

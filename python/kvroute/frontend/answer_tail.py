"""The end of an answer, and what its engine says there of the prompt: OpenAI's `usage`.

Nothing is parsed while an answer runs: the last bytes are kept as they pass, and looked at once,
when the client has all of it.
"""

from __future__ import annotations

import json
import re
from collections import deque
from typing import Any, NamedTuple, TypeAlias

TAIL_BYTES = 4096
"""Kept of each of the last chunks."""
TAIL_CHUNKS = 8

Tail: TypeAlias = "deque[bytes]"
"""The ends of an answer's last chunks, the oldest first: at most 32 KiB."""

_KEY = b'"usage"'
_OBJECT = re.compile(rb'"usage"\s*:\s*(?=\{)')
# A stream may have `"usage": null` in the chunks before the one that counts.
_MOST_KEYS = 16
_DECODER = json.JSONDecoder()
_MOST_TOKENS = 1 << 31


class Usage(NamedTuple):
    """What an engine reports of one request. None: it does not say."""

    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    """Prompt tokens that it had in its cache. vLLM tells them under --enable-prompt-tokens-details,
    SGLang under --enable-cache-report, and most versions of both only where there are any;
    TensorRT-LLM always."""


NO_USAGE = Usage()


def new_tail() -> Tail:
    """An empty one; `tail.append(chunk[-TAIL_BYTES:])` keeps a chunk."""
    return deque(maxlen=TAIL_CHUNKS)


def usage_of(tail: Tail) -> Usage:
    """The last usage in it: of a whole answer's JSON, or of a stream's last chunks. Never raises.

    A quote inside of a JSON text is escaped, so no generated text is taken for the key.
    """
    text = b"".join(tail)
    end = len(text)
    for _ in range(_MOST_KEYS):
        start = text.rfind(_KEY, 0, end)
        if start < 0:
            break
        found = _OBJECT.match(text, start)
        if found is not None:
            return _read(text[found.end() :].decode("utf-8", "replace"))
        end = start
    return NO_USAGE


def _read(text: str) -> Usage:
    try:
        usage, _ = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return NO_USAGE
    details = usage.get("prompt_tokens_details")
    return Usage(
        _count(usage.get("prompt_tokens")),
        _count(details.get("cached_tokens")) if isinstance(details, dict) else None,
    )


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < _MOST_TOKENS else None

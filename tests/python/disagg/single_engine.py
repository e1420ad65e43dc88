"""A reference: what one engine answers when it generates a given list of tokens.

It renders OpenAI answers straight from the list, as vLLM does, and plays any leg: a prompt that is
longer than the client's by some tokens continues the list after them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

PROMPT = [11, 12, 13]
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Token:
    """One token of the list. `ends` makes it the one that ends an answer: it shows no text."""

    id: int
    text: str
    ends: bool = False

    @property
    def ranked(self) -> list[tuple[str, float]]:
        """The token and two that are less likely."""
        return [(self.text, -0.5), (f"{self.text}?", -1.5), (f"{self.text}!", -2.5)]


class SingleEngine:
    """Generates `script`; `cached` is what it says of its cache (None: it says nothing)."""

    def __init__(self, script: Sequence[Token], name: str, cached: int | None) -> None:
        self.script = [*script, Token(2, "", ends=True)]
        self.name = name
        self.cached = cached

    def answer(self, path: str, fields: Mapping[str, Any]) -> bytes:
        chat = path == "/v1/chat/completions"
        prompt = PROMPT if chat else fields["prompt"]
        assert prompt[: len(PROMPT)] == PROMPT
        if chat:
            limit = fields.get("max_completion_tokens") or fields.get("max_tokens")
        else:
            limit = fields.get("max_tokens", 16)
        taken, text, reason = self._generate(len(prompt) - len(PROMPT), limit, fields.get("stop"))
        least = fields.get("min_tokens", 0)
        assert least <= (limit or least)
        usage = self._usage(len(prompt), len(taken))
        head = {"id": f"{'chatcmpl' if chat else 'cmpl'}-{self.name}", "created": 7, "model": "m"}
        if fields.get("stream"):
            return self._stream(head, chat, fields, taken, text, reason, usage)
        choice = self._choice(chat, fields, taken, text, reason, "message", 0)
        kind = "chat.completion" if chat else "text_completion"
        whole = {**head, "object": kind, "choices": [choice], "usage": usage}
        if fields.get("kv_transfer_params", {}).get("ret_first_tok"):
            whole["kv_transfer_params"] = {"first_tok": taken[0].id}
        return orjson.dumps(whole)

    def _generate(self, start: int, limit: int | None, stop: Any) -> tuple[list[Token], str, str]:
        stops = [stop] if isinstance(stop, str) else stop if isinstance(stop, list) else []
        taken: list[Token] = []
        text = ""
        for token in self.script[start:]:
            taken.append(token)
            text += token.text
            found = [text.index(one) for one in stops if one in text]
            if found:
                return taken, text[: min(found)], "stop"
            if token.ends:
                return taken, text, "stop"
            if len(taken) == limit:
                return taken, text, "length"
        raise AssertionError("the script has no end")

    def _usage(self, prompt: int, output: int) -> dict[str, Any]:
        details = None if self.cached is None else {"cached_tokens": self.cached}
        return {
            "prompt_tokens": prompt,
            "completion_tokens": output,
            "total_tokens": prompt + output,
            "prompt_tokens_details": details,
        }

    def _stream(
        self,
        head: dict[str, Any],
        chat: bool,
        fields: Mapping[str, Any],
        taken: list[Token],
        text: str,
        reason: str,
        usage: dict[str, Any],
    ) -> bytes:
        head = {**head, "object": "chat.completion.chunk" if chat else "text_completion"}
        choices = []
        if chat:
            role = {"role": "assistant", "content": ""}
            choices.append({"index": 0, "delta": role, "logprobs": None, "finish_reason": None})
        shown = 0
        offset = 0
        for index, token in enumerate(taken):
            last = index == len(taken) - 1
            # Text that a stop string may still take back is held until it cannot be.
            until = len(text) if last else min(len(text), offset + len(token.text))
            piece = text[shown:until] if last or not fields.get("stop") else ""
            shown += len(piece)
            choices.append(
                self._choice(
                    chat, fields, [token], piece, reason if last else None, "delta", offset
                )
            )
            offset += len(token.text)
        events = [{**head, "choices": [choice]} for choice in choices]
        options = fields.get("stream_options") or {}
        if options.get("include_usage") and options.get("continuous_usage_stats"):
            first = len(events) - len(taken)
            for index, event in enumerate(events):
                done = max(0, index + 1 - first)
                event["usage"] = {
                    "prompt_tokens": usage["prompt_tokens"],
                    "completion_tokens": done,
                    "total_tokens": usage["prompt_tokens"] + done,
                }
        if options.get("include_usage"):
            events.append({**head, "choices": [], "usage": usage})
        return b"".join(b"data: " + orjson.dumps(event) + b"\n\n" for event in events) + DONE

    def _choice(
        self,
        chat: bool,
        fields: Mapping[str, Any],
        tokens: list[Token],
        text: str,
        reason: str | None,
        message: str,
        offset: int,
    ) -> dict[str, Any]:
        tail = {"finish_reason": reason, "stop_reason": None}
        if not chat:
            logprobs = _completion_logprobs(tokens, fields.get("logprobs"), offset)
            return {"index": 0, "text": text, "logprobs": logprobs, **tail}
        said = {"content": text}
        if message == "message":
            said = {"role": "assistant", **said}
        logprobs = None
        if fields.get("logprobs"):
            logprobs = _chat_logprobs(tokens, fields.get("top_logprobs") or 0)
        return {"index": 0, message: said, "logprobs": logprobs, **tail}


def _completion_logprobs(
    tokens: list[Token], asked: int | None, offset: int
) -> dict[str, Any] | None:
    if asked is None:
        return None
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.text)
    return {
        "text_offset": offsets,
        "tokens": [token.text for token in tokens],
        "token_logprobs": [-0.5 for _ in tokens],
        "top_logprobs": [dict(token.ranked[: asked + 1]) for token in tokens],
    }


def _chat_logprobs(tokens: list[Token], top: int) -> dict[str, Any]:
    def entry(text: str, value: float) -> dict[str, Any]:
        return {"token": text, "logprob": value, "bytes": list(text.encode())}

    return {
        "content": [
            {
                **entry(token.text, -0.5),
                "top_logprobs": [entry(*pair) for pair in token.ranked[:top]],
            }
            for token in tokens
        ]
    }

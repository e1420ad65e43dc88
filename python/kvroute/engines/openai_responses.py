"""The bodies and stream chunks that answer OpenAI requests."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import orjson

from kvroute.engines.config import CachedReports
from kvroute.engines.generation import Generation

DONE = b"data: [DONE]\n\n"


class ResponseWriter:
    """Writes the answer of one request, whole or chunk by chunk.

    Args:
        request_id: what the client sent or the server made up, without its prefix.
        model: as served.
        chat: chat or completion.
        generations: one for each choice, prompt by prompt.
        n: choices for each prompt.
        finish_reason: of every choice that ends.
        report_cached: when the usage tells cached tokens.
    """

    def __init__(
        self,
        request_id: str,
        model: str,
        chat: bool,
        generations: Sequence[Generation],
        n: int,
        finish_reason: str,
        report_cached: CachedReports = "always",
    ) -> None:
        kind = "chat.completion" if chat else "text_completion"
        self._chat = chat
        self._generations = generations
        self._n = n
        self._finish_reason = finish_reason
        self._report_cached = report_cached
        self._head = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{request_id}",
            "object": kind,
            "created": int(time.time()),
            "model": model,
        }
        head = {**self._head, "object": "chat.completion.chunk"} if chat else self._head
        self._chunk_head = b"data: " + orjson.dumps(head)[:-1] + b',"choices":'

    def usage(self) -> dict[str, Any]:
        """Token counts: each prompt once, every output; what its first choice found cached."""
        firsts = self._generations[:: self._n]
        prompt = sum(len(one.prompt_ids) for one in firsts)
        output = sum(one.sequence.emitted for one in self._generations)
        cached = sum(max(0, one.sequence.cached_tokens) for one in firsts)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": output,
            "total_tokens": prompt + output,
            "prompt_tokens_details": {"cached_tokens": cached} if self._reports(cached) else None,
        }

    def _reports(self, cached: int) -> bool:
        if self._report_cached == "hits":
            return cached > 0
        return self._report_cached == "always"

    def body(self) -> bytes:
        """The whole answer; every generation must be done."""
        choices = [
            self._whole_choice(index, one.output.text(0, one.available))
            for index, one in enumerate(self._generations)
        ]
        return orjson.dumps({**self._head, "choices": choices, "usage": self.usage()})

    def chunks(self) -> bytes:
        """The chunks of all that came since the last call; empty when nothing did."""
        written = []
        for index, one in enumerate(self._generations):
            if one.available == one.sent:
                continue
            if self._chat and not one.sent:
                role = {"role": "assistant", "content": ""}
                written.append(self._chunk([_delta(index, role, None)]))
            text = one.output.text(one.sent, one.available)
            one.sent = one.available
            reason = self._finish_reason if one.done else None
            if self._chat:
                choice = _delta(index, {"content": text}, reason)
            else:
                choice = _completion(index, text, reason)
            written.append(self._chunk([choice]))
        return b"".join(written)

    def usage_chunk(self) -> bytes:
        """The chunk after the last choice's, with the usage."""
        return self._chunk_head + b'[],"usage":' + orjson.dumps(self.usage()) + b"}\n\n"

    def _chunk(self, choices: list[dict[str, Any]]) -> bytes:
        return self._chunk_head + orjson.dumps(choices) + b"}\n\n"

    def _whole_choice(self, index: int, text: str) -> dict[str, Any]:
        if not self._chat:
            return _completion(index, text, self._finish_reason)
        return {
            "index": index,
            "message": {"role": "assistant", "content": text},
            "logprobs": None,
            "finish_reason": self._finish_reason,
        }


def error_body(message: str, kind: str, status: int, param: str | None = None) -> bytes:
    """An error in OpenAI's shape."""
    error = {"message": message, "type": kind, "param": param, "code": status}
    return orjson.dumps({"error": error})


def _completion(index: int, text: str, reason: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": reason}


def _delta(index: int, delta: dict[str, str], reason: str | None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}

"""The bodies and stream chunks that answer OpenAI requests."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from kvroute.engines.config import CachedReports
from kvroute.engines.ending import Ending
from kvroute.engines.generation import Generation
from kvroute.engines.logprobs import chat_logprobs, completion_logprobs

DONE = b"data: [DONE]\n\n"


class ResponseWriter:
    """Writes the answer of one request, whole or chunk by chunk.

    Args:
        request_id: what the client sent or the server made up, without its prefix.
        model: as served.
        chat: chat or completion.
        generations: one for each choice, prompt by prompt.
        n: choices for each prompt.
        logprobs: alternatives to tell of each token; None for no log probabilities.
        report_cached: when the usage tells cached tokens.
        running_usage: whether each chunk counts the tokens so far.
    """

    def __init__(
        self,
        request_id: str,
        model: str,
        chat: bool,
        generations: Sequence[Generation],
        n: int,
        logprobs: int | None = None,
        report_cached: CachedReports = "always",
        running_usage: bool = False,
    ) -> None:
        kind = "chat.completion" if chat else "text_completion"
        self._chat = chat
        self._generations = generations
        self._n = n
        self._logprobs = logprobs
        self._report_cached = report_cached
        self._running_usage = running_usage
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
        counts = self._counts(sum(one.sequence.emitted for one in self._generations))
        cached = sum(max(0, one.sequence.cached_tokens) for one in self._generations[:: self._n])
        details = {"cached_tokens": cached} if self._reports(cached) else None
        return {**counts, "prompt_tokens_details": details}

    def _counts(self, output: int) -> dict[str, Any]:
        prompt = sum(len(one.prompt_ids) for one in self._generations[:: self._n])
        return {
            "prompt_tokens": prompt,
            "completion_tokens": output,
            "total_tokens": prompt + output,
        }

    def _reports(self, cached: int) -> bool:
        if self._report_cached == "hits":
            return cached > 0
        return self._report_cached == "always"

    def body(self, extra: Mapping[str, Any] | None = None) -> bytes:
        """The whole answer, with `extra` fields; every generation must be done."""
        choices = [self._whole_choice(index, one) for index, one in enumerate(self._generations)]
        return orjson.dumps(
            {**self._head, "choices": choices, "usage": self.usage(), **(extra or {})}
        )

    def chunks(self, at_most: int | None = None) -> bytes:
        """The chunks of all that came since the last call, or of so many tokens of each choice;
        empty when nothing did."""
        written = []
        for index, one in enumerate(self._generations):
            if one.available == one.sent:
                continue
            if self._chat and not one.sent:
                role = {"role": "assistant", "content": ""}
                written.append(self._chunk([_delta(index, role, None)]))
            stop = one.available if at_most is None else min(one.available, one.sent + at_most)
            text, logprobs = one.text(one.sent, stop), self._told(one, one.sent, stop)
            one.sent = stop
            ending = one.ending if one.done and stop == one.available else None
            if self._chat:
                choice = _delta(index, {"content": text}, ending, logprobs)
            else:
                choice = _completion(index, text, ending, logprobs)
            written.append(self._chunk([choice]))
        return b"".join(written)

    def usage_chunk(self) -> bytes:
        """The chunk after the last choice's, with the usage."""
        return self._chunk_head + b'[],"usage":' + orjson.dumps(self.usage()) + b"}\n\n"

    def _chunk(self, choices: list[dict[str, Any]]) -> bytes:
        counted = b""
        if self._running_usage:
            counts = self._counts(sum(one.sent for one in self._generations))
            counted = b',"usage":' + orjson.dumps(counts)
        return self._chunk_head + orjson.dumps(choices) + counted + b"}\n\n"

    def _whole_choice(self, index: int, one: Generation) -> dict[str, Any]:
        text, logprobs = one.text(0, one.available), self._told(one, 0, one.available)
        if not self._chat:
            return _completion(index, text, one.ending, logprobs)
        message = {"role": "assistant", "content": text}
        return {"index": index, "message": message, "logprobs": logprobs, **_end(one.ending)}

    def _told(self, one: Generation, start: int, stop: int) -> dict[str, Any] | None:
        if self._logprobs is None:
            return None
        shape = chat_logprobs if self._chat else completion_logprobs
        return shape(one, start, stop, self._logprobs)


def error_body(message: str, kind: str, status: int, param: str | None = None) -> bytes:
    """An error in OpenAI's shape."""
    error = {"message": message, "type": kind, "param": param, "code": status}
    return orjson.dumps({"error": error})


def _completion(
    index: int, text: str, ending: Ending | None, logprobs: dict[str, Any] | None
) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": logprobs, **_end(ending)}


def _delta(
    index: int,
    delta: dict[str, str],
    ending: Ending | None,
    logprobs: dict[str, Any] | None = None,
) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": logprobs, **_end(ending)}


def _end(ending: Ending | None) -> dict[str, Any]:
    """Why a choice ended, with the stop string that did it as vLLM has it."""
    if ending is None:
        return {"finish_reason": None}
    if ending.stop is None:
        return {"finish_reason": ending.reason}
    return {"finish_reason": ending.reason, "stop_reason": ending.stop}

"""One answer made of the prefill engine's first token and the decode engine's others.

Both engines answer ``/v1/completions``; where the client asked for a chat it gets a chat's answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from kvroute.disagg import sse
from kvroute.disagg.connector import AnswerRelay
from kvroute.disagg.connectors.chat_shape import answer_role, chat_choice, chat_id
from kvroute.disagg.connectors.first_token import FirstToken
from kvroute.disagg.legs import ClientRequest
from kvroute.disagg.usage import prefill_change

_HEAD_FIELDS = ("id", "created", "model")
_LISTS = ("tokens", "token_logprobs", "top_logprobs")


class MergedAnswer(AnswerRelay):
    """Puts the first token before the decode leg's answer. Ids, times and names are the prefill
    leg's throughout; usage counts the first token as output. An event that is not a completion's
    (an error, [DONE]) goes through as it is.
    """

    def __init__(self, request: ClientRequest, first: FirstToken) -> None:
        fields = request.fields
        self._first = first
        self._is_chat = request.is_chat
        self._is_streamed = request.is_streamed
        self._role = answer_role(fields)
        top = fields.get("top_logprobs")
        self._top = top if type(top) is int else 0
        self._usage = prefill_change(first.answer, first_tokens=1)
        self._head_fields = {name: first.answer.get(name) for name in _HEAD_FIELDS}
        if self._is_chat:
            self._head_fields["id"] = chat_id(self._head_fields["id"])
        options = fields.get("stream_options")
        options = options if isinstance(options, dict) else {}
        self._counts_last = bool(options.get("include_usage"))
        self._counts_all = self._counts_last and bool(options.get("continuous_usage_stats"))

    def head(self) -> bytes:
        if not self._is_streamed:
            return b""
        return self._first_events({**self._first.choice, "finish_reason": None})

    def chunk(self, data: bytes) -> bytes:
        return b"".join(self._event(event) for event in sse.events(data))

    def whole(self, body: bytes) -> bytes:
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            return body
        choices = answer.get("choices") if isinstance(answer, dict) else None
        if not isinstance(choices, list) or len(choices) != 1:
            return body
        if isinstance(answer.get("usage"), dict):
            answer["usage"] = self._usage.apply(answer["usage"])
        return self._whole(answer, self._joined(choices[0]))

    def of_first_token_alone(self) -> bytes:
        """The client's answer where the first token has ended it."""
        answer = {k: v for k, v in self._first.answer.items() if k != "kv_transfer_params"}
        if not self._is_streamed:
            return self._whole(answer, dict(self._first.choice))
        last = b""
        if self._counts_last and isinstance(answer.get("usage"), dict):
            last = sse.data_event({**self._chunk_fields([]), "usage": answer["usage"]})
        return self._first_events(self._first.choice) + last + sse.DONE

    def _first_events(self, choice: Mapping[str, Any]) -> bytes:
        written = b""
        if self._is_chat:
            delta = {"role": self._role, "content": ""}
            role = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
            written = sse.data_event(self._counted(self._chunk_fields([role]), 0))
        shaped = self._shaped(choice, "delta", None)
        return written + sse.data_event(self._counted(self._chunk_fields([shaped]), 1))

    def _counted(self, fields: dict[str, Any], output_tokens: int) -> dict[str, Any]:
        usage = self._first.answer.get("usage")
        if self._counts_all and isinstance(usage, dict):
            prompt = usage.get("prompt_tokens", 0)
            fields["usage"] = {
                "prompt_tokens": prompt,
                "completion_tokens": output_tokens,
                "total_tokens": prompt + output_tokens,
            }
        return fields

    def _event(self, event: bytes) -> bytes:
        fields = sse.document(event)
        choices = fields.get("choices") if fields is not None else None
        if fields is None or not isinstance(choices, list):
            return event
        shaped = [self._later(choice) for choice in choices]
        fields.update(self._chunk_fields(shaped))
        if isinstance(fields.get("usage"), dict):
            fields["usage"] = self._usage.apply(fields["usage"], is_last=not choices)
        return sse.data_event(fields)

    def _later(self, choice: dict[str, Any]) -> dict[str, Any]:
        """A choice of the decode leg's stream."""
        moved = self._moved(choice.get("logprobs"))
        return self._shaped({**choice, "logprobs": moved}, "delta", None)

    def _joined(self, choice: dict[str, Any]) -> dict[str, Any]:
        """The whole choice, of the first token and the decode leg's."""
        own, others = self._first.choice.get("logprobs"), self._moved(choice.get("logprobs"))
        if isinstance(own, dict) and isinstance(others, dict):
            names = (*_LISTS, "text_offset")
            others = {n: [*(own.get(n) or []), *(others.get(n) or [])] for n in names}
        return {**choice, "text": self._first.text + choice.get("text", ""), "logprobs": others}

    def _moved(self, logprobs: object) -> object:
        """Logprobs whose texts begin after the first token's."""
        if not isinstance(logprobs, dict) or not logprobs.get("text_offset"):
            return logprobs
        by = self._first.next_offset
        return {**logprobs, "text_offset": [offset + by for offset in logprobs["text_offset"]]}

    def _shaped(self, choice: Mapping[str, Any], message: str, role: str | None) -> dict[str, Any]:
        if self._is_chat:
            return chat_choice(choice, self._top, message, role)
        return dict(choice)

    def _whole(self, answer: dict[str, Any], choice: dict[str, Any]) -> bytes:
        kind = "chat.completion" if self._is_chat else "text_completion"
        shaped = self._shaped(choice, "message", self._role)
        return orjson.dumps({**answer, **self._head_fields, "object": kind, "choices": [shaped]})

    def _chunk_fields(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self._is_chat else "text_completion"
        return {**self._head_fields, "object": kind, "choices": choices}

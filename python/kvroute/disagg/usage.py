"""A decode leg's token counts, as one engine would have given them.

The decode leg knows neither what the prefill leg found in its cache (it counts the transferred
prompt as cached) nor, under LMCache's protocol, that the prompt's last token was the answer's
first. Source of the shape: the OpenAI API's ``usage`` with ``prompt_tokens_details``; vLLM gives
the details as null or leaves them out where nothing was cached or it was not asked to tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from kvroute.disagg import sse
from kvroute.disagg.connector import AnswerRelay

_KEY = b'"usage"'
_DETAILS = "prompt_tokens_details"


@dataclass(frozen=True, slots=True)
class UsageChange:
    """What is different in the client's usage from the decode leg's.

    Attributes:
        first_tokens: tokens that the decode leg had in its prompt and that the client got as
            output: taken from its prompt tokens and added to its completion tokens.
        has_details: whether `details` goes over the decode leg's ``prompt_tokens_details``.
        details: the prefill leg's ``prompt_tokens_details``; None: it gave none, and the client
            gets null where the decode leg gave some.
    """

    first_tokens: int = 0
    has_details: bool = False
    details: Mapping[str, Any] | None = None

    def apply(self, usage: Mapping[str, Any], *, is_last: bool = True) -> dict[str, Any]:
        """The usage with the change; counts that are not there stay away, and so do the details in
        the running counts of a stream (`is_last` false: ``continuous_usage_stats``)."""
        changed = dict(usage)
        if self.first_tokens:
            for name, by in (
                ("prompt_tokens", -self.first_tokens),
                ("completion_tokens", self.first_tokens),
            ):
                if isinstance(changed.get(name), int):
                    changed[name] += by
        if self.has_details:
            own = changed.get(_DETAILS)
            if self.details is not None and (is_last or own is not None):
                changed[_DETAILS] = {**(own if isinstance(own, dict) else {}), **self.details}
            elif _DETAILS in changed:
                changed[_DETAILS] = None
        return changed


def prefill_change(answer: Mapping[str, Any], first_tokens: int = 0) -> UsageChange:
    """The change that follows from a prefill leg's answer."""
    usage = answer.get("usage")
    if not isinstance(usage, dict):
        return UsageChange(first_tokens)
    details = usage.get(_DETAILS)
    return UsageChange(first_tokens, True, details if isinstance(details, dict) else None)


class UsageRelay(AnswerRelay):
    """Passes a decode leg's answer on with its usage changed, and nothing else.

    Bytes without usage go through as they are: only an event that names it is parsed, and one that
    is not JSON is left alone.
    """

    def __init__(self, change: UsageChange | None = None) -> None:
        self._change = change or UsageChange()
        self.is_identity = self._change == UsageChange()

    def chunk(self, data: bytes) -> bytes:
        if self.is_identity or _KEY not in data:
            return data
        return b"".join(self._event(event) for event in sse.events(data))

    def whole(self, body: bytes) -> bytes:
        if self.is_identity or _KEY not in body:
            return body
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            return body
        return orjson.dumps(answer) if self._rewrite(answer, True) else body

    def _event(self, event: bytes) -> bytes:
        if _KEY not in event:
            return event
        fields = sse.document(event)
        if fields is None or not self._rewrite(fields, False):
            return event
        return sse.data_event(fields)

    def _rewrite(self, answer: object, is_whole: bool) -> bool:
        """Whether there was a usage to change."""
        if not isinstance(answer, dict) or not isinstance(answer.get("usage"), dict):
            return False
        is_last = is_whole or not answer.get("choices")
        answer["usage"] = self._change.apply(answer["usage"], is_last=is_last)
        return True

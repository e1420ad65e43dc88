"""The first token of an answer, made by the prefill engine, and what may be done with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kvroute.disagg.connector import HandoffError

_FAILED = ("abort", "error")
_UNFINISHED_CHARACTER = "\ufffd"


@dataclass(frozen=True, slots=True)
class FirstToken:
    """What LMCache's prefill leg answered.

    Attributes:
        token: its id, ``kv_transfer_params.first_tok``.
        choice: the completion's one choice.
        answer: all of it.
    """

    token: int
    choice: Mapping[str, Any]
    answer: Mapping[str, Any]

    @property
    def text(self) -> str:
        return str(self.choice["text"])

    @property
    def ends_the_answer(self) -> bool:
        """Whether the engine stopped for another reason than that it was asked for one token."""
        return self.choice.get("finish_reason") not in (None, "length")

    @property
    def next_offset(self) -> int:
        """Where the second token begins, for ``text_offset``."""
        logprobs = self.choice.get("logprobs") or {}
        offsets, tokens = logprobs.get("text_offset"), logprobs.get("tokens")
        if offsets and tokens:
            return int(offsets[-1]) + len(tokens[-1])
        return len(self.text)

    def can_be_continued(self, fields: Mapping[str, Any]) -> bool:
        """Whether an engine that gets this token as its prompt's last goes on as one engine would.

        It would not where a stop string may begin in this token and end in the next, which that
        engine does not look for in its prompt, nor where the token shows no text or half a
        character: the text that follows depends on how the engine reads its prompt's end. With a
        seed it would draw the second token as the first one was drawn.
        """
        if not self.text or self.text.endswith(_UNFINISHED_CHARACTER):
            return False
        if fields.get("seed") is not None and fields.get("temperature") != 0:
            return False
        return not any(_may_begin(stop, self.text) for stop in _stop_strings(fields.get("stop")))


def read_first_token(answer: Mapping[str, Any]) -> FirstToken:
    """The first token of a prefill leg's answer. Raises HandoffError naming the field.

    Source: LMCache, lmcache/integration/vllm/vllm_v1_adapter.py (``request_finished``).
    """
    params = answer.get("kv_transfer_params")
    token = params.get("first_tok") if isinstance(params, dict) else None
    if type(token) is not int:
        raise HandoffError(
            f"prefill leg: expected kv_transfer_params.first_tok to be a token id, got {token!r}"
        )
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and len(choices) == 1 else None
    if not isinstance(choice, dict) or not isinstance(choice.get("text"), str):
        raise HandoffError("prefill leg: expected choices to be one completion with a text")
    if choice.get("finish_reason") in _FAILED:
        raise HandoffError(
            f"prefill leg: expected finish_reason length or stop, got {choice['finish_reason']}"
        )
    return FirstToken(token, choice, answer)


def _stop_strings(stop: object) -> Iterator[str]:
    for one in stop if isinstance(stop, list) else [stop]:
        if isinstance(one, str):
            yield one


def _may_begin(stop: str, text: str) -> bool:
    """Whether a part of `stop`, but not all of it, stands at the end of `text`."""
    return any(text.endswith(stop[:length]) for length in range(1, min(len(stop), len(text) + 1)))

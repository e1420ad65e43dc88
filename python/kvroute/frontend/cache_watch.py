"""Whether what the router knows of one worker's cache agrees with what the worker reports.

Pure: no clock, no log. KV-aware routing that misses is silent otherwise: every answer is right, and
merely computed anew.
"""

from __future__ import annotations

from collections import deque
from typing import Literal, NamedTuple, TypeAlias

from kvroute.frontend.answer_tail import Usage

WINDOW = 64
"""Requests that a judgement rests on: the last ones of their kind."""
LEAST = 32
"""With fewer of them nothing is said."""

Cause: TypeAlias = Literal[
    "misses", "unforeseen_hits", "prompt_length", "unreported", "reports_ended"
]

_WITHOUT_REPORTS: tuple[Cause, ...] = ("unreported", "reports_ended")


class Finding(NamedTuple):
    """A cause that has begun or ended, with its numbers in words."""

    cause: Cause
    begun: bool
    numbers: str


class PairWindow:
    """The sums of the last `size` pairs."""

    def __init__(self, size: int = WINDOW) -> None:
        self._pairs: deque[tuple[int, int]] = deque()
        self._size = size
        self.first = 0
        self.second = 0

    def __len__(self) -> int:
        return len(self._pairs)

    def add(self, first: int, second: int) -> None:
        self._pairs.append((first, second))
        self.first += first
        self.second += second
        if len(self._pairs) > self._size:
            old_first, old_second = self._pairs.popleft()
            self.first -= old_first
            self.second -= old_second


class CacheWatch:
    """One worker's account. Bounded: two windows and what is pending.

    A request is compared where the router predicted, or the engine reported, at least one block:

    * `misses`: over the last 32 to 64 such requests the engine reports less than half of the
      predicted tokens; well again from three quarters on.
    * `unforeseen_hits`: more than twice as much; well again up to four thirds.
    * `prompt_length`: of the last 32 to 64 answers with a usage more than a quarter count another
      number of prompt tokens than the router; well again below an eighth.

    A request without reported cached tokens is unknown, never a miss. Engines that report only hits
    (vLLM, SGLang) leave misses out, too, so fewer than 32 unknown ones in a row count as 0 once a
    report before and a report after show that the engine was reporting all the while. Where 32 in a
    row with a predicted block have no report they stay unknown, and that is the finding:
    `unreported`, or `reports_ended` where there had been reports.
    """

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        self._overlap = PairWindow()
        self._lengths = PairWindow()
        self._pending: deque[int] = deque(maxlen=LEAST)
        self._unreported = 0
        self._has_reported = False
        self._on: set[Cause] = set()
        self.compared = 0
        """Requests ever compared; of them, in whole blocks:"""
        self.predicted_tokens = 0
        self.reported_tokens = 0
        self.length_mismatches = 0
        """Answers ever that count another number of prompt tokens than the router."""

    def note(self, prompt_tokens: int, predicted: int, usage: Usage) -> list[Finding]:
        """Takes a request's answer: the prompt's length and cached part as the router knew them."""
        found: list[Finding] = []
        if usage.prompt_tokens is None:
            return found
        differs = usage.prompt_tokens != prompt_tokens
        self.length_mismatches += differs
        self._lengths.add(1, differs)
        if len(self._lengths) >= LEAST:
            answers, differing = self._lengths.first, self._lengths.second
            if self._turns("prompt_length", 4 * differing > answers, 8 * differing < answers):
                numbers = (
                    f"of its last {answers} answers {differing} count another number of prompt "
                    f"tokens than the router (the last: {usage.prompt_tokens:,}, "
                    f"not {prompt_tokens:,})"
                )
                found.append(self._finding("prompt_length", numbers))
        size = self._block_size
        # An engine computes the last token in any case, and with it the last block.
        predicted = min(predicted, prompt_tokens - 1) // size * size
        if usage.cached_tokens is None:
            self._note_unreported(found, predicted)
        else:
            self._note_reported(found, predicted, usage.cached_tokens // size * size)
        return found

    def _note_unreported(self, found: list[Finding], predicted: int) -> None:
        if not predicted:
            return
        self._pending.append(predicted)
        self._unreported += 1
        cause: Cause = "reports_ended" if self._has_reported else "unreported"
        if self._turns(cause, self._unreported >= LEAST, False):
            numbers = (
                f"its last {self._unreported} answers to prompts that the router held for cached "
                "in part say nothing of cached tokens"
            )
            found.append(self._finding(cause, numbers))

    def _note_reported(self, found: list[Finding], predicted: int, reported: int) -> None:
        if self._has_reported and self._unreported < LEAST:
            for missed in self._pending:
                self._compare(missed, 0)
        self._pending.clear()
        self._unreported = 0
        self._has_reported = True
        for cause in _WITHOUT_REPORTS:
            if self._turns(cause, False, True):
                found.append(self._finding(cause, "its answers tell their cached tokens"))
        if predicted or reported:
            self._compare(predicted, reported)
        if len(self._overlap) < LEAST:
            return
        expected, had = self._overlap.first, self._overlap.second
        judged: tuple[tuple[Cause, bool, bool], ...] = (
            ("misses", 2 * had < expected, 4 * had >= 3 * expected),
            ("unforeseen_hits", had > 2 * expected, 3 * had <= 4 * expected),
        )
        for cause, bad, well in judged:
            if self._turns(cause, bad, well):
                numbers = (
                    f"in its last {len(self._overlap)} answers it had {had:,} cached prompt tokens "
                    f"where the router expected {expected:,}"
                )
                found.append(self._finding(cause, numbers))

    def _compare(self, predicted: int, reported: int) -> None:
        self._overlap.add(predicted, reported)
        self.compared += 1
        self.predicted_tokens += predicted
        self.reported_tokens += reported

    def _turns(self, cause: Cause, bad: bool, well: bool) -> bool:
        """Whether it begins or ends. Neither bad nor well leaves it as it was, so that a figure at
        a threshold is told once."""
        return well if cause in self._on else bad

    def _finding(self, cause: Cause, numbers: str) -> Finding:
        self._on ^= {cause}
        return Finding(cause, cause in self._on, numbers)

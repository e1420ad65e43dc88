"""What a deployment's router counts: plain integers, cheap enough for the request path."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

CHOOSE_BOUNDARIES = tuple(
    step * decade / 1e6 for decade in (1, 10, 100, 1000, 10000) for step in (1, 2, 3, 5, 7)
)
"""Upper ends, in seconds, of the buckets for the time of a choice; one more is without an end."""

MAX_REASONS = 64
"""Reasons that are told apart; further ones count as OTHER_REASON."""

OTHER_REASON = "other"


class Durations:
    """A histogram of durations. Bucket i counts what is at most boundaries[i] and above the one
    before; the last one counts what is above all."""

    __slots__ = ("boundaries", "counts", "sums")

    def __init__(self, boundaries: tuple[float, ...] = CHOOSE_BOUNDARIES) -> None:
        self.boundaries = boundaries
        self.counts = [0] * (len(boundaries) + 1)
        self.sums = [0.0] * (len(boundaries) + 1)

    def observe(self, seconds: float) -> None:
        bucket = bisect_left(self.boundaries, seconds)
        self.counts[bucket] += 1
        self.sums[bucket] += seconds


@dataclass(slots=True, eq=False)
class Counters:
    """Totals since the state was made. All of them only grow.

    Written by the router's event loop, read by any thread. The plain integers may be added to by
    other threads too (`counters.routed += 1`): under CPython's GIL no increment is lost.
    """

    decisions: int = 0
    """Choices that the core made for a prompt, one for each attempt of a request."""
    prompt_tokens: int = 0
    """Prompt tokens of these decisions."""
    cached_tokens: int = 0
    """Tokens of these that the chosen replica held at the decision."""
    balanced: int = 0
    """Choices by load alone, for requests without token ids."""
    missing_token_ids: int = 0
    """Requests that had no token ids, or an empty sequence."""
    malformed_token_ids: int = 0
    """Requests whose token ids were no sequence of integers from 0 to 2**32 - 1; among the missing
    ones too."""
    routed: int = 0
    """Attempts that a replica took."""
    completed: int = 0
    """Attempts that ended, the rejected ones included."""
    retries: int = 0
    """Attempts that a replica rejected, so that the request was chosen for anew."""
    moved: int = 0
    """Requests that another replica took than the one chosen first: their booking was moved."""
    replicas_died: int = 0
    malformed_facts: int = 0
    """What replicas stated of themselves and could not be read."""
    fallbacks: dict[str, int] = field(default_factory=dict)
    """By reason: choices that went by Serve's own order, since the core could not make them, and
    hooks of Ray's that failed."""
    refusals: dict[str, int] = field(default_factory=dict)
    """Requests that got an error in place of a replica, by the error's name."""
    choose_seconds: Durations = field(default_factory=Durations)
    """Time of `choose_replicas`."""

    def decided(self, prompt_tokens: int, cached_tokens: int) -> None:
        self.decisions += 1
        self.prompt_tokens += prompt_tokens
        self.cached_tokens += cached_tokens

    def fell_back(self, reason: str) -> bool:
        """Whether it is the first one for this reason, which is worth a line in the log."""
        return _count(self.fallbacks, reason)

    def refused(self, error: str) -> bool:
        """Whether it is the first one with this error."""
        return _count(self.refusals, error)

    def totals(self) -> dict[str, int]:
        """The plain integers by name."""
        return {name: getattr(self, name) for name in TOTALS}


TOTALS = (
    "decisions",
    "prompt_tokens",
    "cached_tokens",
    "balanced",
    "missing_token_ids",
    "malformed_token_ids",
    "routed",
    "completed",
    "retries",
    "moved",
    "replicas_died",
    "malformed_facts",
)
"""The names of the plain integers among Counters."""


def _count(by_reason: dict[str, int], reason: str) -> bool:
    before = by_reason.get(reason, 0)
    if not before and len(by_reason) >= MAX_REASONS:
        reason = OTHER_REASON
        before = by_reason.get(reason, 0)
    by_reason[reason] = before + 1
    return before == 0

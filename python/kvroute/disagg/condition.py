"""Which requests are served in two legs, and why the others are not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Reason = Literal[
    "disaggregated",
    "below_threshold",
    "no_prefill_worker",
    "cached_at_decoder",
]


@dataclass(frozen=True, slots=True)
class PathDecision:
    """How a request goes.

    Attributes:
        two_legs: prefill and decode at different engines; otherwise whole at the decoder.
        reason: for metrics. "disaggregated" exactly where `two_legs` is true.
    """

    two_legs: bool
    reason: Reason


@dataclass(frozen=True, slots=True)
class Condition:
    """When to disaggregate. A pure rule, safe to share.

    Attributes:
        routing_threshold: estimated prompt tokens from which on a request goes in two legs: those
            with fewer stay at the decoder. 0 and less: every request. Source: production-stack
            pull request #890, ``--routing-threshold``.
        uncached_threshold: prompt tokens that the chosen decoder does not hold, from which on a
            request goes in two legs; None: no such rule. Source: llm-d-router,
            ``prefix-based-pd-decider`` (``nonCachedTokens``), where 0 means never; here 0 is no
            hindrance.
    """

    routing_threshold: int = 0
    uncached_threshold: int | None = None

    def __post_init__(self) -> None:
        if self.routing_threshold < 0:
            object.__setattr__(self, "routing_threshold", 0)
        if self.uncached_threshold is not None and self.uncached_threshold < 0:
            raise ValueError(
                f"uncached_threshold: expected at least 0, got {self.uncached_threshold}"
            )

    def decide(
        self,
        estimated_tokens: int,
        *,
        prefill_workers: int,
        uncached_tokens: int | None = None,
    ) -> PathDecision:
        """The path of one request. The first rule that keeps it at the decoder gives the reason.

        Args:
            estimated_tokens: of the prompt (`estimate.estimate_tokens`, or its exact number).
            prefill_workers: that may take it now.
            uncached_tokens: of the prompt, not held by the best decoder; None where nobody knows,
                which counts as a decoder that holds nothing.
        """
        if estimated_tokens < self.routing_threshold:
            return PathDecision(False, "below_threshold")
        if prefill_workers <= 0:
            return PathDecision(False, "no_prefill_worker")
        if self.uncached_threshold is not None:
            uncached = estimated_tokens if uncached_tokens is None else uncached_tokens
            if uncached < self.uncached_threshold:
                return PathDecision(False, "cached_at_decoder")
        return PathDecision(True, "disaggregated")

"""Who of those that wait comes first. Pure: an order gives each request a key, once."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """What the queue knows of a request that waits."""

    arrived: float
    """Seconds on the queue's clock."""
    number: int
    """Requests that came before it: ties between equal keys."""
    priority: float = 0.0
    """Lower comes first, as vLLM's ``priority``."""
    uncached_tokens: int = 0
    """Prompt tokens that the best worker did not hold when the request came."""
    tenant: str = ""
    eligibility: Hashable = None
    """Equal for requests that the same workers may serve; None: all of them may."""


class Order(Protocol):
    """Within one tenant; a lesser key comes first, equal ones as they came."""

    def key(self, request: Waiting) -> float: ...


class Fcfs:
    """First come, first served."""

    def key(self, request: Waiting) -> float:
        return float(request.number)


class Priority:
    """By priority, the lower number first; equals as they came."""

    def key(self, request: Waiting) -> float:
        return request.priority


class ShortestUncached:
    """By uncached prompt tokens, the fewest first: the least mean time to first token.

    A request gains `aging` tokens for each second that it has waited, so that a long prompt comes
    before new short ones after uncached_tokens/aging seconds at the latest. 0: never.
    """

    def __init__(self, aging: float = 2000.0) -> None:
        if not 0 <= aging < float("inf"):
            raise ValueError(f"aging: expected tokens a second, at least 0, got {aging}")
        self.aging = aging

    def key(self, request: Waiting) -> float:
        # All age alike, so that the order of two requests never changes: the key can stand still.
        return request.uncached_tokens + self.aging * request.arrived


ORDERS: Mapping[str, type[Fcfs] | type[Priority] | type[ShortestUncached]] = {
    "fcfs": Fcfs,
    "priority": Priority,
    "shortest_uncached": ShortestUncached,
}
"""Orders by the names that `AdmissionQueue` takes."""

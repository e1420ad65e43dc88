"""What one policy's replay came to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from kvroute.demo.decision_time import Histogram
from kvroute.demo.processor_time import ProcessorUse
from kvroute.demo.replay import ReplayResult


@dataclass(frozen=True, slots=True)
class TimesSummary:
    """Seconds; NaN without samples."""

    mean: float
    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class PolicySummary:
    """One column of the demo's table. Times in wall seconds, but where they say otherwise.

    `hit_rate` is cached tokens / prompt tokens over the requests that succeeded, as the engines'
    usage reports them (cached tokens come in whole blocks). `requests_per_worker` has one count
    for each engine in order; `unattributed` counts answers that named none of them.
    `decision_p50` and `decision_p99` are the router's own time for choosing and booking, None where
    it gave none. `worst_delay`, `loop_lag_p99` and `processor` tell whether the replay kept up with
    the trace or was bound by CPU.
    """

    policy: str
    requests: int
    failures: int
    failure_messages: tuple[str, ...]
    prompt_tokens: int
    cached_tokens: int
    time_to_first_token: TimesSummary
    requests_per_worker: tuple[int, ...]
    unattributed: int
    decision_p50: float | None
    decision_p99: float | None
    worst_delay: float
    loop_lag_p99: float
    processor: ProcessorUse
    wall_seconds: float

    @property
    def hit_rate(self) -> float:
        """Cached tokens / prompt tokens, 0 to 1."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0

    def as_json(self, compression: float) -> dict[str, Any]:
        """Plain values; times to first token also in engine time, which is wall * compression."""
        times = self.time_to_first_token
        return {
            "policy": self.policy,
            "requests": self.requests,
            "failures": self.failures,
            "failure_messages": list(self.failure_messages),
            "prompt_tokens": self.prompt_tokens,
            "cached_tokens": self.cached_tokens,
            "hit_rate": self.hit_rate,
            "ttft_wall_seconds": _plain(times, 1.0),
            "ttft_engine_seconds": _plain(times, compression),
            "requests_per_worker": list(self.requests_per_worker),
            "unattributed": self.unattributed,
            "decision_seconds": {"p50": self.decision_p50, "p99": self.decision_p99},
            "worst_delay_seconds": self.worst_delay,
            "loop_lag_p99_seconds": _number(self.loop_lag_p99),
            "processor": {
                "cores": self.processor.cores,
                "shares": self.processor.shares,
                "machine": self.processor.machine,
            },
            "wall_seconds": self.wall_seconds,
        }


def summarize(
    policy: str,
    result: ReplayResult,
    engines: Sequence[str],
    decisions: Histogram | None,
    processor: ProcessorUse,
) -> PolicySummary:
    """Adds up a replay over `engines`, the URLs that `x-kvroute-worker` names."""
    workers = Counter(completion.worker for completion in result.completions)
    per_worker = tuple(workers[engine] for engine in engines)
    return PolicySummary(
        policy=policy,
        requests=len(result.completions) + result.failures,
        failures=result.failures,
        failure_messages=tuple(result.failure_messages),
        prompt_tokens=sum(completion.prompt_tokens for completion in result.completions),
        cached_tokens=sum(completion.cached_tokens for completion in result.completions),
        time_to_first_token=summarize_times(
            [completion.time_to_first_token for completion in result.completions]
        ),
        requests_per_worker=per_worker,
        unattributed=len(result.completions) - sum(per_worker),
        decision_p50=decisions.quantile(0.50) if decisions is not None else None,
        decision_p99=decisions.quantile(0.99) if decisions is not None else None,
        worst_delay=result.worst_delay,
        loop_lag_p99=quantile(sorted(result.loop_lags), 0.99),
        processor=processor,
        wall_seconds=result.wall_seconds,
    )


def summarize_times(samples: Sequence[float]) -> TimesSummary:
    """Mean, median and 99th percentile."""
    ordered = sorted(samples)
    mean = fmean(ordered) if ordered else math.nan
    return TimesSummary(mean, quantile(ordered, 0.50), quantile(ordered, 0.99))


def quantile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank quantile of ascending samples; NaN without any."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _plain(times: TimesSummary, factor: float) -> dict[str, float | None]:
    return {name: _number(getattr(times, name) * factor) for name in ("mean", "p50", "p99")}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None

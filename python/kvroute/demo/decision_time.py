"""The router's decision time, from the frontend's metrics."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

DECISION_HISTOGRAM = "kvroute_decision_seconds"


@dataclass(frozen=True, slots=True)
class Histogram:
    """A Prometheus histogram: `buckets` are (upper bound, cumulative count), ascending."""

    buckets: tuple[tuple[float, float], ...]
    total: float

    @property
    def count(self) -> float:
        """Number of observations."""
        return self.buckets[-1][1] if self.buckets else 0.0

    def quantile(self, share: float) -> float | None:
        """Estimated by linear interpolation inside a bucket, as PromQL's histogram_quantile.

        None without observations; the highest finite bound where the rank lies above it.
        """
        rank = share * self.count
        if self.count <= 0:
            return None
        lower, below = 0.0, 0.0
        for bound, cumulative in self.buckets:
            if cumulative >= rank and cumulative > below:
                if bound == float("inf"):
                    return lower
                return lower + (bound - lower) * (rank - below) / (cumulative - below)
            lower, below = bound, cumulative
        return lower


def parse_histogram(text: str, name: str) -> Histogram:
    """The histogram `name` of an exposition, summed over its labels."""
    counts: dict[float, float] = {}
    total = 0.0
    for family in text_string_to_metric_families(text):
        if family.name != name:
            continue
        for sample in family.samples:
            if sample.name == f"{name}_bucket":
                bound = float(sample.labels["le"])
                counts[bound] = counts.get(bound, 0.0) + sample.value
            elif sample.name == f"{name}_sum":
                total += sample.value
    return Histogram(tuple(sorted(counts.items())), total)


async def read_decision_time(url: str, timeout: float = 5.0) -> Histogram | None:
    """The histogram of the frontend at `url`; None where its metrics cannot be read."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout)) as session,
            session.get(f"{url}/metrics") as response,
        ):
            response.raise_for_status()
            histogram = parse_histogram(await response.text(), DECISION_HISTOGRAM)
    except (aiohttp.ClientError, OSError, asyncio.TimeoutError, ValueError):
        return None
    return histogram if histogram.count else None

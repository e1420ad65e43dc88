"""Instruments of ray.util.metrics that are brought up to totals counted elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from kvroute.ray_serve.counters import Durations

# Ray takes one observation a call. After so many the thread lets others run: it must not hold the
# GIL for milliseconds beside a router's event loop.
_OBSERVATIONS_AT_ONCE = 64


class Instruments:
    """Counters, gauges and histograms by name, each made at its first use. For one thread.

    Names get the prefix "kvroute_". Every series has the tags given here beside those of the call;
    an instrument is always used with tags of the same names.
    """

    def __init__(self, metrics: Any, tags: Mapping[str, str]) -> None:
        """`metrics` is the module ray.util.metrics, or one like it."""
        self._metrics = metrics
        self._tags = dict(tags)
        self._by_name: dict[str, Any] = {}
        self._totals: dict[tuple[str, ...], int] = {}
        self._observed: dict[str, list[tuple[int, float]]] = {}

    def grow(self, name: str, text: str, total: int, **tag: str) -> None:
        """Brings a counter to `total`. A lower total than before is that of a count begun anew."""
        key = (name, *tag.values())
        before = self._totals.get(key, 0)
        growth = total - before if total >= before else total
        if growth > 0:
            counter = self._instrument("Counter", name, text, tag)
            counter.inc(growth, tags={**self._tags, **tag})
        self._totals[key] = total

    def forget(self, name: str, **tag: str) -> None:
        """The next total of this counter is that of a count begun anew."""
        self._totals.pop((name, *tag.values()), None)

    def set(self, name: str, text: str, value: float, **tag: str) -> None:
        """Sets a gauge."""
        gauge = self._instrument("Gauge", name, text, tag)
        gauge.set(value, tags={**self._tags, **tag})

    def observe(self, name: str, text: str, durations: Durations) -> None:
        """Brings a histogram to `durations`. New ones count with their bucket's mean, so that
        buckets and sum are right."""
        boundaries = durations.boundaries
        histogram = self._instrument("Histogram", name, text, {}, boundaries=list(boundaries))
        observed = self._observed.setdefault(name, [(0, 0.0)] * (len(boundaries) + 1))
        for bucket, (count, total) in enumerate(zip(durations.counts, durations.sums, strict=True)):
            new = count - observed[bucket][0]
            if not new:
                continue
            mean = (total - observed[bucket][1]) / new
            # The two may be from different moments; the bucket is the one that was counted.
            if bucket < len(boundaries):
                mean = min(mean, boundaries[bucket])
            if bucket > 0:
                mean = max(mean, math.nextafter(boundaries[bucket - 1], math.inf))
            for i in range(new):
                histogram.observe(mean, tags=self._tags)
                if i % _OBSERVATIONS_AT_ONCE == 0:
                    time.sleep(0)
            observed[bucket] = (count, total)

    def _instrument(
        self, kind: str, name: str, text: str, tag: Mapping[str, str], **arguments: Any
    ) -> Any:
        if name not in self._by_name:
            keys = (*self._tags, *tag)
            make = getattr(self._metrics, kind)
            self._by_name[name] = make(
                f"kvroute_{name}", description=text, tag_keys=keys, **arguments
            )
        return self._by_name[name]

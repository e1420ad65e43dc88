"""Random fleets, as `kvroute.score` takes their figures."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import strategies as st

Target = dict[str, Any]

NOW = 1000.0
BLOCK = 16

requests = st.integers(0, 20)
_reports = st.fixed_dictionaries(
    {"waiting": st.integers(0, 30), "running": st.integers(0, 30)},
    optional={"report_age": st.sampled_from([0.0, 59.0, 61.0])},
)
_targets = st.builds(
    lambda figures, report: figures | report,
    st.fixed_dictionaries(
        {
            "held": st.integers(0, 40),
            "requests": requests,
            "unfinished": st.integers(0, 5),
            "prefill_tokens": st.integers(0, 10_000),
        }
    ),
    st.one_of(st.just({}), _reports),
)
fleets = st.lists(_targets, min_size=1, max_size=12).map(
    lambda targets: [{"name": f"w{i}"} | target for i, target in enumerate(targets)]
)
prompts = st.integers(1, 60 * BLOCK)


def cached(target: Target, num_tokens: int) -> int:
    return int(min(target["held"] * BLOCK, num_tokens))


def has_statistics(target: Target) -> bool:
    return "waiting" in target and target.get("report_age", 0.0) <= 60.0


def sent_of_late(target: Target) -> float:
    age = (NOW - target.get("joined_at", 0.0)) / 30
    memory = max(0.15, -math.expm1(-age)) if age < 7 else 1.0
    return float(target.get("recent_requests", 0.0)) / memory


def waiting_requests(targets: list[Target]) -> list[float]:
    """Reported and sent since; of the silent, as the others have by what was sent of late."""
    known = [t for t in targets if "waiting" in t and t.get("report_age", 0.0) <= 60.0]
    queues = [t["waiting"] + t.get("unreported", 0) for t in known]
    mean = sum(queues) / len(known) if known else 0.0
    sent = sum(sent_of_late(t) for t in known) / len(known) if known else 0.0
    return [
        float(t["waiting"] + t.get("unreported", 0))
        if t in known
        else max(
            t.get("prefilling", 0), math.floor(mean * (sent_of_late(t) + 1) / (sent + 1) + 1e-9)
        )
        for t in targets
    ]


def known_mean(values: list[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else 0.0


def queue(target: Target) -> int:
    return int(target["waiting"] + target["running"] + target["unfinished"])

"""Random fleets, as `kvroute.score` takes their figures."""

from __future__ import annotations

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
            "picks": st.integers(0, 5),
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


def queue(target: Target) -> int:
    return int(target["waiting"] + target["running"] + target["picks"])

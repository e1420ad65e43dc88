"""Each score of `weighted` against an independent statement, with figures missing at random."""

from __future__ import annotations

import math
from collections.abc import Callable

import kvroute
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stated_fleets import BLOCK, NOW, Target, known_mean, prompts, waiting_requests

TARGETS = st.lists(
    st.fixed_dictionaries(
        {
            "held": st.sampled_from([0, 0, 0, 5, 40]),
            "active": st.integers(0, 40),
            "block_size": st.sampled_from([16, 16, 32]),
            "requests": st.integers(0, 30),
            "prefilling": st.integers(0, 3),
            "prompt_blocks": st.sampled_from([0, 500, 100_000, 300_000]),
            "output_blocks": st.integers(0, 90),
            "unreported": st.integers(0, 9),
            "recent_requests": st.floats(0, 50),
            "recent_tokens": st.floats(0, 5000),
        },
        optional={
            "waiting": st.integers(0, 200),
            "running": st.integers(0, 60),
            "kv_usage": st.floats(0, 1),
            "report_age": st.sampled_from([0.0, 59.0, 61.0]),
            "joined_at": st.sampled_from([NOW - 300, NOW - 30, NOW - 1]),
        },
    ),
    min_size=1,
    max_size=8,
).map(lambda targets: [{"name": f"w{i}"} | target for i, target in enumerate(targets)])


def reported(targets: list[Target], name: str) -> list[float]:
    """With the mean of the others where one is silent."""
    fresh = [t.get(name) if t.get("report_age", 0.0) <= 60 else None for t in targets]
    usual = known_mean(fresh)
    return [usual if value is None else value for value in fresh]


def lowness(values: list[float]) -> list[float]:
    spread = max(values) - min(values)
    return [(max(values) - value) / spread if spread else 1.0 for value in values]


def tokens_in_use(target: Target, tokens: int) -> int:
    blocks = target["prompt_blocks"] + target["output_blocks"]
    blocks += max(0, tokens // target["block_size"] - target["active"])
    return int(blocks * target["block_size"])


def prefix(target: Target, tokens: int) -> float:
    full = tokens // target["block_size"]
    return min(full, target["held"]) / full if full else 0.0


SCORES: dict[str, Callable[[list[Target], int], list[float]]] = {
    "prefix": lambda targets, tokens: [prefix(t, tokens) for t in targets],
    "queue": lambda targets, _: lowness(waiting_requests(targets)),
    "running": lambda targets, _: lowness(reported(targets, "running")),
    "kv_usage": lambda targets, _: [1 - usage for usage in reported(targets, "kv_usage")],
    "active_requests": lambda targets, _: [
        1 - t["requests"] / max(1, *(other["requests"] for other in targets)) for t in targets
    ],
    "token_load": lambda targets, tokens: [
        max(0.0, 1 - tokens_in_use(t, tokens) / 2**22) for t in targets
    ],
    "load": lambda targets, _: [
        max(0.0, (1 - waiting / 128) / 2) for waiting in waiting_requests(targets)
    ],
    "session": lambda targets, _: [0.0 for _ in targets],
    "no_hit_lru": lambda targets, _: (
        [0.5] * len(targets)
        if any(t["held"] for t in targets)
        else lowness([t["recent_tokens"] for t in targets])
    ),
}


def costs(terms: dict[str, float], targets: list[Target], tokens: int) -> list[float]:
    policy = {"name": "weighted", "terms": terms}
    found = kvroute.score(policy, targets, num_tokens=tokens, block_size=BLOCK, now=NOW)
    return [math.nan if cost is None else cost for cost in found]


@pytest.mark.parametrize("score", SCORES)
@settings(deadline=None)
@given(targets=TARGETS, tokens=prompts)
def test_a_score(score: str, targets: list[Target], tokens: int) -> None:
    expected = [-value for value in SCORES[score](targets, tokens)]
    assert costs({score: 1}, targets, tokens) == pytest.approx(expected)


@settings(deadline=None)
@given(
    TARGETS, prompts, st.dictionaries(st.sampled_from(list(SCORES)), st.floats(0, 9), min_size=1)
)
def test_a_sum(targets: list[Target], tokens: int, weights: dict[str, float]) -> None:
    each = {name: SCORES[name](targets, tokens) for name in weights}
    expected = [
        -sum(weight * each[name][i] for name, weight in weights.items())
        for i in range(len(targets))
    ]
    assert costs(weights, targets, tokens) == pytest.approx(expected)


@settings(deadline=None)
@given(TARGETS, st.text(min_size=1, max_size=9))
def test_a_session_belongs_to_one(targets: list[Target], session: str) -> None:
    def owner(of: list[Target]) -> str:
        policy = {"name": "weighted", "terms": {"session": 1}}
        found = kvroute.score(policy, of, num_tokens=16, session_id=session, now=NOW)
        assert sorted(cost for cost in found if cost is not None) == [-1.0] + [0.0] * (len(of) - 1)
        return str(of[found.index(-1.0)]["name"])

    home = owner(targets)
    for gone in targets:
        left = [target for target in targets if target is not gone]
        if gone["name"] != home and left:
            assert owner(left) == home

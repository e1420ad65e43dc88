"""production-stack's KV-aware policies against plain statements of their rules."""

from __future__ import annotations

import math
from typing import Any

import kvroute
from hypothesis import given
from hypothesis import strategies as st
from stated_fleets import NOW, Target, cached, fleets, has_statistics, prompts, queue

thresholds = st.sampled_from([0.0, 2.0, 5.0, 10.0, math.inf])
sessions = st.sampled_from([None, "a", "b"])


def kvaware_tier(targets: list[Target], num_tokens: int, threshold: float, session: Any) -> str:
    longest = max(cached(target, num_tokens) for target in targets)
    if longest > 0 and longest >= max(num_tokens - threshold, 0):
        return "kvaware"
    return "qps" if session is None else "session"


def balanced_tier(targets: list[Target], imbalanced: float, otherwise: str) -> str:
    queues = [queue(target) for target in targets if has_statistics(target)]
    if queues and max(queues) - min(queues) >= imbalanced:
        return "least_loaded"
    return otherwise


@given(fleets, prompts, st.sampled_from([0, 100, 2000, math.inf]), sessions)
def test_kvaware_goes_where_most_is_cached_if_that_is_a_hit(
    targets: list[Target], num_tokens: int, threshold: float, session: str | None
) -> None:
    policy = {"name": "kvaware", "kv_aware_threshold": threshold}
    place, decider = kvroute.decide(
        policy, targets, num_tokens=num_tokens, session_id=session, now=NOW
    )
    assert decider == kvaware_tier(targets, num_tokens, threshold, session)
    if decider == "kvaware":
        uncached = [num_tokens - cached(target, num_tokens) for target in targets]
        assert kvroute.score(policy, targets, num_tokens=num_tokens, now=NOW) == uncached
        assert uncached[place] == min(uncached)


@given(fleets, prompts, thresholds, sessions)
def test_load_balanced_kvaware_goes_through_its_tiers(
    targets: list[Target], num_tokens: int, imbalanced: float, session: str | None
) -> None:
    policy = {"name": "load_balanced_kvaware", "imbalanced_threshold": imbalanced}
    place, decider = kvroute.decide(
        policy, targets, num_tokens=num_tokens, session_id=session, now=NOW
    )
    otherwise = kvaware_tier(targets, num_tokens, 2000, session)
    assert decider == balanced_tier(targets, imbalanced, otherwise)
    if decider == "least_loaded":
        costs = [queue(t) if has_statistics(t) else math.inf for t in targets]
        assert kvroute.score(policy, targets, num_tokens=num_tokens, now=NOW) == costs
        assert costs[place] == min(costs)


@given(fleets, prompts, thresholds)
def test_missing_statistics_read_as_zeros_on_request(
    targets: list[Target], num_tokens: int, imbalanced: float
) -> None:
    policy = {"name": "load_balanced_kvaware", "imbalanced_threshold": imbalanced}
    policy["stats_missing"] = "zero"
    queues = [queue(t) if has_statistics(t) else t["requests"] for t in targets]
    _, decider = kvroute.decide(policy, targets, num_tokens=num_tokens, now=NOW)
    assert (decider == "least_loaded") == (max(queues) - min(queues) >= imbalanced)
    if decider == "least_loaded":
        assert kvroute.score(policy, targets, num_tokens=num_tokens, now=NOW) == queues


@given(fleets, prompts, sessions)
def test_without_a_threshold_it_is_kvaware(
    targets: list[Target], num_tokens: int, session: str | None
) -> None:
    answers = [
        kvroute.decide(policy, targets, num_tokens=num_tokens, session_id=session, now=NOW, seed=3)
        for policy in ("kvaware", "load_balanced_kvaware")
    ]
    assert answers[0] == answers[1]


@given(fleets, prompts, st.integers(0, 960))
def test_prefixaware_takes_the_longest_match_unless_it_is_too_short(
    targets: list[Target], num_tokens: int, least: int
) -> None:
    policy = {"name": "prefixaware", "prefix_min_match_length": least}
    longest = max(cached(target, num_tokens) for target in targets)
    place, decider = kvroute.decide(policy, targets, num_tokens=num_tokens, now=NOW)
    assert decider == ("qps" if longest < least else "prefixaware")
    if decider == "prefixaware":
        assert cached(targets[place], num_tokens) == longest


@given(fleets, prompts, st.sampled_from([0.0, 0.5, 1.0, 3.0]), sessions)
def test_loadaware_weighs_the_match_against_the_load(
    targets: list[Target], num_tokens: int, beta: float, session: str | None
) -> None:
    policy = {"name": "loadaware", "beta": beta}
    mean = sum(target["requests"] for target in targets) / len(targets)
    _, decider = kvroute.decide(policy, targets, num_tokens=num_tokens, session_id=session, now=NOW)
    if not any(cached(target, num_tokens) for target in targets):
        assert decider == ("qps" if session is None else "session")
        return
    scores = [
        cached(target, num_tokens) / num_tokens - beta * (target["requests"] - mean) / max(1, mean)
        for target in targets
    ]
    costs = kvroute.score(policy, targets, num_tokens=num_tokens, now=NOW)
    assert all(math.isclose(c, -s, abs_tol=1e-9) for c, s in zip(costs, scores, strict=True))

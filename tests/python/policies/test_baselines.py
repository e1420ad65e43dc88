"""Rules that look at little or nothing, against independent statements on random states."""

from __future__ import annotations

from collections import Counter

import kvroute
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from stated_fleets import BLOCK, NOW, Target, cached, known_mean, prompts, waiting_requests

TARGETS = st.lists(
    st.fixed_dictionaries(
        {
            "requests": st.integers(0, 4),
            "prompt_blocks": st.integers(0, 3),
            "output_blocks": st.integers(0, 2),
            "held": st.integers(0, 40),
            "prefilling": st.integers(0, 3),
            "unreported": st.integers(0, 9),
            "recent_requests": st.floats(0, 50),
        },
        optional={
            "waiting": st.integers(0, 30),
            "kv_usage": st.floats(0, 1),
            "report_age": st.sampled_from([0.0, 59.0, 61.0]),
            "joined_at": st.sampled_from([NOW - 300, NOW - 30, NOW - 1]),
        },
    ),
    min_size=1,
    max_size=8,
)


def usage(target: Target) -> float | None:
    return target.get("kv_usage") if target.get("report_age", 0.0) <= 60 else None


# Sent as much as the one that reports: it waits as long, whatever the sums' last digits.
AS_MUCH: Target = {"held": 0, "recent_requests": 3.0, "joined_at": 970.0}


@settings(deadline=None)
@given(TARGETS, prompts)
@example([{**AS_MUCH, "waiting": 3}, {**AS_MUCH, "kv_usage": 0.0}], 1)
def test_standalone(targets: list[Target], num_tokens: int) -> None:
    waiting = waiting_requests(targets)
    usual = known_mean([usage(target) for target in targets])
    found = kvroute.score("standalone", targets, num_tokens=num_tokens, now=NOW)
    for target, queue, cost in zip(targets, waiting, found, strict=True):
        own = usage(target)
        logit = 2 * cached(target, num_tokens) / num_tokens - (usual if own is None else own)
        logit -= queue / max(waiting) if max(waiting) else 0
        assert cost == pytest.approx(-logit)


@settings(deadline=None)
@given(TARGETS, st.integers(0, 99))
def test_least_requests(targets: list[Target], seed: int) -> None:
    place, decider = kvroute.decide("least_requests", targets, num_tokens=16, seed=seed)
    assert decider == "least_requests"
    requests = [float(target["requests"]) for target in targets]
    assert kvroute.score("least_requests", targets, num_tokens=16) == requests
    use = [(t["requests"], t["prompt_blocks"] + t["output_blocks"]) for t in targets]
    assert use[place] == min(use)


@settings(deadline=None)
@given(TARGETS, st.integers(0, 99))
def test_power_of_two(targets: list[Target], seed: int) -> None:
    place, _ = kvroute.decide("power_of_two", targets, num_tokens=16, seed=seed)
    requests = [float(target["requests"]) for target in targets]
    assert kvroute.score("power_of_two", targets, num_tokens=16) == requests
    # Whatever two are drawn, the one that all others beat is never the better of them.
    worse = sum(other > requests[place] for other in requests)
    equal = sum(other == requests[place] for other in requests)
    assert len(targets) == 1 or worse + equal > 1


eligible_sets = st.lists(st.sets(st.integers(0, 6), min_size=1), min_size=1, max_size=60)


@settings(deadline=None)
@given(eligible_sets)
def test_round_robin(sets: list[set[int]]) -> None:
    last = dict.fromkeys(range(7), -1)
    with kvroute.KvRouter(BLOCK, policy="round_robin") as router:
        for number in reversed(range(7)):
            router.add_worker(f"w{number}")
        for turn, eligible in enumerate(sets):
            expected = min(eligible, key=lambda number: (last[number], number))
            allowed = [f"w{number}" for number in eligible]
            assert router.select_worker([1] * 32, allowed=allowed).worker == f"w{expected}"
            last[expected] = turn


@settings(deadline=None, max_examples=20)
@given(st.sets(st.integers(0, 6), min_size=1), st.integers(0, 99))
def test_random(eligible: set[int], seed: int) -> None:
    with kvroute.KvRouter(BLOCK, policy="random", seed=seed) as router:
        for number in range(7):
            router.add_worker(f"w{number}")
        allowed = [f"w{number}" for number in eligible]
        draws = 100 * len(eligible)
        counts = Counter(
            router.select_worker([1] * 32, allowed=allowed).worker for _ in range(draws)
        )
    assert set(counts) == set(allowed)
    assert all(50 <= count <= 160 for count in counts.values())

"""`session` and `qps` against plain statements of their rules."""

from __future__ import annotations

import math

import kvroute
from hypothesis import given
from hypothesis import strategies as st
from stated_fleets import NOW, Target, fleets

WINDOW = 60.0


@given(fleets, st.text(min_size=1, max_size=8), st.data())
def test_a_session_moves_only_where_its_target_is_gone(
    targets: list[Target], session: str, data: st.DataObject
) -> None:
    def home(of: list[Target], seed: int) -> str:
        place, decider = kvroute.decide(
            "session", of, num_tokens=16, session_id=session, now=NOW, seed=seed
        )
        assert decider == "session"
        return str(of[place]["name"])

    before = home(targets, seed=1)
    left = data.draw(st.lists(st.sampled_from(targets), min_size=1, unique_by=lambda t: t["name"]))
    if any(target["name"] == before for target in left):
        assert home(left, seed=2) == before


@given(fleets, st.text(min_size=1, max_size=8), st.floats(1, 4))
def test_a_full_target_is_passed_over(targets: list[Target], session: str, bound: float) -> None:
    def costs(bounded_load: float) -> list[float]:
        policy = {"name": "session", "bounded_load": bounded_load}
        answer = kvroute.score(policy, targets, num_tokens=16, session_id=session, now=NOW)
        return [cost for cost in answer if cost is not None]

    most = math.ceil(bound * (sum(target["requests"] for target in targets) + 1) / len(targets))
    free = costs(0)
    assert all(0 < cost <= 1 for cost in free)
    for cost, plain, target in zip(costs(bound), free, targets, strict=True):
        full = target["requests"] + 1 > most
        assert math.isclose(cost, plain + full, abs_tol=1e-12)


def qps_cost(times: list[float], age: float, warm_up: float) -> float:
    part = WINDOW / 16  # what is observed begins on a whole part
    count = sum(math.floor(at / part) > math.floor(NOW / part) - 16 for at in times)

    def observed(until: float) -> float:
        if until <= 0:
            return 0.0
        return until**2 / (2 * warm_up) if until < warm_up else until - warm_up / 2

    return count / max(observed(age) - observed(age - WINDOW), 1e-9)


def seconds(most: int) -> st.SearchStrategy[float]:
    return st.integers(0, most * 1000).map(lambda milliseconds: milliseconds / 1000)


histories = st.lists(
    st.tuples(seconds(200), st.lists(seconds(100), max_size=30)), min_size=1, max_size=6
)


@given(histories, st.sampled_from([0.0, 10.0, 30.0, 90.0]))
def test_qps_is_the_rate_over_what_was_observed(
    histories: list[tuple[float, list[float]]], warm_up: float
) -> None:
    targets = [
        {"joined_at": NOW - age, "request_rate": sorted(NOW - ago for ago in agos)}
        for age, agos in histories
    ]
    costs = kvroute.score({"name": "qps", "warm_up": warm_up}, targets, num_tokens=16, now=NOW)
    for cost, target, (age, _) in zip(costs, targets, histories, strict=True):
        expected = qps_cost(target["request_rate"], age, warm_up)
        assert cost is not None
        assert math.isclose(cost, expected, rel_tol=1e-4, abs_tol=1e-9)

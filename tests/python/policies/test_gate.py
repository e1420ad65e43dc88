"""`gate` and `least_loaded` against plain statements of their rules."""

from __future__ import annotations

from typing import Any

import kvroute
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stated_fleets import NOW, Target, cached, fleets, has_statistics, prompts, queue


def decider(policy: dict[str, Any], targets: list[Target], num_tokens: int = 16) -> str:
    return kvroute.decide(policy, targets, num_tokens=num_tokens, now=NOW)[1]


def gate(**parameters: Any) -> dict[str, Any]:
    return {"name": "gate", "then": "random", "otherwise": "round_robin", **parameters}


LOADS = {
    "queue": lambda target: queue(target) if has_statistics(target) else None,
    "requests": lambda target: target["requests"],
    "prefill_tokens": lambda target: target["prefill_tokens"],
}


@pytest.mark.parametrize("load", LOADS)
@given(targets=fleets, threshold=st.integers(0, 40))
def test_a_gate_opens_at_an_imbalance(load: str, targets: list[Target], threshold: int) -> None:
    known = [value for target in targets if (value := LOADS[load](target)) is not None]
    opens = bool(known) and max(known) - min(known) >= threshold
    policy = gate(when="imbalanced", of=load, threshold=threshold)
    assert decider(policy, targets) == ("random" if opens else "round_robin")


@given(fleets, prompts, st.floats(0, 1))
def test_a_gate_opens_below_a_share_of_the_prompt(
    targets: list[Target], num_tokens: int, threshold: float
) -> None:
    opens = max(cached(target, num_tokens) for target in targets) / num_tokens < threshold
    policy = gate(when="overlap_below", threshold=threshold)
    assert decider(policy, targets, num_tokens) == ("random" if opens else "round_robin")


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=1, max_size=8), st.floats(0, 1))
def test_a_gate_opens_where_a_cache_is_too_full(
    usages: list[float | None], threshold: float
) -> None:
    targets: list[Target] = [{} if usage is None else {"kv_usage": usage} for usage in usages]
    opens = any(usage is not None and usage > threshold for usage in usages)
    policy = gate(when="overloaded", threshold=threshold)
    assert decider(policy, targets) == ("random" if opens else "round_robin")


@given(fleets)
def test_least_loaded_takes_the_shortest_queue_or_all_in_turn(targets: list[Target]) -> None:
    place, who = kvroute.decide("least_loaded", targets, num_tokens=16, now=NOW)
    if not all(has_statistics(target) for target in targets):
        assert who == "round_robin"
        return
    assert who == "least_loaded"
    assert queue(targets[place]) == min(queue(target) for target in targets)

"""`kvroute.score` and `kvroute.decide`: policies on stated figures."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import kvroute
import pytest


def test_policies_are_named() -> None:
    names = kvroute.policy_names()
    assert {"kv_cost", "standalone", "round_robin", "random"} <= set(names)
    assert [kvroute.KvRouter(16, name).policy for name in names] == names


def test_costs_follow_the_stated_figures() -> None:
    targets: list[dict[str, Any]] = [
        {},
        {"held": 5},
        {"prefill_tokens": 320, "prompt_blocks": 3, "output_blocks": 2, "active": 4},
        {"held": 2, "block_size": 32},
    ]
    # Dynamo's: blocks to prefill and blocks to decode, in blocks of 16.
    assert kvroute.score("kv_cost", targets, num_tokens=160) == [
        10 + 10,
        5 + 10,
        30 + 5 + 6,
        6 + 10,
    ]


def test_parameters_and_overrides_count() -> None:
    policy = {"name": "kv_cost", "overlap_credit": 0.5}
    targets = [{"held": 10}]
    assert kvroute.score(policy, targets, num_tokens=160) == [5 + 10]
    assert kvroute.score("kv_cost", targets, num_tokens=160) == [0 + 10]


def test_reports_have_an_age() -> None:
    def costs(age: float) -> list[float | None]:
        return kvroute.score(
            "standalone",
            [{"waiting": 4, "kv_usage": 0.5, "report_age": age}, {"waiting": 0, "kv_usage": 0.0}],
            num_tokens=16,
            now=100.0,
        )

    assert costs(59.0) == [1.5, 0.0]
    assert costs(61.0) == [0.0, 0.0]


def test_the_fleet_says_how_long_a_report_counts() -> None:
    costs = kvroute.score(
        "standalone",
        [{"kv_usage": 0.5, "report_age": 2.0}, {"kv_usage": 0.0}],
        num_tokens=16,
        fleet={"report_lifetime": 1.0},
    )
    assert costs == [0.0, 0.0]


def test_a_policy_without_costs_gives_none() -> None:
    assert kvroute.score("round_robin", [{}, {}], num_tokens=16) == [None, None]


def test_the_least_cost_is_chosen_and_the_decider_named() -> None:
    targets = [{}, {"held": 1}, {}]
    assert kvroute.decide("kv_cost", targets, num_tokens=16) == (1, "kv_cost")


def test_names_order_the_turns() -> None:
    targets = [{"name": "c"}, {"name": "a"}, {"name": "b"}]
    assert kvroute.decide("roundrobin", targets, num_tokens=16) == (1, "round_robin")


def test_a_seed_decides_ties_and_the_same_seed_alike() -> None:
    def chosen(seed: int) -> int:
        return kvroute.decide("kv_cost", [{}, {}, {}], num_tokens=16, seed=seed)[0]

    counts = Counter(chosen(seed) for seed in range(600))
    assert set(counts) == {0, 1, 2}
    assert min(counts.values()) > 120
    assert [chosen(seed) for seed in range(20)] == [chosen(seed) for seed in range(20)]


def test_a_temperature_of_the_request_spreads_unequal_costs() -> None:
    def places(temperature: float | None) -> set[int]:
        targets = [{"held": 3}, {}]
        return {
            kvroute.decide("kv_cost", targets, num_tokens=64, temperature=temperature, seed=seed)[0]
            for seed in range(50)
        }

    assert places(None) == {0}
    assert places(1.0) == {0, 1}


def test_a_router_takes_a_policy_as_data_and_tells_it() -> None:
    spec: dict[str, Any] = {"name": "kv_cost", "temperature": 0.25, "request_weight": 2}
    router = kvroute.KvRouter(16, spec)
    assert router.policy == "kv_cost"
    assert router.policy_spec == spec
    assert kvroute.KvRouter(16, router.policy_spec).policy_spec == spec
    assert kvroute.KvRouter(16, "roundrobin").policy == "round_robin"


RECURSIVE: list[Any] = []
RECURSIVE.append(RECURSIVE)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("nope", "policy: expected one of 'kv_cost' .*, got 'nope'"),
        (7, "policy: expected a policy's name, or a mapping .*, got the int 7"),
        ({}, "policy.name: expected a policy's name, got the dict {}"),
        ({"name": 3}, "policy.name: expected a policy's name"),
        ({"name": "kv_cost", 3: 4}, "policy: expected names that are strs, got the int 3"),
        ({"name": "kv_cost", "temperature": -1}, r"policy.temperature: .* 0 to 100, got -1"),
        ({"name": "kv_cost", "temperature": math.nan}, r"policy.temperature: .*, got nan"),
        ({"name": "kv_cost", "temperature": None}, "policy.temperature: .*, got None"),
        ({"name": "kv_cost", "temperature": True}, "policy.temperature: .*, got true"),
        ({"name": "kv_cost", "a": {"b": [1, {2}]}}, r"policy.a.b\[1\]: .*, got the set"),
        ({"name": "kv_cost", "a": RECURSIVE}, "nested too deeply"),
        ({"name": "kv_cost", "colour": "red"}, "policy: expected one of .*, got 'colour'"),
    ],
)
def test_a_malformed_policy_is_refused_by_its_place(policy: Any, message: str) -> None:
    with pytest.raises(kvroute.InvalidArgument, match=message):
        kvroute.KvRouter(16, policy)
    with pytest.raises(kvroute.InvalidArgument, match=message):
        kvroute.score(policy, [{}], num_tokens=16)


@pytest.mark.parametrize(
    ("targets", "options", "message"),
    [
        ([], {}, "targets: expected at least one, got none"),
        (3, {}, "targets: expected a sequence of mappings, got the int 3"),
        ([{}, 4], {}, r"targets\[1\]: expected a mapping of a target's figures, got the int 4"),
        ([{"held": -1}], {}, r"targets\[0\].held: expected an integer from 0"),
        ([{}, {"kv_usage": 1.5}], {}, r"targets\[1\].kv_usage: expected a number from 0.0 to 1.0"),
        ([{"colour": 1}], {}, r"targets\[0\].colour: there is no figure of this name"),
        ([{"arrivals": [1, "x"]}], {}, r"targets\[0\].arrivals\[1\]: expected a number"),
        ([{}], {"fleet": {"colour": 1}}, "fleet.colour: there is no figure of this name"),
        ([{}], {"fleet": 3}, "fleet: expected a mapping of a fleet's figures"),
        ([{}], {"num_tokens": 0}, "num_tokens: expected an integer from 1"),
        ([{}], {"overlap_credit": 1.1}, "overlap_credit: expected None or a number from 0 to 1"),
        ([{}], {"temperature": math.nan}, "temperature: expected None or a number from 0 to 100"),
    ],
)
def test_malformed_figures_are_refused_by_their_place(
    targets: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(kvroute.InvalidArgument, match=message):
        kvroute.score("kv_cost", targets, **{"num_tokens": 16, **options})


# Gaps that grow, so that it matters how many of them a mean remembers.
ARRIVALS = [float(i * i) for i in range(200)]
NOW = ARRIVALS[-1]


def test_the_fleets_arrivals_are_remembered_by_how_many_targets_there_are() -> None:
    def costs(fleet: dict[str, Any], targets: int = 3) -> list[float | None]:
        fleet |= {"arrivals": ARRIVALS, "prefill_seconds": 0.1}
        return kvroute.score("kv_delay", [{}] * targets, num_tokens=5000, now=NOW, fleet=fleet)

    assert costs({}) == costs({"arrival_memory": 96}) != costs({"arrival_memory": 32})
    assert costs({"targets": 4}, 2) == costs({"targets": 4, "arrival_memory": 128}, 2)


def test_a_targets_own_arrivals_are_remembered_as_in_a_router() -> None:
    def cost(targets: int) -> float | None:
        target = {"arrivals": ARRIVALS, "prefill_seconds": 0.1}
        fleet = {"arrival_memory": 32 * targets}
        return kvroute.score("kv_delay", [target] * targets, num_tokens=5000, now=NOW, fleet=fleet)[
            0
        ]

    assert cost(1) == cost(7)

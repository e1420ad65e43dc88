"""Where a request might go instead: the other eligible targets, ranked as the choice was."""

from __future__ import annotations

import math
import random
from typing import Any

import kvroute
import pytest

FAMILIES = [list(range(first, first + 400)) for first in range(0, 4000, 1000)]
PROMPT = list(range(160))
WORKERS = {"a": (16, 1), "b": (32, 2), "c": (16, 1), "d": (16, 3)}  # block size, ranks
SIZES = {worker: size for worker, (size, _) in WORKERS.items()}

Target = tuple[Any, int]


class ByName:
    """Costs that depend on nothing but the name; with ties, and some that are infinite."""

    def score(self, features: kvroute.Features) -> Any:
        costs = {"a": 2.0, "b": math.inf, "c": 2.0, "d": 1.0}
        return [costs[worker] for worker, _ in features.targets]

    def __str__(self) -> str:
        return "of_python"


POLICIES = [*kvroute.policy_names(), ByName()]


def fleet(policy: Any, **arguments: Any) -> kvroute.KvRouter:
    router = kvroute.KvRouter(16, policy, seed=5, clock=kvroute.VirtualClock(), **arguments)
    for worker, (size, ranks) in WORKERS.items():
        router.add_worker(worker, ranks, size, total_blocks=200)
    return router


def orders(router: kvroute.KvRouter, asked: dict[str, Any]) -> dict[Target, list[Target]]:
    """For each target that may be chosen the others: by cost, then by booked tokens, then in turn
    after the chosen one."""
    explained = router.explain(**asked).targets
    costs = {(t.worker, t.dp_rank): t.cost for t in explained if t.eligible}
    tokens = {
        (t.worker, t.dp_rank): t.active_blocks * SIZES[str(t.worker)]
        for t in router.stats().targets
    }
    turns = [target for target in tokens if target in costs]

    def others(chosen: int) -> list[Target]:
        around = turns[chosen + 1 :] + turns[:chosen]
        return sorted(around, key=lambda target: (costs[target] or 0.0, tokens[target]))

    return {target: others(position) for position, target in enumerate(turns)}


def random_request(chance: random.Random) -> dict[str, Any]:
    family = chance.choice(FAMILIES)
    asked: dict[str, Any] = {"token_ids": family[: chance.randrange(1, 400)]}
    if chance.random() < 0.3:
        asked["allowed"] = [("b", 1), "c", ("d", 0), ("d", 2)]
    if chance.random() < 0.3:
        asked["dp_ranks"] = range(2)
    if chance.random() < 0.3:
        asked["session_id"] = chance.choice(["one", "two"])
    if chance.random() < 0.2:
        asked["temperature"] = 0.5
    return asked


def report(router: kvroute.KvRouter, chance: random.Random) -> None:
    worker = chance.choice(list(WORKERS))
    router.update_load(worker, waiting=chance.randrange(4), kv_usage=chance.random())
    router.set_draining(chance.choice("ad"), chance.random() < 0.3)


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_they_are_the_other_eligible_ones_in_the_order_of_the_costs(policy: Any) -> None:
    router = fleet(policy, max_waiting=3)
    chance = random.Random(17)
    running: list[kvroute.Reservation] = []
    for step in range(60):
        report(router, chance)
        asked = random_request(chance)
        most = chance.choice([1, 3, 7, 4096])
        expected = orders(router, asked)
        if not expected:
            continue
        if step % 3 == 0:
            choice = router.select_worker(**asked, alternatives=most)
        else:
            running.append(router.reserve(**asked, alternatives=most))
            choice = running[-1].choice
        assert choice.alternatives == expected[choice.worker, choice.dp_rank][:most]
        if len(running) > 6:
            running.pop(chance.randrange(7)).release()


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_naming_them_changes_no_choice(policy: Any) -> None:
    naming, plain = fleet(policy), fleet(policy)
    chance = random.Random(3)
    for _ in range(40):
        asked = random_request(chance)
        with_others = naming.reserve(**asked, alternatives=3).choice
        alone = plain.reserve(**asked).choice
        assert repr(with_others) == repr(alone)
        assert len(with_others.alternatives) > 1
        assert alone.alternatives == []


def test_a_seed_tells_them() -> None:
    def sequence() -> list[list[Target]]:
        router = fleet("random")
        return [router.select_worker(PROMPT, alternatives=6).alternatives for _ in range(20)]

    assert sequence() == sequence()
    assert len({first[0] for first in sequence()}) > 2, "equals are not always led by the same one"


def test_infinite_costs_are_last() -> None:
    router = fleet(ByName())
    for _ in range(10):
        named = router.select_worker(PROMPT, alternatives=6).alternatives
        assert [worker for worker, _ in named] in (
            ["d", "d", "a", "c", "b", "b"],
            ["d", "d", "c", "a", "b", "b"],
        )


def test_where_a_policy_of_python_fails_the_fallback_ranks_them() -> None:
    class Broken:
        def score(self, features: kvroute.Features) -> Any:
            return [math.nan] * len(features)

    broken, whole = fleet(Broken(), fallback_policy="least_load"), fleet("least_load")
    for router in (broken, whole):
        router.reserve(PROMPT, allowed=["a"], request_id="r").first_token()
    named = [
        router.reserve(PROMPT, alternatives=9).choice.alternatives for router in (broken, whole)
    ]
    assert named[0] == named[1]


def test_by_hashes_as_by_tokens() -> None:
    routers = [fleet("kv_cost") for _ in range(3)]
    hashes = kvroute.hash_blocks(PROMPT, 16)
    tokens = routers[0].select_worker(PROMPT, ["a", "c", "d"], alternatives=9)
    chosen = routers[1].select_worker_by_hashes(hashes, 160, ["a", "c", "d"], alternatives=9)
    booked = routers[2].reserve_by_hashes(hashes, 160, allowed=["a", "c", "d"], alternatives=9)
    assert len(tokens.alternatives) == 4
    assert tokens.alternatives == chosen.alternatives == booked.choice.alternatives


@pytest.mark.parametrize("number", [-1, 4097, 2**70, None, True, 1.0, "3"])
def test_other_numbers_are_refused(router: kvroute.KvRouter, number: Any) -> None:
    message = "^alternatives: expected an integer from 0 to 4096"
    with pytest.raises(kvroute.InvalidArgument, match=message):
        router.select_worker(PROMPT, alternatives=number)
    with pytest.raises(kvroute.InvalidArgument, match=message):
        router.reserve(PROMPT, alternatives=number)
    assert router.stats().selections == 0

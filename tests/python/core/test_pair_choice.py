"""`reserve_pair`: who prefills and who decodes, chosen together."""

from __future__ import annotations

import random
from typing import Any

import kvroute
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

PROMPT = list(range(320))
RATES = {"same_host": 0.001, "same_zone": 0.01, "elsewhere": 0.1, "step": 1e-4, "decode_steps": 3.0}


def fleet(places: list[dict[str, str]], **options: Any) -> kvroute.KvRouter:
    """Workers 0, 1, ... with these labels; a token takes a hundredth of a second to compute."""
    router = kvroute.KvRouter(
        16,
        seed=7,
        clock=kvroute.VirtualClock(),
        prefill_tokens_per_second=100,
        attention_seconds=0,
        **options,
    )
    for worker, labels in enumerate(places):
        router.add_worker(worker, labels=labels)
    return router


def names(pair: tuple[kvroute.Reservation, kvroute.Reservation]) -> tuple[Any, Any]:
    return pair[0].choice.worker, pair[1].choice.worker


def test_both_legs_are_booked_until_their_release() -> None:
    router = fleet([{}, {}])
    prefill, decode = router.reserve_pair(
        PROMPT, "r1", 20, prefill_allowed=[0], decode_allowed=router.allowed_set([1])
    )
    assert (prefill.request_id, decode.request_id) == ("r1/prefill", "r1/decode")
    assert prefill.choice.rule == decode.choice.rule == "joint"
    assert prefill.choice.cost == decode.choice.cost
    first, second = router.stats().targets
    assert (first.active_prefill_tokens, second.active_prefill_tokens) == (320, 0)
    assert (first.active_blocks, second.active_blocks) == (20, 20)
    prefill.first_token()
    prefill.release()
    decode.release()
    assert [target.active_blocks for target in router.stats().targets] == [0, 0]


def test_a_decoder_beside_the_best_prefill_worker_is_chosen() -> None:
    router = fleet([{"host": "a"}, {"host": "b"}, {"host": "b"}, {"host": "a"}])
    router.set_pair_choice(**RATES)
    roles: Any = {"prefill_allowed": [0, 1], "decode_allowed": [2, 3]}
    router.reserve(PROMPT, allowed=[1]).release()  # what it holds brings it the request
    assert names(router.reserve_pair(PROMPT, **roles)) == (1, 2)
    other = list(range(5000, 6000))
    pair = router.reserve_pair(other, prefill_allowed=[1], decode_allowed=[2, 3])
    assert names(pair) == (1, 2)
    assert names(router.reserve_pair(list(range(6000, 6320)), **roles)) == (0, 3), "a queue is long"
    assert names(router.reserve_pair(PROMPT, **roles)) == (0, 2), "all of it is there already"


def test_what_decides_changes_between_two_requests() -> None:
    router = fleet([{}, {}])
    assert router.pair_choice == {
        "same_host": 1.8e-7,
        "same_zone": 1.6e-6,
        "elsewhere": 1.3e-5,
        "step": 2.4e-8,
        "decode_steps": 1.0,
    }
    router.set_pair_choice(**RATES)
    assert router.pair_choice == RATES
    with pytest.raises(kvroute.InvalidArgument, match="same_zone: expected a number from 0.001"):
        router.set_pair_choice(same_host=0.001)
    with pytest.raises(kvroute.InvalidArgument, match="step"):
        router.set_pair_choice(step=float("nan"))
    assert router.pair_choice == RATES


@pytest.mark.parametrize("leg", ["prefill", "decode"])
def test_an_error_names_the_leg(leg: str) -> None:
    router = fleet([{}, {}], max_waiting=0)
    allowed: Any = {"prefill_allowed": [0], "decode_allowed": [1]}
    worker = 0 if leg == "prefill" else 1
    router.update_load(worker, waiting=3)
    with pytest.raises(kvroute.Overloaded, match=f"worker for the {leg}") as refused:
        router.reserve_pair(PROMPT, **allowed)
    assert refused.value.phase == leg
    router.set_draining(worker)
    with pytest.raises(kvroute.NoEligibleWorker, match=f"the {leg} .*1 draining") as refused:
        router.explain_pair(PROMPT, **allowed)
    assert refused.value.phase == leg
    router.set_draining(1 - worker)
    assert router.stats().reservations == 0
    with pytest.raises(kvroute.NoEligibleWorker) as refused:
        router.reserve(PROMPT)
    assert refused.value.phase is None
    wrong: Any = {f"{leg}_allowed": 3}
    with pytest.raises(kvroute.InvalidArgument, match=f"{leg}_allowed"):
        router.reserve_pair(PROMPT, **wrong)


class Figures:
    """A policy that keeps what it is given: what the rule below goes by."""

    def score(self, features: kvroute.Features) -> Any:
        self.seen = features
        return features.held * 0.0


def figures(router: kvroute.KvRouter) -> kvroute.Features:
    policy = Figures()
    router.set_policy(policy)
    router.explain(PROMPT, expected_output_tokens=32)
    return policy.seen


def rate(places: list[Any], p: int, d: int, prefill: list[int], decode: list[int]) -> float:
    def known(p: int, d: int) -> float | None:
        (zone, host), (other_zone, other_host) = places[p], places[d]
        if not (zone or host) or not (other_zone or other_host):
            return None
        near = "same_host" if host and host == other_host else "same_zone"
        return RATES[near if zone == other_zone else "elsewhere"]

    rates = [r for p in prefill for d in decode if (r := known(p, d)) is not None]
    mean = sum(rates) / len(rates) if rates else RATES["same_zone"]
    here = known(p, d)
    return 0.0 if p == d else mean if here is None else here


def best_pairs(f: Any, places: list[Any], prefill: list[int], decode: list[int]) -> set[Any]:
    """The pairs that are as good as one of the least sum, of every pair there is."""
    cached = [min(320, int(held) * 16) for held in f.held]
    added = [20 - min(20, int(active)) for active in f.active]
    after = [
        used + new + more + 2
        for used, new, more in zip(f.active_blocks, added, f.expected_output_blocks, strict=True)
    ]
    room = [not after[d] > f.total_blocks[d] for d in range(len(cached))]
    ends = {
        p: f.backlog_left_seconds[p] + f.prefill_scale[p] * f.prefill_seconds[p] for p in prefill
    }
    steps = {
        d: 3e-4 * 16 * (f.active_blocks[d] + added[d])
        for d in decode
        if room[d] or not any(room[d] for d in decode)
    }
    halves = {
        (p, d): (ends[p], (320 - cached[d]) * rate(places, p, d, prefill, decode) + steps[d])
        for p in prefill
        for d in steps
    }
    least = min(map(sum, halves.values()))
    best = [half for half in halves.values() if sum(half) <= least + 1e-9]
    return {
        pair
        for pair, half in halves.items()
        for one in best
        if all(x <= 1.05 * y + 0.001 + 1e-9 for x, y in zip(half, one, strict=True))
    }


WORKER = st.tuples(
    st.sampled_from(["p", "d", "pd"]),
    st.sampled_from(["", "y", "z"]),
    st.sampled_from(["", "a", "b"]),
)


@settings(max_examples=300, deadline=None)
@given(
    workers=st.lists(WORKER, min_size=2, max_size=6),
    seed=st.integers(0, 2**32),
    events=st.integers(0, 30),
)
def test_it_takes_a_pair_that_trying_all_of_them_would_take(
    workers: list[Any], seed: int, events: int
) -> None:
    chance = random.Random(seed)
    clock = kvroute.VirtualClock()
    router = kvroute.KvRouter(
        16, seed=seed, clock=clock, prefill_tokens_per_second=100, attention_seconds=0
    )
    for worker, (_, zone, host) in enumerate(workers):
        labels = {k: v for k, v in (("zone", zone), ("host", host)) if v}
        router.add_worker(worker, labels=labels, total_blocks=chance.choice([None, 30, 90]))
    router.set_pair_choice(**RATES)
    running = []
    for _ in range(events):
        prompt = [*range(chance.randrange(1, 320)), chance.randrange(3)]
        worker = chance.randrange(len(workers))
        phase: Any = chance.choice(["whole", "prefill", "decode"])
        running.append(router.reserve(prompt, allowed=[worker], phase=phase))
        clock.advance(chance.random() / 4)
        if chance.random() < 0.5:
            chance.choice(running).first_token()
        if chance.random() < 0.4:
            running.pop(chance.randrange(len(running))).release()
    prefill = [w for w, (role, _, _) in enumerate(workers) if "p" in role] or [0]
    decode = [w for w, (role, _, _) in enumerate(workers) if "d" in role] or [0]
    places = [(zone, host) for _, zone, host in workers]
    expected = best_pairs(figures(router), places, prefill, decode)
    pair = router.reserve_pair(PROMPT, None, 32, prefill_allowed=prefill, decode_allowed=decode)
    assert names(pair) in expected

"""Bookings from hashes: those of the tokens, as far as the hashes tell."""

from __future__ import annotations

import random
from typing import Any

import kvroute
import pytest

FAMILIES = [list(range(first, first + 400)) for first in range(0, 3000, 1000)]
PROMPT = list(range(100))
HASHES = kvroute.hash_blocks(PROMPT, 16)


def fleet(policy: str, clock: kvroute.VirtualClock) -> kvroute.KvRouter:
    router = kvroute.KvRouter(16, policy, seed=5, clock=clock, predicted_ttl=5.0)
    router.add_worker("a")
    router.add_worker("b", dp_ranks=2, total_blocks=60)
    router.add_worker("c", total_blocks=200)
    return router


def state(router: kvroute.KvRouter) -> tuple[Any, ...]:
    """All that can be seen of bookings, loads and predictions."""
    stats = router.stats()
    figures = [name for name in dir(stats.targets[0]) if not name.startswith("_")]
    loads = [[getattr(target, name) for name in figures] for target in stats.targets]
    held = [router.overlaps(family) for family in FAMILIES]
    return loads, held, stats.reservations, stats.selections


def seen(reservation: kvroute.Reservation) -> tuple[Any, ...]:
    choice = reservation.choice
    return repr(choice), choice.rule, choice.alternatives, reservation.request_id


@pytest.mark.parametrize("policy", kvroute.policy_names())
def test_a_booking_equals_one_from_the_tokens(policy: str, clock: kvroute.VirtualClock) -> None:
    by_tokens, by_hashes = fleet(policy, clock), fleet(policy, clock)
    chance = random.Random(29)
    running: list[tuple[kvroute.Reservation, kvroute.Reservation, bool]] = []
    for _ in range(80):
        clock.advance(chance.choice([0, 0.01, 1.5]))
        family = chance.choice(FAMILIES)
        tokens = family[: chance.choice([chance.randrange(1, 400), 16 * chance.randrange(1, 25)])]
        lora = chance.choice([None, None, "sql"])
        hashes = kvroute.hash_blocks(tokens, 16, lora=lora)
        asked: dict[str, Any] = {
            "expected_output_tokens": chance.choice([None, 50]),
            "allowed": chance.choice([None, None, ["a", ("b", 1)]]),
            "session_id": chance.choice([None, "one"]),
            "phase": chance.choice([None, None, "prefill", "decode"]),
            "lora": lora,
            "alternatives": chance.randrange(4),
        }
        one = by_tokens.reserve(tokens, **asked)
        other = by_hashes.reserve_by_hashes(hashes, len(tokens), **asked)
        assert seen(one) == seen(other)
        assert state(by_tokens) == state(by_hashes)
        running.append((one, other, len(tokens) % 16 == 0))
        while len(running) > 5:
            one, other, is_whole = running.pop(chance.randrange(6))
            output = chance.choice([None, list(range(5000, 5000 + chance.randrange(1, 60)))])
            for reservation in (one, other):
                reservation.first_token()
                reservation.progress(20)
                reservation.release(output if is_whole else None)
            assert state(by_tokens) == state(by_hashes)


def test_output_after_an_unknown_tail_is_not_predicted(router: kvroute.KvRouter) -> None:
    output = list(range(500, 540))
    with router.reserve_by_hashes(HASHES, 100, allowed=["w1"]) as reservation:
        reservation.release(output)
    assert router.overlaps([*PROMPT, *output]) == {("w1", 0): 96}
    assert router.stats().targets[1].held_blocks == 6


def test_output_after_a_whole_prompt_is_predicted(router: kvroute.KvRouter) -> None:
    output = list(range(500, 540))
    with router.reserve_by_hashes(HASHES, 96, allowed=["w1"]) as reservation:
        reservation.release(output)
    assert router.overlaps([*PROMPT[:96], *output]) == {("w1", 0): 128}


def test_blocks_without_a_hash_are_load_of_the_request_alone(router: kvroute.KvRouter) -> None:
    def active() -> int:
        return router.stats().targets[0].active_blocks

    first = router.reserve_by_hashes(HASHES[:2], 100, allowed=["w0"])
    assert (active(), first.choice.prefill_tokens) == (6, 100)
    second = router.reserve_by_hashes(HASHES[:2], 100, allowed=["w0"])
    assert (active(), second.choice.cached_tokens) == (10, 32)
    first.release()
    second.release()
    assert active() == 0


def test_a_worker_with_another_block_size_counts_as_holding_nothing() -> None:
    router = kvroute.KvRouter(16, seed=1)
    router.add_worker("large", block_size=32)
    router.reserve(PROMPT).release()
    assert router.select_worker(PROMPT).cached_tokens == 96
    assert router.select_worker_by_hashes(HASHES, 100).cached_tokens == 0
    with router.reserve_by_hashes(HASHES, 100) as reservation:
        assert reservation.choice.prefill_tokens == 100
        assert router.stats().targets[0].active_blocks == 3
        reservation.release(list(range(64)))
    target = router.stats().targets[0]
    assert (target.active_blocks, target.held_blocks) == (0, 3)


def test_ids_and_lengths_are_checked(router: kvroute.KvRouter) -> None:
    kept = router.reserve_by_hashes(HASHES, 100, "r1")
    with pytest.raises(kvroute.InvalidArgument, match="^request_id: expected one that is not run"):
        router.reserve_by_hashes(HASHES, 100, "r1")
    with pytest.raises(kvroute.InvalidArgument, match="^request_id: expected None or a text"):
        router.reserve_by_hashes(HASHES, 100, "")
    with pytest.raises(kvroute.InvalidArgument, match="^num_tokens: expected at least 96"):
        router.reserve_by_hashes(HASHES, 95)
    with pytest.raises(kvroute.UnknownWorker):
        router.reserve_by_hashes(HASHES, 100, allowed=["w9"])
    assert router.stats().reservations == 1
    kept.release()


def test_a_policy_of_python_decides(router: kvroute.KvRouter) -> None:
    class Last:
        def score(self, features: kvroute.Features) -> Any:
            return [-float(at) for at in range(len(features))]

    router.set_policy(Last())
    reservation = router.reserve_by_hashes(HASHES, 100, alternatives=2)
    assert (reservation.choice.worker, reservation.choice.rule) == ("w2", "given")
    assert reservation.choice.alternatives == [("w1", 0), ("w0", 0)]

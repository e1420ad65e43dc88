"""Workers without events: what the router assumes they hold, by its own decisions alone."""

from __future__ import annotations

import kvroute
import pytest

BLOCK = 16


def prompt(number: int, blocks: int) -> list[int]:
    """Shares nothing with that of another number."""
    return [1_000_000 * number + i for i in range(blocks * BLOCK)]


@pytest.fixture
def router(clock: kvroute.VirtualClock) -> kvroute.KvRouter:
    router = kvroute.KvRouter(BLOCK, seed=1, clock=clock)
    router.add_worker("w", total_blocks=20)
    return router


def cached(router: kvroute.KvRouter, token_ids: list[int], worker: str = "w") -> int:
    """Blocks."""
    return router.overlaps(token_ids).get((worker, 0), 0) // BLOCK


def held(router: kvroute.KvRouter) -> int:
    return sum(target.held_blocks for target in router.stats().targets)


def test_predictions_last_as_long_as_the_cache_has_room(
    router: kvroute.KvRouter, clock: kvroute.VirtualClock
) -> None:
    router.reserve(prompt(1, 8)).release()
    clock.advance(1e6)
    router.reserve(prompt(2, 8)).release()
    assert (cached(router, prompt(1, 8)), cached(router, prompt(2, 8))) == (8, 8)
    router.reserve(prompt(3, 8)).release()
    assert (cached(router, prompt(1, 8)), cached(router, prompt(2, 8))) == (4, 8)
    assert held(router) == 20
    assert router.stats().indexes[0].counters["outlived"] == 4


def test_a_prompt_that_is_asked_again_stays(router: kvroute.KvRouter) -> None:
    for number in (1, 2, 1, 3):
        router.reserve(prompt(number, 8)).release()
    assert cached(router, prompt(1, 8)) == 8
    assert cached(router, prompt(2, 8)) == 4


def test_what_ends_last_was_used_last(router: kvroute.KvRouter) -> None:
    first = router.reserve(prompt(1, 8))
    router.reserve(prompt(2, 8)).release()
    first.release()
    router.reserve(prompt(3, 8)).release()
    assert cached(router, prompt(1, 8)) == 8
    assert cached(router, prompt(2, 8)) == 4


def test_running_requests_keep_their_blocks(router: kvroute.KvRouter) -> None:
    running = [router.reserve(prompt(number, 8)) for number in range(1, 5)]
    assert held(router) == 32, "more than the cache has: the engine will let some wait"
    assert all(cached(router, prompt(number, 8)) == 8 for number in range(1, 5))
    for reservation in running:
        reservation.release()
    assert held(router) == 20


def test_answers_take_room_and_are_found_again(router: kvroute.KvRouter) -> None:
    output = list(range(4 * BLOCK + 1))
    router.reserve(prompt(1, 8)).release(output_token_ids=output)
    assert cached(router, prompt(1, 8) + output) == 12
    router.reserve(prompt(2, 8)).release()
    router.reserve(prompt(3, 4)).release()
    assert cached(router, prompt(1, 8) + output) == 8


def test_the_last_token_of_an_answer_was_never_computed(router: kvroute.KvRouter) -> None:
    output = list(range(2 * BLOCK))
    router.reserve(prompt(1, 8)).release(output_token_ids=output)
    assert cached(router, prompt(1, 8) + output) == 9


def test_each_rank_has_the_capacity(clock: kvroute.VirtualClock) -> None:
    router = kvroute.KvRouter(BLOCK, seed=1, clock=clock)
    router.add_worker("w", dp_ranks=2, total_blocks=10)
    for rank in (0, 1):
        for number in (1, 2, 3):
            router.reserve(prompt(number, 8), allowed=[("w", rank)]).release()
    assert [target.held_blocks for target in router.stats().targets] == [10, 10]


def test_without_a_known_capacity_predictions_expire(clock: kvroute.VirtualClock) -> None:
    router = kvroute.KvRouter(BLOCK, seed=1, clock=clock)
    router.add_worker("w")
    for number in range(10):
        router.reserve(prompt(number, 8)).release()
    assert held(router) == 80
    clock.advance(121)
    assert cached(router, prompt(9, 8)) == 0


def test_a_slot_serves_its_next_worker_without_the_last_ones_capacity(
    router: kvroute.KvRouter, clock: kvroute.VirtualClock
) -> None:
    router.remove_worker("w")
    router.add_worker("v")
    router.reserve(prompt(1, 30)).release()
    assert cached(router, prompt(1, 30), "v") == 30
    clock.advance(121)
    assert cached(router, prompt(1, 30), "v") == 0


def test_a_worker_with_events_is_not_bounded_by_its_capacity(clock: kvroute.VirtualClock) -> None:
    with kvroute.KvRouter(BLOCK, seed=1, clock=clock) as router:
        router.add_worker("w", kv_events="ipc://@kvroute-test-predictive", total_blocks=20)
        router.reserve(prompt(1, 30)).release()
        assert cached(router, prompt(1, 30)) == 30
        clock.advance(121)
        assert cached(router, prompt(1, 30)) == 0

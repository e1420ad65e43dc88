"""KvRouter: choosing, booking, explaining, and every refusal."""

from __future__ import annotations

import gc
import threading
from array import array
from collections import Counter
from typing import Any

import kvroute
import pytest

PROMPT = list(range(160))  # ten blocks of 16


def only(router: kvroute.KvRouter, worker: kvroute.TargetStats | str) -> kvroute.TargetStats:
    return next(target for target in router.stats().targets if target.worker == worker)


def test_a_reserved_prompt_draws_its_followers(router: kvroute.KvRouter) -> None:
    with router.reserve(PROMPT) as first:
        assert first.choice.cached_tokens == 0
        assert first.choice.prefill_tokens == 160
    again = router.select_worker([*PROMPT, 1, 2, 3])
    assert again.worker == first.choice.worker
    assert again.cached_tokens == 160
    assert again.prefill_tokens == 3


def test_select_worker_books_and_predicts_nothing(router: kvroute.KvRouter) -> None:
    for _ in range(10):
        router.select_worker(PROMPT)
    stats = router.stats()
    assert stats.reservations == 0
    assert stats.selections == 10
    assert all(t.held_blocks == t.active_blocks == 0 for t in stats.targets)


def test_ties_spread_evenly_and_repeat_for_a_seed() -> None:
    def picks(seed: int) -> list[object]:
        router = kvroute.KvRouter(16, seed=seed)
        for worker in range(4):
            router.add_worker(worker)
        return [router.select_worker(PROMPT).worker for _ in range(4000)]

    first = picks(3)
    assert first == picks(3)
    assert first != picks(4)
    assert all(900 < count < 1100 for count in Counter(first).values())


def test_load_outweighs_a_short_overlap(router: kvroute.KvRouter) -> None:
    running = [router.reserve(PROMPT[:16] + [9] * 800, allowed=["w0"]) for _ in range(3)]
    choice = router.select_worker(PROMPT)
    assert choice.worker != "w0"
    del running


def test_a_reservation_moves_load_and_gives_it_back(router: kvroute.KvRouter) -> None:
    reservation = router.reserve(PROMPT, request_id="r1", allowed=["w1"])
    target = only(router, "w1")
    assert (target.active_requests, target.active_prefill_tokens, target.active_blocks) == (
        1,
        160,
        10,
    )
    reservation.first_token()
    reservation.first_token()
    assert only(router, "w1").active_prefill_tokens == 0
    reservation.progress(40)
    reservation.progress(3)
    assert only(router, "w1").active_blocks == 12
    reservation.release()
    reservation.release()
    assert reservation.released
    target = only(router, "w1")
    assert (target.active_requests, target.active_blocks) == (0, 0)
    assert target.held_blocks == 10


def test_a_shared_prefix_is_booked_once(router: kvroute.KvRouter) -> None:
    with router.reserve(PROMPT, allowed=["w0"]), router.reserve(PROMPT + [5] * 16, allowed=["w0"]):
        assert only(router, "w0").active_blocks == 11
    assert only(router, "w0").active_blocks == 0


def test_a_reservation_is_released_on_error_and_with_its_last_reference(
    router: kvroute.KvRouter,
) -> None:
    with pytest.raises(ZeroDivisionError), router.reserve(PROMPT):
        _ = 1 / 0
    reservation = router.reserve(PROMPT)
    del reservation
    gc.collect()
    assert router.stats().reservations == 0


def test_a_request_id_runs_once_at_a_time(router: kvroute.KvRouter) -> None:
    with router.reserve(PROMPT, request_id="r1") as reservation:
        assert reservation.request_id == "r1"
        with pytest.raises(kvroute.InvalidArgument, match="^request_id: .* got 'r1'$"):
            router.reserve(PROMPT, request_id="r1")
        assert router.stats().reservations == 1
    router.reserve(PROMPT, request_id="r1").release()
    made_up = [router.reserve(PROMPT) for _ in range(3)]
    assert len({r.request_id for r in made_up}) == 3


def test_output_is_remembered_with_the_prompts_tail(router: kvroute.KvRouter) -> None:
    prompt, output = [*PROMPT, 1, 2, 3], list(range(500, 530))
    with router.reserve(prompt, allowed=["w2"]) as reservation:
        reservation.release(output_token_ids=output)
    choice = router.select_worker(prompt + output + [7])
    assert choice.worker == "w2"
    assert choice.cached_tokens == (len(prompt) + len(output)) // 16 * 16


def test_predicted_blocks_end_with_their_time(
    router: kvroute.KvRouter, clock: kvroute.VirtualClock
) -> None:
    router.reserve(PROMPT, allowed=["w0"]).release()
    clock.advance(119)
    assert router.select_worker(PROMPT).cached_tokens == 160
    clock.advance(2)
    assert router.select_worker(PROMPT).cached_tokens == 0
    assert router.stats().indexes[0].held == 0


def test_a_forgotten_reservation_ends_with_its_time(clock: kvroute.VirtualClock) -> None:
    router = kvroute.KvRouter(16, clock=clock, reservation_ttl=30)
    router.add_worker("w0")
    forgotten = router.reserve(PROMPT)
    clock.advance(31)
    router.reserve(PROMPT).release()
    stats = router.stats()
    assert (stats.reservations, stats.expired_reservations) == (0, 1)
    forgotten.release()
    assert only(router, "w0").active_requests == 0


def test_whoever_looks_sees_no_expired_reservation(clock: kvroute.VirtualClock) -> None:
    def fleet() -> kvroute.KvRouter:
        router = kvroute.KvRouter(16, clock=clock, reservation_ttl=30)
        for worker in ("w0", "w1"):
            router.add_worker(worker)
        return router

    routers = [fleet() for _ in range(3)]
    forgotten = [router.reserve(PROMPT, allowed=["w0"]) for router in routers]
    clock.advance(121)  # the prediction is over too
    select, stats, explain = routers
    assert {select.select_worker(PROMPT).worker for _ in range(40)} == {"w0", "w1"}
    assert stats.stats().reservations == 0
    assert stats.stats().expired_reservations == 1
    assert only(stats, "w0").active_blocks == 0
    assert {target.cost for target in explain.explain(PROMPT).targets} == {20.0}
    assert all(not reservation.released for reservation in forgotten)


def test_many_expired_reservations_end_before_they_are_counted(
    clock: kvroute.VirtualClock,
) -> None:
    router = kvroute.KvRouter(16, clock=clock, reservation_ttl=30)
    router.add_worker("w0")
    forgotten = [router.reserve(PROMPT) for _ in range(300)]
    clock.advance(31)
    assert router.stats().reservations == 0
    assert router.stats().expired_reservations == len(forgotten)


def test_a_stream_that_goes_on_keeps_its_reservation(clock: kvroute.VirtualClock) -> None:
    router = kvroute.KvRouter(16, clock=clock, reservation_ttl=30)
    router.add_worker("w0")
    stream = router.reserve(PROMPT)
    for piece in range(100):
        clock.advance(10)
        stream.progress(piece)
        assert only(router, "w0").active_requests == 1
    clock.advance(31)
    assert only(router, "w0").active_requests == 0


def test_the_mean_time_to_first_token_is_of_the_load_window(clock: kvroute.VirtualClock) -> None:
    router = kvroute.KvRouter(16, clock=clock, load_window=60)
    for worker in ("w0", "w1"):
        router.add_worker(worker)
    assert only(router, "w0").first_token_seconds is None
    for seconds in (1.0, 2.0):
        reservation = router.reserve(PROMPT, allowed=["w0"])
        clock.advance(seconds)
        reservation.first_token()
        reservation.release()
    assert only(router, "w0").first_token_seconds == pytest.approx(1.5)
    assert only(router, "w1").first_token_seconds is None
    clock.advance(61)
    assert only(router, "w0").first_token_seconds is None


def test_allowed_limits_the_choice(router: kvroute.KvRouter) -> None:
    router.reserve(PROMPT, allowed=["w0"]).release()
    assert router.select_worker(PROMPT).worker == "w0"
    assert router.select_worker(PROMPT, allowed=["w2"]).worker == "w2"
    assert router.select_worker(PROMPT, ("w2", "w1", "w2")).worker in {"w1", "w2"}


def test_allowed_may_name_a_rank() -> None:
    router = kvroute.KvRouter(16, seed=1)
    router.add_worker("w", dp_ranks=3)
    first = router.reserve(PROMPT).choice
    for _ in range(5):
        choice = router.select_worker(PROMPT, [("w", 2)])
        assert (choice.worker, choice.dp_rank) == ("w", 2)
    again = router.reserve(PROMPT, allowed=[(first.worker, first.dp_rank)]).choice
    assert again.dp_rank == first.dp_rank
    with pytest.raises(kvroute.UnknownWorker, match="^allowed: expected a rank from 0 to 2"):
        router.select_worker(PROMPT, [("w", 3)])
    with pytest.raises(kvroute.InvalidArgument, match="^allowed: .* got -1"):
        router.select_worker(PROMPT, [("w", -1)])
    with pytest.raises(kvroute.InvalidArgument, match="^allowed: .* got tuple"):
        router.select_worker(PROMPT, [("w", 1, 2)])  # type: ignore[list-item]


def test_a_choice_outlives_its_reservation(router: kvroute.KvRouter) -> None:
    choice = router.reserve(PROMPT).choice
    gc.collect()
    assert router.stats().reservations == 0
    assert choice.prefill_tokens == 160


def test_zero_and_the_text_zero_are_two_workers() -> None:
    router = kvroute.KvRouter(16, policy="round_robin")
    router.add_worker(0)
    router.add_worker("0", labels={"zone": "b"})
    assert [router.select_worker(PROMPT).worker for _ in range(4)] == [0, "0", 0, "0"]
    assert router.labels("0") == {"zone": "b"}
    assert router.labels(0) == {}


def test_ranks_are_targets_of_their_own() -> None:
    router = kvroute.KvRouter(16, policy="round_robin")
    router.add_worker("w", dp_ranks=3)
    choices = [router.select_worker(PROMPT) for _ in range(3)]
    assert [(c.worker, c.dp_rank) for c in choices] == [("w", 0), ("w", 1), ("w", 2)]


def test_a_worker_that_returns_inherits_nothing(router: kvroute.KvRouter) -> None:
    reservation = router.reserve(PROMPT, allowed=["w1"])
    router.remove_worker("w1")
    router.add_worker("w1")
    target = only(router, "w1")
    assert (target.active_requests, target.held_blocks) == (0, 0)
    reservation.first_token()
    reservation.release()
    assert only(router, "w1").active_requests == 0
    assert router.workers() == ["w0", "w2", "w1"]


def test_workers_of_other_block_sizes_are_compared_in_tokens() -> None:
    router = kvroute.KvRouter(16, seed=1)
    router.add_worker("small")
    router.add_worker("large", block_size=64)
    router.reserve(PROMPT, allowed=["large"]).release()
    choice = router.select_worker(PROMPT)
    assert (choice.worker, choice.cached_tokens) == ("large", 128)
    assert [index.block_size for index in router.stats().indexes] == [16, 64]
    router.remove_worker("large")
    assert [index.block_size for index in router.stats().indexes] == [16]


def test_fewer_tokens_than_a_block_are_chosen_by_load(router: kvroute.KvRouter) -> None:
    with (
        router.reserve(PROMPT, allowed=["w0"]),
        router.reserve(PROMPT, allowed=["w2"]),
    ):
        assert router.select_worker([1, 2, 3]).worker == "w1"


def test_namespaces_do_not_match_each_other(router: kvroute.KvRouter) -> None:
    router.reserve(PROMPT, lora="a").release()
    assert router.select_worker(PROMPT).cached_tokens == 0
    assert router.select_worker(PROMPT, lora="b").cached_tokens == 0
    assert router.select_worker(PROMPT, salt="a").cached_tokens == 0
    assert router.select_worker(PROMPT, namespace="a").cached_tokens == 0
    assert router.select_worker(PROMPT, lora="a").cached_tokens == 160


def test_selecting_by_hashes_equals_selecting_by_tokens(router: kvroute.KvRouter) -> None:
    router.reserve(PROMPT, allowed=["w1"]).release()
    hashes = kvroute.hash_blocks(PROMPT, 16)
    choice = router.select_worker_by_hashes(hashes, 165)
    assert (choice.worker, choice.cached_tokens, choice.prefill_tokens) == ("w1", 160, 5)
    assert router.select_worker_by_hashes([], 5).cached_tokens == 0
    with pytest.raises(kvroute.InvalidArgument, match="^num_tokens: expected at least 160"):
        router.select_worker_by_hashes(hashes, 159)
    with pytest.raises(kvroute.InvalidArgument, match="^num_tokens: expected at least 1 "):
        router.select_worker_by_hashes([], 0)


def test_overlaps_counts_cached_tokens(router: kvroute.KvRouter) -> None:
    router.reserve(PROMPT[:64], allowed=["w0"]).release()
    router.reserve(PROMPT, allowed=["w2"]).release()
    assert router.overlaps(PROMPT) == {("w0", 0): 64, ("w2", 0): 160}


def test_explain_shows_every_target_and_changes_nothing(router: kvroute.KvRouter) -> None:
    router.reserve(PROMPT, allowed=["w1"]).release()
    before = router.stats().selections
    explanation = router.explain(PROMPT, allowed=["w0", "w1"])
    assert router.stats().selections == before
    assert explanation.policy == "kv_cost"
    assert explanation.num_tokens == 160
    assert [t.worker for t in explanation.targets] == ["w1", "w0", "w2"]
    best, other, left_out = explanation.targets
    assert (best.eligible, best.cached_tokens, best.cost) == (True, 160, 10.0)
    assert other.cost == 20.0
    assert best.terms["prefill_cost"] + best.terms["decode_cost"] == best.cost
    assert (left_out.eligible, left_out.reason) == (False, "not in allowed")
    text = str(explanation)
    assert "policy kv_cost, 160 prompt tokens" in text
    assert "not eligible: not in allowed" in text
    assert router.select_worker(PROMPT, allowed=["w0", "w1"]).worker == best.worker


def test_standalone_uses_reported_load() -> None:
    router = kvroute.KvRouter(64, policy="standalone", seed=1)
    router.add_worker(0)
    router.add_worker(1)
    router.update_load(0, waiting=4, kv_usage=0.5)
    router.update_load(1, waiting=0, kv_usage=0.1)
    choice = router.select_worker(PROMPT)
    assert choice.worker == 1
    assert choice.cost == pytest.approx(0.1)
    # Each pick counts as one more waiting until the next report.
    picks = Counter(router.select_worker(PROMPT).worker for _ in range(8))
    assert picks[0] > 0
    router.update_load(1, waiting=0)
    assert router.select_worker(PROMPT).cost == pytest.approx(0.1)


def test_update_load_keeps_what_it_leaves_out_and_carries_an_age(
    router: kvroute.KvRouter, clock: kvroute.VirtualClock
) -> None:
    assert only(router, "w0").waiting is None
    assert only(router, "w0").load_age is None
    router.update_load("w0", waiting=3, running=9, kv_usage=0.4)
    clock.advance(2)
    router.update_load("w0", kv_usage=0.6)
    clock.advance(1)
    target = only(router, "w0")
    assert (target.waiting, target.running, target.kv_usage) == (3, 9, 0.6)
    assert target.load_age == pytest.approx(1)
    for bad in (-0.1, 1.1, float("nan")):
        with pytest.raises(kvroute.InvalidArgument, match="^kv_usage: expected a share"):
            router.update_load("w0", kv_usage=bad)
    with pytest.raises(kvroute.InvalidArgument, match="^waiting: expected"):
        router.update_load("w0", waiting=-1)
    with pytest.raises(kvroute.UnknownWorker, match="^dp_rank: expected 0 to 0"):
        router.update_load("w0", dp_rank=1, waiting=1)


def test_round_robin_and_random_have_no_cost() -> None:
    for policy in ("round_robin", "random"):
        router = kvroute.KvRouter(16, policy=policy)
        router.add_worker("w")
        assert router.select_worker(PROMPT).cost is None


def test_threads_share_a_router() -> None:
    router = kvroute.KvRouter(16, seed=1)
    for worker in range(8):
        router.add_worker(worker)
    errors: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for i in range(200):
                prompt = array("I", [seed % 3] * 64 + [seed, i] * 16)
                with router.reserve(prompt) as reservation:
                    reservation.first_token()
                    router.select_worker(prompt)
                    reservation.progress(i)
                if i % 50 == 0:
                    router.stats()
                    router.explain(prompt)
                    router.add_worker(f"{seed}-{i}")
                    router.remove_worker(f"{seed}-{i}")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    stats = router.stats()
    assert stats.reservations == 0
    assert all(t.active_blocks == t.active_prefill_tokens == 0 for t in stats.targets)


def test_the_room_that_an_engine_reports_counts_where_none_was_given(
    clock: kvroute.VirtualClock,
) -> None:
    router = kvroute.KvRouter(16, policy="kv_delay", seed=7, clock=clock)
    router.add_worker("told", dp_ranks=2)
    router.add_worker("given", total_blocks=500, block_size=32)

    def room() -> dict[tuple[Any, int], int | None]:
        return {(t.worker, t.dp_rank): t.total_blocks for t in router.stats().targets}

    assert room() == {("told", 0): None, ("told", 1): None, ("given", 0): 500}
    router.update_load("told", 1, kv_tokens=1_000 * 16 + 15)
    router.update_load("given", kv_tokens=1 << 20)
    router.update_load("told", waiting=1)
    assert room() == {("told", 0): None, ("told", 1): 1_000, ("given", 0): 500}
    router.update_load("told", 1, kv_tokens=7)  # less than a block: nothing that could be meant
    assert room()["told", 1] == 1_000
    router.update_load("told", 1, kv_tokens=640)
    assert room()["told", 1] == 40
    router.remove_worker("told")
    router.add_worker("told", dp_ranks=2)
    assert room()["told", 1] is None


def test_reported_room_is_waited_for(clock: kvroute.VirtualClock) -> None:
    router = kvroute.KvRouter(16, policy="kv_delay", seed=7, clock=clock)
    for worker in ("small", "large"):
        router.add_worker(worker)
    with router.reserve([1] * 16, allowed=["large"]) as reservation:
        reservation.first_token()
        clock.advance(5)  # the time that decoding takes
    router.update_load("small", kv_tokens=50 * 16)
    router.update_load("large", kv_tokens=10_000 * 16)
    terms = {t.worker: t.terms for t in router.explain(list(range(1_600))).targets}
    assert terms["small"]["room_seconds"] == pytest.approx(5 * (100 / 50 - 0.8))
    assert terms["large"]["room_seconds"] == 0

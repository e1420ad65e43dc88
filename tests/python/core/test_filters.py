"""Who may be chosen: every filter, and the reason that `explain` gives."""

from __future__ import annotations

from typing import Any

import kvroute
import pytest

PROMPT = list(range(160))


@pytest.fixture
def fleet(clock: kvroute.VirtualClock) -> kvroute.KvRouter:
    """Four workers of two ranks: two zones, two models, and one without labels."""
    router = kvroute.KvRouter(block_size=16, seed=7, clock=clock)
    router.add_worker("a", dp_ranks=2, labels={"zone": "east", "model": "llama"})
    router.add_worker("b", dp_ranks=2, labels={"zone": "west", "model": "llama"})
    router.add_worker("c", dp_ranks=2, labels={"zone": "west", "model": "qwen"})
    router.add_worker("d", dp_ranks=2)
    return router


def eligible(router: kvroute.KvRouter, **arguments: Any) -> str:
    """Eligible targets, as "a0 a1"; what is chosen is always one of them."""
    explanation = router.explain(PROMPT, **arguments)
    names = sorted(f"{t.worker}{t.dp_rank}" for t in explanation.targets if t.eligible)
    assert len(explanation.targets) == 8
    if names:
        chosen = {router.select_worker(PROMPT, **arguments) for _ in range(30)}
        assert {f"{c.worker}{c.dp_rank}" for c in chosen} <= set(names)
        with router.reserve(PROMPT, **arguments) as reservation:
            assert f"{reservation.choice.worker}{reservation.choice.dp_rank}" in names
    else:
        with pytest.raises(kvroute.NoEligibleWorker):
            router.select_worker(PROMPT, **arguments)
    return " ".join(names)


def reasons(router: kvroute.KvRouter, **arguments: Any) -> dict[str, str]:
    targets = router.explain(PROMPT, **arguments).targets
    return {f"{t.worker}{t.dp_rank}": t.reason for t in targets if not t.eligible}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, "a0 a1 b0 b1 c0 c1 d0 d1"),
        ({"allowed": ["a", ("c", 1)]}, "a0 a1 c1"),
        ({"pinned": "c"}, "c0 c1"),
        ({"pinned": ("b", 1)}, "b1"),
        ({"pinned": ("b", 1), "allowed": ["a"]}, ""),
        ({"dp_ranks": range(1, 2)}, "a1 b1 c1 d1"),
        ({"dp_ranks": range(7)}, "a0 a1 b0 b1 c0 c1 d0 d1"),
        ({"dp_ranks": range(2, 7)}, ""),
        ({"labels": {"zone": "west"}}, "b0 b1 c0 c1"),
        ({"labels": {"zone": "west", "model": "qwen"}}, "c0 c1"),
        ({"labels": {"zone": "north"}}, ""),
        ({"labels": {}}, "a0 a1 b0 b1 c0 c1 d0 d1"),
        ({"model": "llama"}, "a0 a1 b0 b1 d0 d1"),
        ({"model": "mixtral"}, "d0 d1"),
        ({"model": "llama", "labels": {"zone": "west"}, "dp_ranks": range(1)}, "b0"),
    ],
)
def test_a_request_says_who_may_serve_it(
    fleet: kvroute.KvRouter, arguments: dict[str, Any], expected: str
) -> None:
    assert eligible(fleet, **arguments) == expected


def test_the_first_filter_that_excludes_a_target_is_its_reason(fleet: kvroute.KvRouter) -> None:
    fleet.set_draining("b")
    why = reasons(
        fleet, allowed=["a", "b", "c"], dp_ranks=range(1), labels={"zone": "west"}, model="llama"
    )
    assert why == {
        "a0": "without a required label",
        "a1": "not in dp_ranks",
        "b0": "draining",
        "b1": "not in dp_ranks",
        "c0": "serves another model",
        "c1": "not in dp_ranks",
        "d0": "not in allowed",
        "d1": "not in allowed",
    }
    with pytest.raises(kvroute.NoEligibleWorker, match="among 8 targets: .* 1 draining"):
        fleet.reserve(
            PROMPT,
            allowed=["a", "b", "c"],
            dp_ranks=range(1),
            labels={"zone": "west"},
            model="llama",
        )
    assert fleet.stats().reservations == 0


def test_a_draining_worker_is_not_chosen_until_it_takes_part_again(
    fleet: kvroute.KvRouter,
) -> None:
    running = fleet.reserve(PROMPT, allowed=["a"])
    fleet.set_draining("a")
    assert eligible(fleet) == "b0 b1 c0 c1 d0 d1"
    assert reasons(fleet) == {"a0": "draining", "a1": "draining"}
    assert [t.draining for t in fleet.stats().targets] == [True] * 2 + [False] * 6
    running.first_token()
    running.release()
    fleet.set_draining("a", False)
    assert eligible(fleet) == "a0 a1 b0 b1 c0 c1 d0 d1"


def test_a_worker_that_returns_does_not_drain(fleet: kvroute.KvRouter) -> None:
    fleet.set_draining("d")
    fleet.remove_worker("d")
    fleet.add_worker("d", dp_ranks=2)
    assert eligible(fleet, allowed=["d"]) == "d0 d1"


def test_a_lora_draws_its_requests_while_somebody_eligible_has_it(
    fleet: kvroute.KvRouter,
) -> None:
    everybody = "a0 a1 b0 b1 c0 c1 d0 d1"
    fleet.set_loras("a", ["sql", "chat"])
    fleet.set_loras("b", ["sql"])
    assert eligible(fleet) == everybody
    assert eligible(fleet, lora="sql") == "a0 a1 b0 b1"
    assert reasons(fleet, lora="chat")["b0"] == "others have the LoRA resident"
    assert eligible(fleet, lora="unknown") == everybody
    assert eligible(fleet, lora="chat", allowed=["c", "d"]) == "c0 c1 d0 d1"
    fleet.set_draining("a")
    assert eligible(fleet, lora="chat") == "b0 b1 c0 c1 d0 d1"
    fleet.set_loras("b", ["chat"])
    assert eligible(fleet, lora="chat") == "b0 b1"
    assert eligible(fleet, lora="sql") == "b0 b1 c0 c1 d0 d1"
    fleet.remove_worker("b")
    fleet.add_worker("b", dp_ranks=2)
    assert eligible(fleet, lora="chat") == "b0 b1 c0 c1 d0 d1"


def test_preferred_labels_favour_and_do_not_exclude(fleet: kvroute.KvRouter) -> None:
    assert eligible(fleet, preferred_labels={"zone": "west"}) == "a0 a1 b0 b1 c0 c1 d0 d1"
    for _ in range(20):
        choice = fleet.select_worker(
            [7] * 160, preferred_labels={"zone": ("west", 0.5), "model": ("qwen", 0.5)}
        )
        assert choice.worker == "c"


@pytest.fixture
def limited(clock: kvroute.VirtualClock) -> kvroute.KvRouter:
    router = kvroute.KvRouter(
        16, seed=7, clock=clock, max_waiting=4, max_kv_usage=0.9, max_prefill_tokens=200
    )
    for worker in ("a", "b", "c"):
        router.add_worker(worker)
    return router


def test_a_target_beyond_a_limit_is_vetoed(limited: kvroute.KvRouter) -> None:
    limited.update_load("a", waiting=4, kv_usage=0.9)
    assert reasons(limited) == {}
    limited.update_load("a", waiting=5)
    limited.update_load("b", kv_usage=0.95)
    assert reasons(limited) == {"a0": "overloaded: waiting", "b0": "overloaded: kv_usage"}
    assert limited.select_worker(PROMPT).worker == "c"


def test_a_veto_ends_with_its_report(
    limited: kvroute.KvRouter, clock: kvroute.VirtualClock
) -> None:
    limited.update_load("a", waiting=5)
    clock.advance(59)
    assert set(reasons(limited)) == {"a0"}
    clock.advance(2)
    assert reasons(limited) == {}


def test_a_burst_between_two_reports_stops_at_the_limit(clock: kvroute.VirtualClock) -> None:
    router = kvroute.KvRouter(16, seed=7, clock=clock, max_waiting=8)
    for worker in ("a", "b"):
        router.add_worker(worker)
        router.update_load(worker, waiting=0)
    burst: list[kvroute.Reservation] = []
    refused = 0
    for number in range(64):
        try:
            burst.append(router.reserve([number] * 160))
        except kvroute.Overloaded:
            refused += 1
    # Beyond the limit, not at it: nine each.
    assert [sum(r.choice.worker == w for r in burst) for w in ("a", "b")] == [9, 9]
    assert refused == 64 - 18
    of_a = [reservation for reservation in burst if reservation.choice.worker == "a"]
    of_a[0].first_token()  # it waits no more
    burst.append(router.reserve(PROMPT))
    of_a[1].release()
    burst.append(router.reserve(PROMPT))
    assert [reservation.choice.worker for reservation in burst[-2:]] == ["a", "a"]
    router.update_load("b", waiting=3)  # of nine: the others run
    burst += [router.reserve(PROMPT) for _ in range(6)]
    assert [reservation.choice.worker for reservation in burst[-6:]] == ["b"] * 6
    with pytest.raises(kvroute.Overloaded):
        router.reserve(PROMPT)


def test_when_all_are_overloaded_it_is_said_and_passes(limited: kvroute.KvRouter) -> None:
    reservations = [limited.reserve([n, *range(220)], allowed=[w]) for n, w in enumerate("abc")]
    with pytest.raises(kvroute.Overloaded, match="^overloaded: ") as refused:
        limited.reserve(PROMPT)
    assert isinstance(refused.value, kvroute.NoEligibleWorker)
    assert set(reasons(limited).values()) == {"overloaded: prefill_tokens"}
    assert limited.stats().reservations == 3
    reservations[1].first_token()
    assert limited.select_worker(PROMPT).worker == "b"
    with pytest.raises(kvroute.Overloaded):
        limited.select_worker(PROMPT, allowed=["a"])
    limited.set_draining("b")
    with pytest.raises(kvroute.Overloaded):
        limited.select_worker(PROMPT)


def test_an_allowed_set_follows_membership(fleet: kvroute.KvRouter) -> None:
    allowed = fleet.allowed_set(["a", ("c", 1)])
    assert len(allowed) == 2
    assert eligible(fleet, allowed=allowed) == "a0 a1 c1"
    fleet.add_worker("e")
    fleet.remove_worker("e")
    assert eligible(fleet, allowed=allowed) == "a0 a1 c1"
    fleet.remove_worker("a")
    names = {t.worker for t in fleet.explain(PROMPT, allowed).targets if t.eligible}
    assert names == {"c"}
    fleet.add_worker("a")
    names = {t.worker for t in fleet.explain(PROMPT, allowed).targets if t.eligible}
    assert names == {"a", "c"}
    for worker in ("a", "c"):
        fleet.remove_worker(worker)
    with pytest.raises(kvroute.NoEligibleWorker):
        fleet.select_worker(PROMPT, allowed)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"allowed": []}, ValueError, "allowed: expected None or at least one worker"),
        ({"pinned": "nobody"}, KeyError, "pinned: expected the name of a worker"),
        ({"pinned": ("a", 2)}, KeyError, "pinned: expected a rank from 0 to 1"),
        ({"pinned": 1.5}, ValueError, "pinned: expected a str or an int"),
        ({"dp_ranks": (0, 1)}, ValueError, "dp_ranks: expected None or a range"),
        ({"dp_ranks": range(0)}, ValueError, "dp_ranks: expected None or a range"),
        ({"dp_ranks": range(0, 4, 2)}, ValueError, "dp_ranks: expected None or a range"),
        ({"dp_ranks": range(-1, 4)}, ValueError, "dp_ranks: expected an integer from 0"),
        ({"labels": ["zone"]}, ValueError, "labels: expected None or a mapping"),
        ({"labels": {"zone": 1}}, ValueError, "labels: expected None or a str"),
        ({"preferred_labels": {"zone": ("a", float("nan"))}}, ValueError, "preferred_labels: "),
        ({"preferred_labels": {"zone": 1}}, ValueError, "preferred_labels: expected None or a str"),
        ({"model": 1}, ValueError, "model: expected None or a str"),
        ({"overlap_credit": 2}, ValueError, "overlap_credit: expected None or a number from 0"),
        ({"temperature": -1}, ValueError, "temperature: expected None or a number from 0"),
    ],
)
def test_malformed_filters_are_refused_by_name(
    fleet: kvroute.KvRouter, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    for call in (fleet.select_worker, fleet.reserve, fleet.explain):
        with pytest.raises(error, match=message):
            call(PROMPT, **arguments)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: r.set_draining("nobody"), "worker: expected the name of a worker"),
        (lambda r: r.set_draining("a", 1), "draining: expected a bool, got the int 1"),
        (lambda r: r.set_loras("nobody", []), "worker: expected the name of a worker"),
        (lambda r: r.set_loras("a", "sql"), "loras: expected a sequence of strs"),
        (lambda r: r.set_loras("a", ["sql", 3]), r"loras\[1\]: expected None or a str"),
        (lambda r: r.allowed_set([]), "allowed: expected at least one worker"),
        (lambda r: r.allowed_set(["nobody"]), "allowed: expected the name of a worker"),
        (lambda _: kvroute.KvRouter(16, max_kv_usage=2), "max_kv_usage: expected a number"),
        (lambda _: kvroute.KvRouter(16, max_waiting=-1), "max_waiting: expected an integer"),
        (
            lambda _: kvroute.KvRouter(16, prefill_tokens_per_second=0),
            "prefill_tokens_per_second: expected",
        ),
    ],
)
def test_malformed_settings_are_refused_by_name(
    fleet: kvroute.KvRouter, call: Any, message: str
) -> None:
    with pytest.raises(kvroute.KvRouteError, match=message):
        call(fleet)

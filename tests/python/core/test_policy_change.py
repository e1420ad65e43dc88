"""Another policy between two requests, and what a request asks of its policy."""

from __future__ import annotations

import threading
from array import array
from typing import Any

import kvroute
import pytest

PROMPT = list(range(160))


def test_index_and_load_outlive_a_change_of_policy(router: kvroute.KvRouter) -> None:
    running = router.reserve(PROMPT, allowed=["w1"])
    router.set_policy("round_robin")
    assert router.policy == "round_robin"
    assert [router.select_worker(PROMPT).worker for _ in range(4)] == ["w0", "w1", "w2", "w0"]
    router.set_policy({"name": "kv_cost", "prefill_scale": 3})
    assert router.policy_spec == {"name": "kv_cost", "prefill_scale": 3}
    running.first_token()
    choice = router.select_worker(PROMPT)
    assert (choice.worker, choice.cached_tokens) == ("w1", 160)
    assert router.stats().reservations == 1


def test_turns_begin_anew_with_the_policy(router: kvroute.KvRouter) -> None:
    router.set_policy("round_robin")
    assert router.select_worker(PROMPT).worker == "w0"
    router.set_policy("round_robin")
    assert router.select_worker(PROMPT).worker == "w0"


def test_a_fallback_stays_until_another_one_is_named() -> None:
    class Fails:
        def score(self, features: kvroute.Features) -> list[float]:
            raise RuntimeError(len(features))

    def fallback() -> Any:
        return router.policy_spec["fallback"]["name"]

    router = kvroute.KvRouter(16, Fails(), fallback_policy="round_robin")
    router.set_policy(Fails())
    assert fallback() == "round_robin"
    router.set_policy("kv_delay")
    router.set_policy(Fails())
    assert fallback() == "round_robin"
    router.set_policy("kv_delay", fallback_policy="least_load")
    router.set_policy(Fails())
    assert fallback() == "least_load"
    for wrong in ("nope", {"name": "kv_cost", "temperature": -1}):
        with pytest.raises(kvroute.InvalidArgument, match="policy"):
            router.set_policy("kv_delay", fallback_policy=wrong)
    assert (router.policy, fallback()) == ("python", "least_load")


@pytest.mark.parametrize("policy", ["nope", {"name": "kv_cost", "temperature": -1}, 3, {}])
def test_an_invalid_policy_changes_nothing(router: kvroute.KvRouter, policy: Any) -> None:
    router.set_policy({"name": "kv_cost", "request_weight": 2})
    with pytest.raises(kvroute.InvalidArgument, match="^policy"):
        router.set_policy(policy)
    assert router.policy_spec == {"name": "kv_cost", "request_weight": 2}


def test_a_closed_router_takes_no_policy(router: kvroute.KvRouter) -> None:
    router.close()
    with pytest.raises(kvroute.InvalidArgument, match="closed"):
        router.set_policy("random")


def test_a_choice_names_the_rule_that_decided(router: kvroute.KvRouter) -> None:
    assert router.select_worker(PROMPT).rule == "kv_cost"
    assert router.explain(PROMPT).rule == "kv_cost"
    router.set_policy("roundrobin")
    assert router.select_worker(PROMPT).rule == "round_robin"


def test_a_policy_that_ignores_the_prompt_books_its_uncached_tokens(
    router: kvroute.KvRouter,
) -> None:
    router.reserve(PROMPT, allowed=["w0"]).release()
    router.set_policy("round_robin")
    choice = router.select_worker(PROMPT)
    assert (choice.worker, choice.cached_tokens, choice.prefill_tokens) == ("w0", 0, 160)
    reservation = router.reserve(PROMPT, allowed=["w0"])
    assert (reservation.choice.cached_tokens, reservation.choice.prefill_tokens) == (160, 0)
    cached = {target.worker: target.cached_tokens for target in router.explain(PROMPT).targets}
    assert cached == {"w0": 160, "w1": 0, "w2": 0}


def test_a_request_overrides_the_policys_parameters(router: kvroute.KvRouter) -> None:
    router.reserve(PROMPT, allowed=["w0"]).release()
    assert router.select_worker(PROMPT).cost == 10
    assert router.select_worker(PROMPT, prefill_scale=0.0, allowed=["w1"]).cost == 10
    costs = {t.worker: t.cost for t in router.explain(PROMPT, overlap_credit=0.5).targets}
    assert costs == {"w0": 15, "w1": 20, "w2": 20}
    untracked = {"track_prefill_tokens": False, "allowed": ["w0"]}
    assert router.select_worker(PROMPT, **untracked).cost == 10
    with router.reserve(PROMPT, allowed=["w0"]):
        assert router.select_worker(PROMPT, **untracked).cost == 10
        assert router.select_worker(PROMPT, assume_kv_reuse=False, **untracked).cost == 20
    hashes = kvroute.hash_blocks(PROMPT, 16)
    assert router.select_worker_by_hashes(hashes, 160, **untracked).cost == 10
    figures: dict[str, Any] = {"held": 10, "active": 10, "prompt_blocks": 10}
    costs_stated = [
        kvroute.score("kv_cost", [figures], num_tokens=160, assume_kv_reuse=reuse)
        for reuse in (None, True, False)
    ]
    assert costs_stated == [[10], [10], [20]]
    chosen = {router.select_worker(PROMPT, temperature=5.0).worker for _ in range(100)}
    assert chosen == {"w0", "w1", "w2"}


def test_decisions_go_on_while_policy_and_draining_change(router: kvroute.KvRouter) -> None:
    stop = threading.Event()
    failures: list[BaseException] = []

    def decide() -> None:
        try:
            while not stop.is_set():
                with router.reserve(PROMPT) as reservation:
                    assert reservation.choice.worker in {"w0", "w1", "w2"}
                    router.explain(PROMPT)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=decide) for _ in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(150):
        router.set_policy(("kv_cost", "round_robin", "standalone")[turn % 3])
        router.set_draining(f"w{turn % 3}", turn % 2 == 0)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    stats = router.stats()
    assert stats.reservations == 0
    assert sum(t.active_requests + t.active_blocks for t in stats.targets) == 0


class EqualCosts:
    """A policy of Python."""

    def score(self, features: kvroute.Features) -> list[float]:
        return [0.0] * len(features.requests)


def test_changes_at_once_leave_one_of_them_whole(router: kvroute.KvRouter) -> None:
    """A policy of Python and its fallback come and go together."""
    whole = ({"name": "python", "fallback": {"name": "random"}}, {"name": "round_robin"})
    router.set_policy("round_robin")
    long_prompt = array("I", range(200_000))
    stop = threading.Event()
    mixed: list[Any] = []

    def look() -> None:
        while not stop.is_set():
            spec = router.policy_spec
            if spec not in whole:
                mixed.append(spec)

    def decide() -> None:  # changes wait for it
        while not stop.is_set():
            router.overlaps(long_prompt)

    def change(policy: Any) -> None:
        for _ in range(6_000):
            router.set_policy(policy, fallback_policy="random")

    beside = [threading.Thread(target=look), threading.Thread(target=decide)]
    changing = [
        threading.Thread(target=change, args=(policy,)) for policy in (EqualCosts(), "round_robin")
    ]
    for thread in (*beside, *changing):
        thread.start()
    for thread in changing:
        thread.join()
    stop.set()
    for thread in beside:
        thread.join()
    assert mixed == []
    assert router.policy_spec in whole

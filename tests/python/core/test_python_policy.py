"""Policies written in Python: what they see, what they decide, and what happens when they fail."""

from __future__ import annotations

import logging
import math
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import kvroute
import numpy as np
import pytest
from engine_events import EventPublisher, eventually, stored

PROMPT = list(range(160))

Score = Callable[[kvroute.Features], Any]


class Own:
    """A policy from a function; keeps what it was shown."""

    def __init__(self, score: Score, **attributes: Any) -> None:
        self._score = score
        self.seen: list[kvroute.Features] = []
        vars(self).update(attributes)

    def score(self, features: kvroute.Features) -> Any:
        self.seen.append(features)
        return self._score(features)


def uncached(features: kvroute.Features) -> Any:
    return features.uncached_tokens


def test_a_policy_in_python_decides(router: kvroute.KvRouter) -> None:
    router.reserve(PROMPT, allowed=["w1"]).release()
    policy = Own(uncached)
    router.set_policy(policy)
    assert (router.policy, router.policy_spec["name"]) == ("python", "python")
    choice = router.select_worker([*PROMPT, 7])
    assert (choice.worker, choice.cost, choice.rule) == ("w1", 1.0, "given")
    with router.reserve(PROMPT) as reservation:
        assert reservation.choice.worker == "w1"
        assert router.stats().reservations == 1
    assert len(policy.seen) == 2
    assert router.stats().policy_fallbacks == 0


def test_features_say_what_is_known(clock: kvroute.VirtualClock) -> None:
    policy = Own(lambda features: np.zeros(len(features)))
    router = kvroute.KvRouter(16, policy, clock=clock, prefill_tokens_per_second=100.0)
    router.add_worker("a", total_blocks=1000, labels={"zone": "east"})
    router.add_worker("b", dp_ranks=2)
    held = router.reserve(PROMPT, allowed=["a"])
    router.update_load("b", 1, waiting=3, kv_usage=0.5)
    clock.advance(2.0)
    router.select_worker(
        PROMPT,
        preferred_labels={"zone": ("east", 2.5)},
        session_id="chat",
        expected_output_tokens=40,
    )
    features = policy.seen[-1]
    assert features.targets == [("a", 0), ("b", 0), ("b", 1)]
    assert (len(features), features.num_tokens) == (3, 160)
    assert features.held.tolist() == [10, 0, 0]
    assert features.active.tolist() == [10, 0, 0]
    assert features.cached_tokens.tolist() == [160, 0, 0]
    assert features.uncached_tokens.tolist() == [0, 160, 160]
    assert features.prefill_seconds == pytest.approx([0, 1.6, 1.6], rel=1e-3)
    assert features.prefill_tokens.tolist() == [160, 0, 0]
    assert features.active_blocks.tolist() == [10, 0, 0]
    assert features.requests.tolist() == [1, 0, 0]
    assert features.block_size.tolist() == [16, 16, 16]
    assert features.preference.tolist() == [2.5, 0, 0]
    assert features.host.tolist() == features.external.tolist() == [10, 0, 0]
    assert features.confidence.tolist() == [0.25] * 3
    assert features.backlog_seconds == pytest.approx([1.6, 0, 0], rel=1e-3)
    assert features.backlog_left_seconds.tolist() == [0, 0, 0], "computed in these two seconds"
    assert features.mean_prefill_seconds[0] == pytest.approx(1.6, rel=1e-3)
    assert features.arrival_seconds.tolist() == [math.inf] * 3
    assert features.router_block_size == 16
    assert (features.session_id, features.expected_output_tokens) == ("chat", 40)
    assert features.fleet["targets"] == 3
    assert features.fleet["prefill_tokens_per_second"] == 100
    assert features.fleet["prefill_scale"] == 1
    assert features.recent_requests[0] == pytest.approx(math.exp(-2 / 30))
    for name, expected in [
        ("total_blocks", [1000, math.nan, math.nan]),
        ("waiting", [math.nan, math.nan, 3]),
        ("running", [math.nan] * 3),
        ("kv_usage", [math.nan, math.nan, 0.5]),
        ("report_age", [math.nan, math.nan, 2.0]),
        ("prefill_scale", [1.0] * 3),
        ("unreported", [1.0, 0.0, 0.0]),
        ("unfinished", [1.0, 0.0, 0.0]),
        ("first_token_seconds", [math.nan] * 3),
    ]:
        np.testing.assert_array_equal(getattr(features, name), expected, err_msg=name)
    assert all(getattr(features, name).shape == (3,) for name in features.names)
    with pytest.raises(AttributeError, match="no 'colour'; it has held, "):
        _ = features.colour  # type: ignore[attr-defined]  # what a typing mistake gives
    with pytest.raises(ValueError, match="read-only"):
        features.held[0] = 1
    held.first_token()
    held.release()
    router.select_worker(PROMPT)
    features = policy.seen[-1]
    assert features.prefill_scale[0] == pytest.approx(2 / 1.6, rel=1e-3)
    assert features.first_token_seconds[0] == 2
    assert (features.session_id, features.expected_output_tokens) == (None, None)


def test_confidence_falls_with_the_events(clock: kvroute.VirtualClock) -> None:
    policy = Own(lambda features: np.zeros(len(features)))

    def confidence() -> list[float]:
        router.select_worker(PROMPT)
        levels: list[float] = policy.seen[-1].confidence.tolist()
        return levels

    with (
        EventPublisher() as exact,
        EventPublisher() as partial,
        kvroute.KvRouter(16, policy, clock=clock) as router,
    ):
        partial.lose(stored([1], PROMPT[:16]))
        router.add_worker("exact", kv_events=exact.events, kv_replay=exact.replay)
        router.add_worker("partial", kv_events=partial.events)  # its past cannot be had
        router.add_worker("silent", kv_events="tcp://127.0.0.1:9")
        router.add_worker("without")
        eventually(lambda: router.stats().targets[1].events["connected"] == 1, "connected")

        def are_levels() -> bool:
            partial.publish(stored([2], PROMPT[16:32], parent=1))  # until it subscribes
            return confidence() == [1, 0.5, 0.5, 0.25]

        eventually(are_levels, "levels")


def test_features_outlive_their_decision(router: kvroute.KvRouter) -> None:
    policy = Own(uncached)
    router.set_policy(policy)
    router.select_worker(PROMPT)
    kept = policy.seen.pop().uncached_tokens
    router.remove_worker("w0")
    router.close()
    assert kept.tolist() == [160, 160, 160]


def test_filters_apply_before_and_ties_spread_after(router: kvroute.KvRouter) -> None:
    policy = Own(lambda features: [0] * len(features))
    router.set_policy(policy)
    router.set_draining("w2")
    assert {router.select_worker(PROMPT).worker for _ in range(40)} == {"w0", "w1"}
    assert {len(features) for features in policy.seen} == {2}
    router.set_draining("w1")
    router.set_draining("w0")
    with pytest.raises(kvroute.NoEligibleWorker):
        router.select_worker(PROMPT)


def test_the_policys_temperature_and_the_requests_count(router: kvroute.KvRouter) -> None:
    def chosen(**arguments: Any) -> set[object]:
        return {router.select_worker(PROMPT, **arguments).worker for _ in range(60)}

    router.set_policy(Own(lambda _: [0, 1, 2], temperature=5.0))
    assert chosen() == {"w0", "w1", "w2"}
    assert chosen(temperature=0.0) == {"w0"}
    router.set_policy(Own(lambda _: [0, 1, 2], sample=1))
    assert chosen() == {"w0", "w1", "w2"}
    with pytest.raises(kvroute.InvalidArgument, match="policy.temperature: expected a number"):
        router.set_policy(Own(uncached, temperature=-1))
    with pytest.raises(kvroute.InvalidArgument, match="policy.sample: expected an integer"):
        router.set_policy(Own(uncached, sample="two"))


def fails(_: kvroute.Features) -> Any:
    raise RuntimeError("on purpose")


@pytest.mark.parametrize(
    "score",
    [
        fails,
        lambda features: [0.0] * (len(features) + 1),
        lambda _: 0.0,
        lambda features: np.zeros((len(features), 1)),
        lambda features: [math.nan] * len(features),
        lambda features: ["a"] * len(features),
        lambda _: None,
    ],
)
def test_a_failing_policy_never_loses_a_request(
    clock: kvroute.VirtualClock, score: Score, caplog: pytest.LogCaptureFixture
) -> None:
    router = kvroute.KvRouter(16, Own(score), clock=clock, fallback_policy="round_robin")
    for worker in ("w0", "w1"):
        router.add_worker(worker)
    with caplog.at_level(logging.WARNING, logger="kvroute"):
        choices = [router.select_worker(PROMPT) for _ in range(3)]
        with router.reserve(PROMPT) as reservation:
            choices.append(reservation.choice)
    assert [choice.worker for choice in choices] == ["w0", "w1", "w0", "w1"]
    assert {choice.rule for choice in choices} == {"round_robin"}
    assert router.stats().policy_fallbacks == 4
    assert router.policy_spec == {"name": "python", "fallback": {"name": "round_robin"}}
    assert [record.name for record in caplog.records] == ["kvroute"]


def test_an_interruption_is_not_swallowed(router: kvroute.KvRouter) -> None:
    def interrupted(_: kvroute.Features) -> Any:
        raise KeyboardInterrupt

    router.set_policy(Own(interrupted))
    with pytest.raises(KeyboardInterrupt):
        router.reserve(PROMPT)
    assert router.stats().reservations == 0


def test_targets_may_come_and_go_while_the_policy_thinks(router: kvroute.KvRouter) -> None:
    def leaving(_: kvroute.Features) -> Any:
        router.remove_worker("w0")
        router.add_worker("w9")  # takes the slot
        return [-5.0, 1.0, 2.0]

    router.set_policy(Own(leaving))
    choice = router.select_worker(PROMPT)
    assert (choice.worker, choice.cost) == ("w1", 1.0)

    def all_leave(features: kvroute.Features) -> Any:
        for worker, _ in features.targets:
            router.remove_worker(worker)
        router.add_worker("new")
        return [0.0] * len(features)

    router.set_policy(Own(all_leave))
    assert router.select_worker(PROMPT).worker == "new"
    assert router.stats().policy_fallbacks == 1


def test_the_policy_may_ask_the_router(router: kvroute.KvRouter) -> None:
    def asking(features: kvroute.Features) -> Any:
        return [router.stats().selections] * len(features)

    router.set_policy(Own(asking))
    assert [router.select_worker(PROMPT).cost for _ in range(3)] == [0, 1, 2]


def test_explanations_show_the_given_costs(router: kvroute.KvRouter) -> None:
    router.set_policy(Own(lambda _: [3.0, 1.0, 2.0]))
    explanation = router.explain(PROMPT)
    assert explanation.rule == "given"
    assert [(t.worker, t.cost) for t in explanation.targets] == [
        ("w1", 1.0),
        ("w2", 2.0),
        ("w0", 3.0),
    ]
    for worker in ("w0", "w1", "w2"):
        router.set_draining(worker)
    assert all(not t.eligible for t in router.explain(PROMPT).targets)


def test_several_threads_decide_by_one_policy(router: kvroute.KvRouter) -> None:
    policy = Own(uncached)
    router.set_policy(policy)

    def decide() -> None:
        for _ in range(100):
            router.reserve(PROMPT).release()

    threads = [threading.Thread(target=decide) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        router.set_policy("kv_cost")
        router.set_policy(policy)
    for thread in threads:
        thread.join()
    stats = router.stats()
    assert (stats.reservations, stats.selections, stats.policy_fallbacks) == (0, 400, 0)


def test_without_numpy_it_is_said_what_is_missing() -> None:
    code = """
import sys
sys.modules["numpy"] = None
import kvroute
class Policy:
    def score(self, features): ...
try:
    kvroute.KvRouter(16, Policy())
except ImportError as error:
    print(error)
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout == "a policy written in Python needs NumPy: install numpy\n"

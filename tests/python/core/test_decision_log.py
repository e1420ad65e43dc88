"""`recent_decisions`: what the last decisions rested on."""

from __future__ import annotations

import random
from typing import Any

import kvroute
import pytest

PROMPT = list(range(160))


def logged(clock: kvroute.VirtualClock, decisions: int, **options: Any) -> kvroute.KvRouter:
    router = kvroute.KvRouter(16, seed=7, clock=clock, decision_log=decisions, **options)
    for worker in ("w0", "w1", "w2"):
        router.add_worker(worker)
    return router


def contents(explanation: kvroute.Explanation) -> Any:
    return (
        explanation.policy,
        explanation.rule,
        explanation.num_tokens,
        [
            (t.worker, t.dp_rank, t.eligible, t.reason, t.cost, t.cached_tokens, t.terms)
            for t in explanation.targets
        ],
    )


def test_nothing_is_kept_by_default(router: kvroute.KvRouter) -> None:
    router.select_worker(PROMPT)
    assert router.recent_decisions() == []


def test_a_decision_is_kept_with_its_circumstances(clock: kvroute.VirtualClock) -> None:
    router = logged(clock, 10)
    clock.advance(1.5)
    router.select_worker(PROMPT)
    clock.advance(1)
    with router.reserve(PROMPT, request_id="r1", allowed=["w1"]):
        pass
    first, second = router.recent_decisions()
    assert (first.time, first.request_id) == (1.5, None)
    assert (second.time, second.request_id, second.worker, second.dp_rank) == (2.5, "r1", "w1", 0)
    assert [t.eligible for t in second.explanation.targets] == [True, False, False]
    assert second.explanation.targets[1].reason == "not in allowed"
    assert "policy kv_cost" in second.explanation.text


@pytest.mark.parametrize("policy", ["kv_cost", "standalone", "kv_delay", "round_robin"])
def test_it_tells_what_explain_told_before_the_decision(
    clock: kvroute.VirtualClock, policy: str
) -> None:
    router = logged(clock, 60, policy=policy, max_waiting=60)
    choices = random.Random(3)
    expected: list[Any] = []
    running: list[kvroute.Reservation] = []
    for number in range(200):
        prompt = list(range(choices.randrange(16, 200)))
        arguments: dict[str, Any] = {"session_id": str(number % 4)}
        if choices.random() < 0.3:
            arguments["allowed"] = ["w0", "w2"]
        expected.append(contents(router.explain(prompt, **arguments)))
        running.append(router.reserve(prompt, **arguments))
        if choices.random() < 0.5:
            running[choices.randrange(len(running))].first_token()
        if choices.random() < 0.5:
            running.pop(choices.randrange(len(running))).release()
        worker = f"w{choices.randrange(3)}"
        router.update_load(worker, waiting=choices.randrange(6), kv_usage=choices.random())
        clock.advance(choices.random())
    decisions = router.recent_decisions(1000)
    assert len(decisions) == 60
    assert [contents(d.explanation) for d in decisions] == expected[-60:]


def test_decisions_keep_the_policy_and_the_names_of_then(clock: kvroute.VirtualClock) -> None:
    router = logged(clock, 10)
    router.reserve(PROMPT, allowed=["w0"]).release()
    router.set_policy("round_robin")
    router.remove_worker("w0")
    router.add_worker("other")  # takes the slot
    router.select_worker(PROMPT)
    first, second = router.recent_decisions()
    assert (first.worker, first.explanation.policy) == ("w0", "kv_cost")
    assert {t.worker for t in first.explanation.targets} == {"w0", "w1", "w2"}
    assert second.explanation.policy == "round_robin"
    assert {t.worker for t in second.explanation.targets} == {"other", "w1", "w2"}


def test_the_limit_gives_the_last_ones(clock: kvroute.VirtualClock) -> None:
    router = logged(clock, 4)
    for number in range(9):
        router.reserve(PROMPT, request_id=f"r{number}").release()
    assert [d.request_id for d in router.recent_decisions(2)] == ["r7", "r8"]
    assert [d.request_id for d in router.recent_decisions()] == ["r5", "r6", "r7", "r8"]
    assert router.recent_decisions(0) == []


def test_it_stays_bounded_where_all_loads_change(clock: kvroute.VirtualClock) -> None:
    router = kvroute.KvRouter(16, clock=clock, decision_log=8)
    for worker in range(40):
        router.add_worker(worker)
    for number in range(20):
        for worker in range(40):
            router.update_load(worker, waiting=number)
        router.select_worker(PROMPT)
    decisions = router.recent_decisions()
    assert 1 <= len(decisions) <= 8
    assert len(decisions[-1].explanation.targets) == 40


@pytest.mark.parametrize("decisions", [-1, 10_001, 1.5])
def test_a_log_of_another_size_is_refused(decisions: Any) -> None:
    with pytest.raises(kvroute.InvalidArgument, match="^decision_log: expected"):
        kvroute.KvRouter(16, decision_log=decisions)

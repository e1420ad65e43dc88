"""One model's engines: who is asked in turn, what roles let them do, what the router knows."""

from __future__ import annotations

from typing import Any

import pytest
from fake_router import FakeRouter
from frontend_harness import FakeEngine, answer, replies, running_frontend
from kvroute.frontend.fleet import Fleet
from kvroute.frontend.model_group import ModelGroup
from kvroute.frontend.protocols import core_router
from kvroute.frontend.settings import Settings

COUNT = 3
LABELLED = {"prefill_model_labels": ["p"], "decode_model_labels": ["d"]}


class Clock:
    """Monotonic seconds that stand still until they are set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def group_of(clock: Clock, **settings: Any) -> ModelGroup:
    urls = [f"http://e{number}:1" for number in range(COUNT)]
    fleet = Fleet(
        Settings(static_backends=urls, static_models=["m"], **settings), FakeRouter, clock
    )
    return fleet.group("m")


def test_engines_in_turn_begin_at_another_one_each_time() -> None:
    group = group_of(Clock())
    firsts = [next(iter(group.in_turn())).url for _ in range(2 * COUNT)]
    assert firsts == list(group.backends) * 2


def test_a_resting_engine_is_left_out_while_another_is_ready() -> None:
    clock = Clock()
    group = group_of(clock, backend_cooldown_seconds=5)
    first, second, third = group.backends.values()
    group.failed(first)
    assert {backend.url for backend in group.in_turn()} == {second.url, third.url}
    clock.now += 5
    assert len(list(group.in_turn())) == COUNT


def test_where_all_that_are_healthy_rest_these_are_asked() -> None:
    group = group_of(Clock(), backend_cooldown_seconds=5)
    first, second, third = group.backends.values()
    for backend in (first, second, third):
        group.failed(backend)
    group.set_healthy(third, False)
    assert {backend.url for backend in group.in_turn()} == {first.url, second.url}


def test_what_workers_hold_that_are_no_engines_here_counts_nothing() -> None:
    group = group_of(Clock())
    assert group.longest_match(range(100), None) == 50
    group.router.add_worker("somebody else's")
    for url in list(group.backends):
        del group.router.workers[url]
    assert group.longest_match(range(100), None) == 0


@pytest.mark.parametrize("logic", ["disaggregated_prefill", "disaggregated_prefill_orchestrated"])
async def test_without_a_decode_worker_the_answer_is_503_and_names_the_role(logic: str) -> None:
    async with (
        FakeEngine(replies(answer())) as engine,
        running_frontend(
            engine.url,
            make_router=core_router,
            routing_logic=logic,
            static_model_labels=["p"],
            **LABELLED,
        ) as frontend,
        frontend.completion({"max_tokens": 5}) as response,
    ):
        assert response.status == 503
        assert "no healthy decode worker" in (await response.json())["error"]["message"]
        assert not engine.requests


async def test_an_answer_that_is_an_error_measures_no_first_token() -> None:
    async with (
        FakeEngine(replies(answer(status="400 Bad Request"))) as engine,
        running_frontend(engine.url) as frontend,
    ):
        async with frontend.completion() as response:
            assert response.status == 400
        assert await frontend.metric("kvroute_time_to_first_token_seconds_count") == 0

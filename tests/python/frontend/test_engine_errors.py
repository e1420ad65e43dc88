"""Engines that answer with errors at once: no measure of speed, no reason to send more."""

from __future__ import annotations

import pytest
from frontend_harness import FakeEngine, answer, replies, running_frontend
from kvroute.frontend.protocols import core_router

FAILED = answer(b"{}", status="500 Internal Server Error")


@pytest.mark.parametrize("policy", ["kv_delay", "kv_cost", "least_load"])
@pytest.mark.parametrize(("cooldown", "most"), [(60, 1), (0, 45)])
async def test_an_engine_that_fails_at_once_does_not_swallow_the_fleet(
    policy: str, cooldown: float, most: int
) -> None:
    async with (
        FakeEngine(replies(FAILED)) as bad,
        FakeEngine(replies(answer())) as first,
        FakeEngine(replies(answer())) as second,
        running_frontend(
            bad.url,
            first.url,
            second.url,
            make_router=core_router,
            routing_logic=policy,
            backend_cooldown_seconds=cooldown,
        ) as frontend,
    ):
        statuses = []
        for number in range(60):
            async with frontend.completion({"prompt": [number] * 64}) as got:
                statuses.append(got.status)
        assert statuses.count(500) == len(bad.requests) <= most


@pytest.mark.parametrize(
    ("status", "rests"),
    [
        ("500 Oops", True),
        ("502 Bad Gateway", True),
        ("503 Service Unavailable", True),
        ("501 Not Implemented", False),
        ("400 Bad Request", False),
        ("429 Too Many Requests", False),
    ],
)
async def test_after_a_failure_an_engine_rests_while_others_answer(
    status: str, rests: bool
) -> None:
    failing = answer(b"{}", status=status, headers={"Retry-After": "1"})
    async with (
        FakeEngine(replies(failing)) as bad,
        FakeEngine(replies(answer())) as good,
        running_frontend(bad.url, good.url, backend_cooldown_seconds=60) as frontend,
    ):
        for _ in range(3):
            async with frontend.completion() as got:
                assert got.headers["x-kvroute-worker"] in (bad.url, good.url)
        allowed = [call["allowed"] for call in frontend.router.calls]
        assert allowed == [None, *[[good.url] if rests else None] * 2]
        first = frontend.router.reservations[0]
        assert (first.choice.worker, first.first_tokens) == (bad.url, 0)
        await frontend.nothing_booked()


async def test_an_engine_that_fails_is_tried_where_there_is_no_other() -> None:
    async with (
        FakeEngine(replies(FAILED)) as bad,
        running_frontend(bad.url, backend_cooldown_seconds=60) as frontend,
    ):
        for _ in range(3):
            async with frontend.completion() as got:
                assert got.status == 500
        assert len(bad.requests) == 3


async def test_an_error_does_not_end_an_engine_s_rest() -> None:
    """A refusal says nothing of whether the engine can work again."""
    statuses = iter(["500 Oops", "400 Bad Request", "200 OK", "200 OK"])
    async with (
        FakeEngine(replies(lambda _: answer(b"{}", status=next(statuses)))) as engine,
        running_frontend(engine.url, backend_cooldown_seconds=60) as frontend,
    ):
        healthy = []
        for _ in range(3):
            async with frontend.completion() as got:
                await got.read()
            async with frontend.client.get(frontend.url + "/health") as got:
                healthy.append(got.status)
        assert healthy == [503, 503, 200]

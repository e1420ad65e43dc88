"""What production-stack's pull requests #587 and #890 do, by the same names and flags."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from disagg_harness import PROMPT, deployment
from frontend_harness import FakeEngine, Frontend, answer, replies, running_frontend
from kvroute.frontend.fleet import Fleet
from kvroute.frontend.model_group import ModelGroup
from kvroute.frontend.protocols import core_router
from kvroute.frontend.settings import Settings

ROLES: dict[str, Any] = {
    "static_model_labels": ["prefill"] * 2 + ["decode"] * 4,
    "prefill_model_labels": "prefill",
    "decode_model_labels": "decode",
    "engine_stats_interval": 0,
}
PREFILL, DECODE = [f"http://p{n}:1" for n in range(2)], [f"http://d{n}:1" for n in range(4)]


@asynccontextmanager
async def sent_legs(**settings: Any) -> AsyncIterator[tuple[Frontend, Sequence[str]]]:
    """Two prefill and four decode engines, for clients that send the legs themselves."""
    async with AsyncExitStack() as exits:
        engines = [
            await exits.enter_async_context(FakeEngine(replies(answer({"id": "x"}))))
            for _ in range(6)
        ]
        frontend = await exits.enter_async_context(
            running_frontend(
                *(engine.url for engine in engines),
                make_router=core_router,
                routing_logic="disaggregated_prefill",
                **{**ROLES, **settings},
            )
        )
        yield frontend, [engine.url for engine in engines]


async def worker_of(frontend: Frontend, **body: Any) -> str:
    async with frontend.completion(body) as response:
        assert response.status == 200
        return response.headers["x-kvroute-worker"]


@pytest.mark.parametrize("strategy", ["round_robin", "roundrobin", "qps", "least_loaded"])
async def test_each_phase_is_spread_evenly_by_a_counter_of_its_own(strategy: str) -> None:
    """`least_loaded` without any engine's statistics is round robin."""
    async with sent_legs(load_balancing_strategy=strategy) as (frontend, urls):
        seen: Counter[str] = Counter()
        for _ in range(8):
            seen[await worker_of(frontend, max_tokens=1)] += 1
            seen[await worker_of(frontend, max_tokens=5)] += 1
    assert [seen[url] for url in urls] == [4, 4, 2, 2, 2, 2]


async def test_at_random_every_worker_of_a_phase_has_its_share() -> None:
    async with sent_legs(load_balancing_strategy="random") as (frontend, urls):
        seen = Counter([await worker_of(frontend, max_tokens=1) for _ in range(40)])
        assert set(seen) == set(urls[:2])
        seen = Counter([await worker_of(frontend) for _ in range(60)])
        assert set(seen) == set(urls[2:])


@pytest.mark.parametrize(
    ("body", "prefill"),
    [
        ({"max_tokens": 1}, True),
        ({"max_completion_tokens": 1}, True),
        ({"max_tokens": 9, "max_completion_tokens": 1}, True),
        ({"max_tokens": 1, "max_completion_tokens": None}, True),
        ({"max_tokens": 2}, False),
        ({"max_tokens": 0}, False),
        ({"max_tokens": None}, False),
        ({}, False),
    ],
)
async def test_a_request_for_one_token_is_a_prefill(body: dict[str, Any], prefill: bool) -> None:
    async with sent_legs() as (frontend, urls):
        worker = await worker_of(frontend, **body)
    assert worker in (urls[:2] if prefill else urls[2:])


async def test_a_phase_s_own_strategy_goes_before_the_common_one() -> None:
    """By load for prefills, by turns for decodes."""
    settings = {"prefill_load_balancing_strategy": "least_loaded"}
    async with sent_legs(**settings) as (frontend, urls):
        for url, running in zip(urls, (9, 2, 0, 0, 0, 50), strict=True):
            frontend.router.update_load(url, waiting=1, running=running)
        assert {await worker_of(frontend, max_tokens=1) for _ in range(4)} == {urls[1]}
        assert {await worker_of(frontend) for _ in range(4)} == set(urls[2:])
        frontend.router.update_load(urls[1], waiting=20, running=0)
        assert await worker_of(frontend, max_tokens=1) == urls[0]


@pytest.mark.parametrize("silent", [0, 1])
async def test_least_loaded_is_by_turns_while_one_engine_has_told_nothing(silent: int) -> None:
    async with sent_legs(load_balancing_strategy="least_loaded") as (frontend, urls):
        frontend.router.update_load(urls[1 - silent], waiting=0, running=0)
        seen = Counter([await worker_of(frontend, max_tokens=1) for _ in range(8)])
    assert seen == {urls[0]: 4, urls[1]: 4}


def group_of(strategy: str) -> tuple[Fleet, ModelGroup]:
    settings = Settings(
        static_backends=[*PREFILL, *DECODE],
        static_models="m",
        routing_logic="disaggregated_prefill",
        load_balancing_strategy=strategy,
        **ROLES,
    )
    fleet = Fleet(settings, core_router)
    return fleet, fleet.group("m")


@pytest.mark.parametrize("strategy", ["round_robin", "qps"])
def test_counters_are_exact_under_eight_threads(strategy: str) -> None:
    fleet, group = group_of(strategy)
    router = group.router

    def book(number: int) -> tuple[str, str]:
        phase: Any = "decode" if number % 3 else "prefill"
        workers = DECODE if number % 3 else PREFILL
        ids = array("I", [number])
        booked = router.reserve(ids, f"r{number}", None, workers, phase=phase)
        booked.release()
        return phase, str(booked.choice.worker)

    with ThreadPoolExecutor(8) as pool:
        seen = Counter(pool.map(book, range(2400)))
    fleet.close()
    assert {seen["prefill", url] for url in PREFILL} == {400}
    assert {seen["decode", url] for url in DECODE} == {400}


async def test_2p4d_is_used_evenly_where_the_router_makes_the_legs(tmp_path: Path) -> None:
    async with deployment("nixl", 2, 4, tmp_path) as made:
        pairs: Counter[tuple[str, str]] = Counter()
        for _ in range(8):
            status, _, headers = await made.ask("/v1/completions", prompt=PROMPT, max_tokens=2)
            assert status == 200
            pairs[headers["x-kvroute-prefill-worker"], headers["x-kvroute-worker"]] += 1
    by_prefill = Counter(prefill for prefill, _ in pairs.elements())
    by_decode = Counter(decode for _, decode in pairs.elements())
    assert by_prefill == {engine.http_url: 4 for engine in made.prefill}
    assert by_decode == {engine.http_url: 2 for engine in made.decode}


@pytest.mark.parametrize("estimate", ["chars", "auto"])
@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({"prompt": "x" * 403}, 100),
        ({"prompt": list(range(100))}, 100),
        ({"prompt": [7] * 100}, 100),
        ({"messages": [{"role": "user", "content": "x" * 400}]}, 100),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x" * 401}]}]}, 100),
    ],
    ids=["text", "ids", "equal-ids", "chat", "chat-parts"],
)
@pytest.mark.parametrize("above", [-1, 0, 1])
async def test_the_threshold_s_boundary_goes_in_two_legs(
    body: dict[str, Any], tokens: int, above: int, estimate: str, tmp_path: Path
) -> None:
    path = "/v1/chat/completions" if "messages" in body else "/v1/completions"
    settings = {"routing_threshold": tokens - above, "token_estimate": estimate}
    async with deployment("nixl", 1, 1, tmp_path, **settings) as made:
        status, _, headers = await made.ask(path, max_tokens=2, **body)
        assert status == 200
        assert ("x-kvroute-prefill-worker" in headers) == (above >= 0)
        counted = await made.frontend.metric(
            "kvroute_disagg_whole_requests_total", reason="below_threshold"
        )
        assert counted == (above < 0)


async def test_with_a_tokenizer_the_estimate_is_exact(
    tokenizer_directory: Path, tmp_path: Path
) -> None:
    """Of its tokens each is a byte; four characters to a token would be a quarter."""
    for estimate, in_two in (("auto", True), ("chars", False)):
        async with deployment(
            "nixl",
            1,
            1,
            tmp_path,
            routing_threshold=40,
            token_estimate=estimate,
            tokenizer=tokenizer_directory,
        ) as made:
            status, _, headers = await made.ask("/v1/completions", prompt="x" * 40, max_tokens=2)
            assert status == 200
            assert ("x-kvroute-prefill-worker" in headers) == in_two

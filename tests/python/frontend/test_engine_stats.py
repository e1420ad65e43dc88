"""The engines' own load reaches the router, and no engine delays another."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fake_router import FakeRouter
from frontend_harness import EngineRequest, FakeEngine, Frontend, Handler, answer, running_frontend
from kvroute.frontend.protocols import core_router

INTERVAL = 0.02


def reports(text: str, path: str = "/metrics") -> Handler:
    async def handler(request: EngineRequest) -> None:
        found = request.path == path
        request.writer.write(answer(text.encode() if found else b"{}", status="200 OK"))

    return handler


def vllm(waiting: int) -> str:
    return f'vllm:num_requests_waiting{{engine="0"}} {waiting}.0\n'


async def reported(frontend: Frontend, worker: str, waiting: int) -> None:
    """Returns when the router was told so; fails after five seconds."""
    router = frontend.router

    async def seen() -> None:
        while router.loads.get((worker, 0), {}).get("waiting") != waiting:
            router.reported.clear()
            await router.reported.wait()

    await asyncio.wait_for(seen(), 5)


async def test_what_an_engine_says_reaches_the_router_again_and_again() -> None:
    waiting = 0

    async def handler(request: EngineRequest) -> None:
        nonlocal waiting
        waiting += 1
        request.writer.write(answer(vllm(waiting).encode()))

    async with (
        FakeEngine(handler) as engine,
        running_frontend(engine.url, engine_stats_interval=INTERVAL) as frontend,
    ):
        await reported(frontend, engine.url, 1)
        await reported(frontend, engine.url, 3)
        assert frontend.router.loads[engine.url, 0] == {
            "waiting": 3,
            "running": None,
            "kv_usage": None,
            "kv_tokens": None,
        }
        assert {request.path for request in engine.requests} == {"/metrics"}
        assert engine.connections == 1
        assert await frontend.metric("kvroute_engine_stats_total", outcome="read") >= 3


async def test_the_engines_of_a_model_are_asked_at_the_same_time() -> None:
    interval = 0.4
    asked: dict[str, list[float]] = {"a": [], "b": []}

    def takes(seconds: float, name: str) -> Handler:
        async def handler(request: EngineRequest) -> None:
            asked[name].append(asyncio.get_running_loop().time())
            await asyncio.sleep(seconds)
            request.writer.write(answer(vllm(len(asked[name])).encode()))

        return handler

    async with (
        FakeEngine(takes(0.0, "a")) as quick,
        FakeEngine(takes(interval / 4, "b")) as slow,
        running_frontend(quick.url, slow.url, engine_stats_interval=interval) as frontend,
    ):
        await reported(frontend, slow.url, 5)
    # Each beside the next one's nearest; the machine may be slow, but not always.
    gaps = [min(abs(time - other) for other in asked["b"]) for time in asked["a"][1:]]
    assert min(gaps) < interval / 8


async def test_every_rank_is_reported() -> None:
    text = vllm(1) + 'vllm:num_requests_waiting{engine="1"} 9.0\n'
    async with (
        FakeEngine(reports(text)) as engine,
        running_frontend(engine.url, dp_ranks=[2], engine_stats_interval=INTERVAL) as frontend,
    ):
        await reported(frontend, engine.url, 1)
        assert frontend.router.loads[engine.url, 1]["waiting"] == 9


async def test_the_room_of_its_cache_reaches_the_router() -> None:
    text = vllm(1) + 'vllm:cache_config_info{block_size="32",engine="0",num_gpu_blocks="99"} 1.0\n'
    async with (
        FakeEngine(reports(text)) as engine,
        running_frontend(engine.url, engine_stats_interval=INTERVAL) as frontend,
    ):
        await reported(frontend, engine.url, 1)
        assert frontend.router.loads[engine.url, 0]["kv_tokens"] == 32 * 99


async def test_the_second_path_is_kept_where_the_first_has_no_metrics() -> None:
    text = "trtllm_num_requests_waiting 4.0\n"
    async with (
        FakeEngine(reports(text, "/prometheus/metrics")) as engine,
        running_frontend(engine.url, engine_stats_interval=INTERVAL) as frontend,
    ):
        await reported(frontend, engine.url, 4)
        frontend.router.loads.clear()
        await reported(frontend, engine.url, 4)
        assert [request.path for request in engine.requests].count("/metrics") == 1


async def silent(_: EngineRequest) -> None:
    await asyncio.Event().wait()


async def hangs_up(request: EngineRequest) -> None:
    request.writer.close()


async def fails(request: EngineRequest) -> None:
    request.writer.write(answer(b"{}", status="500 Internal Server Error"))


async def speaks_nonsense(request: EngineRequest) -> None:
    request.writer.write(answer(b"vllm:num_requests_waiting{ oops\n"))


async def never_ends(request: EngineRequest) -> None:
    request.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
    block = b"x" * (1 << 20)
    while not request.writer.is_closing():
        request.writer.write(block)
        await request.writer.drain()


@pytest.mark.parametrize("trouble", [silent, hangs_up, fails, speaks_nonsense, never_ends])
async def test_an_engine_in_trouble_delays_no_other(
    trouble: Handler, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        FakeEngine(trouble) as bad,
        FakeEngine(reports(vllm(2))) as good,
        running_frontend(bad.url, good.url, engine_stats_interval=INTERVAL) as frontend,
    ):
        for _ in range(3):
            frontend.router.loads.clear()
            await reported(frontend, good.url, 2)
        assert (bad.url, 0) not in frontend.router.loads
        while await frontend.metric("kvroute_engine_stats_total", outcome="failed") < 2:
            await reported(frontend, good.url, 2)
        told = [r for r in caplog.records if bad.url in r.getMessage()]
        assert len(told) == 1


class PickyRouter(FakeRouter):
    """Refuses a figure, as the core does with those that it cannot hold."""

    def update_load(self, worker: str, dp_rank: int = 0, **figures: Any) -> None:
        if figures["waiting"] == 7:
            raise ValueError("waiting: expected another number, got 7")
        super().update_load(worker, dp_rank, **figures)


async def test_a_figure_that_the_router_refuses_ends_no_readings(
    caplog: pytest.LogCaptureFixture,
) -> None:
    waiting = 7

    async def handler(request: EngineRequest) -> None:
        request.writer.write(answer(vllm(waiting).encode()))

    async with (
        FakeEngine(handler) as engine,
        running_frontend(
            engine.url, make_router=PickyRouter, engine_stats_interval=INTERVAL
        ) as frontend,
    ):
        while await frontend.metric("kvroute_engine_stats_total", outcome="failed") < 2:
            pass
        waiting = 3
        await reported(frontend, engine.url, 3)
        told = [r.getMessage() for r in caplog.records if engine.url in r.getMessage()]
    assert told == [f"{engine.url}: metrics: no load read: waiting: expected another number, got 7"]


@pytest.mark.parametrize("figure", ["-3", "NaN", "1e300", "5000000000"])
async def test_the_core_outlives_what_no_engine_means(figure: str) -> None:
    text = f"vllm:num_requests_waiting {figure}\nvllm:num_requests_running 2\n"
    async with (
        FakeEngine(reports(text)) as engine,
        running_frontend(
            engine.url, make_router=core_router, engine_stats_interval=INTERVAL
        ) as frontend,
    ):
        while await frontend.metric("kvroute_engine_stats_total", outcome="read") < 2:
            pass
        assert await frontend.metric("kvroute_target_running") == 2


async def test_an_engine_without_known_metrics_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        FakeEngine(reports("python_info 1.0\n")) as engine,
        running_frontend(engine.url, engine_stats_interval=INTERVAL) as frontend,
    ):
        while await frontend.metric("kvroute_engine_stats_total", outcome="unknown") < 2:
            pass
        assert frontend.router.loads == {}
    assert [r.getMessage() for r in caplog.records if "no series" in r.getMessage()] == [
        f"{engine.url}: metrics: no series of vLLM, SGLang or TensorRT-LLM"
    ]


async def test_an_interval_of_zero_asks_nobody() -> None:
    async with (
        FakeEngine(reports(vllm(1))) as engine,
        running_frontend(engine.url, engine_stats_interval=0) as frontend,
    ):
        assert (await frontend.client.get(frontend.url + "/version")).status == 200
        assert engine.requests == []

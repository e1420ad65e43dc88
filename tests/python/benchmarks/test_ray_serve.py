"""The parts of the Ray Serve benchmarks that need no Ray."""

from __future__ import annotations

import asyncio
import itertools
from types import ModuleType

import bench_ray_choose
import bench_ray_serve
import orjson
import pytest
from aiohttp import web
from closed_loop import Asked, Pace, closed_loop, completion_bodies, middle, pace_of
from kvroute.demo.completion_stream import Completion
from kvroute.demo.replay import ReplayResult
from ray_serve_replay import HEAD, Replayed, mean_engine_ttft


def answered(worker: str, ttft: float, cached: int) -> Completion:
    return Completion(worker, None, ttft, 1.0, prompt_tokens=100, cached_tokens=cached,
                      completion_tokens=5)  # fmt: skip


def test_a_row_has_engine_time_and_every_replica() -> None:
    result = ReplayResult(
        completions=[answered("b", 0.1, 0), answered("a", 0.2, 50), answered("b", 0.3, 40)],
        failures=1,
        worst_delay=0.004,
        loop_lags=[0.001, 0.002],
    )
    replayed = Replayed(result, engine_ttft=0.05, machine=0.5)
    assert replayed.hit_rate == pytest.approx(0.3)
    row = replayed.row("some router", compression=10)
    assert row == ("| some router | 30.0 % | 2.00 | 2.00 | 3.00 | 0.50 | 1 2 | 1 | 4 ms, 50 % |")
    assert row.count("|") == HEAD.splitlines()[0].count("|") == HEAD.splitlines()[1].count("|")


def test_a_replay_without_answers_has_a_row() -> None:
    assert "| 0.0 % | nan |" in Replayed(ReplayResult(failures=3), None, None).row("none", 1.0)


def test_the_engines_mean_counts_every_request_once() -> None:
    text = (
        "# TYPE vllm:time_to_first_token_seconds histogram\n"
        'vllm:time_to_first_token_seconds_bucket{{le="+Inf"}} {count}\n'
        "vllm:time_to_first_token_seconds_count {count}\n"
        "vllm:time_to_first_token_seconds_sum {total}\n"
    )
    busy, idle = text.format(count=3, total=6.0), text.format(count=1, total=4.0)
    assert mean_engine_ttft([busy, idle]) == pytest.approx(2.5)
    assert mean_engine_ttft([]) is None
    assert mean_engine_ttft([text.format(count=0, total=0.0)]) is None


def test_requests_count_by_their_share_of_the_measured_time() -> None:
    asked = [
        Asked(9.0, 11.0, True),  # half of it before
        Asked(11.0, 12.0, True),
        Asked(12.0, 13.0, False),
        Asked(13.0, 17.0, True),  # a quarter of it within
    ]
    pace = pace_of(asked, begin=10.0, end=14.0)
    assert pace == Pace(rate=1.75 / 4, p50=2.0, p99=4.0, failures=1)


def test_each_figure_has_its_own_median_and_failures_add_up() -> None:
    rounds = [Pace(10, 0.3, 0.9, 1), Pace(30, 0.1, 0.8, 0), Pace(20, 0.2, 1.0, 2)]
    assert middle(rounds) == Pace(20, 0.2, 0.9, 3)
    assert str(middle(rounds)) == "20, 200 / 900 (3 failed)"
    assert str(Pace(99.6, 0.0101, 0.02)) == "100, 10 / 20"


def test_bodies_of_one_family_share_three_quarters() -> None:
    bodies = [orjson.loads(body) for body in completion_bodies(
        64, families=2, count=4, max_tokens=1, seed=1)]  # fmt: skip
    prompts = [body["prompt"] for body in bodies]
    assert [len(prompt) for prompt in prompts] == [64] * 4
    assert prompts[0][:48] == prompts[2][:48] != prompts[1][:48] == prompts[3][:48]
    assert len({tuple(prompt[48:]) for prompt in prompts}) == 4
    assert {body["max_tokens"] for body in bodies} == {1}


async def test_clients_ask_again_when_they_are_answered() -> None:
    numbers = itertools.count()
    at_once, most = 0, 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        assert await request.json() == {"x": 1}
        await asyncio.sleep(0)
        at_once -= 1
        return web.Response(status=500 if next(numbers) % 4 == 3 else 200)

    application = web.Application()
    application.router.add_post("/", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        pace = await closed_loop(f"http://{host}:{port}/", [b'{"x": 1}'], 3, 0.3)
    finally:
        await runner.cleanup()
    assert 1 <= most <= 3
    assert pace.rate > 0
    assert pace.failures > 0
    assert 0 < pace.p50 <= pace.p99 < 60


def test_settings_are_those_of_the_demo_but_for_what_is_said() -> None:
    options = bench_ray_serve.parse_arguments(["--policies", "kv_cost", "kv_delay", "--quick"])
    plan = bench_ray_serve.demo_plan(options)
    assert (plan.policies, plan.requests, plan.engines) == (("kv_cost", "kv_delay"), 60, 4)
    assert plan.compression == options.compression


@pytest.mark.parametrize("wrong", [["--engines", "0"], ["--compression", "-1"], ["--rounds", "0"]])
def test_wrong_settings_are_refused(wrong: list[str]) -> None:
    with pytest.raises(SystemExit):
        bench_ray_serve.parse_arguments(wrong)


@pytest.mark.parametrize("benchmark", [bench_ray_serve, bench_ray_choose])
def test_without_ray_nothing_is_measured(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "find_spec", lambda _: None)
    benchmark.main([])
    assert "Ray is not installed" in capsys.readouterr().out

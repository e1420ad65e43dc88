"""The demo's arithmetic and words."""

from __future__ import annotations

import io
import json
import math

import pytest
from kvroute.demo.completion_stream import Completion
from kvroute.demo.decision_time import Histogram
from kvroute.demo.plan import DemoPlan
from kvroute.demo.processor_time import ProcessorUse
from kvroute.demo.replay import ReplayResult
from kvroute.demo.report import (
    gain_sentence,
    print_how_to_try,
    print_plan,
    print_results,
    report_as_json,
    results_table,
)
from kvroute.demo.summary import PolicySummary, quantile, summarize, summarize_times
from kvroute.demo.workload import Workload, prepare_workload
from rich.console import Console

ENGINES = ("http://e1", "http://e2")
USE = ProcessorUse(2, {"client": 0.1, "engine 1": 0.2, "engine 2": 0.1, "frontend": 0.15}, 0.6)


@pytest.fixture
def workload(monkeypatch: pytest.MonkeyPatch) -> Workload:
    """Of a generated trace."""
    monkeypatch.delenv("KVROUTE_TRACES", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/nowhere")
    return prepare_workload(DemoPlan(requests=30, length_scale=0.25, seed=3))


def summary(policy: str, *, cached: int, ttft: float, failures: int = 0) -> PolicySummary:
    result = ReplayResult(wall_seconds=10.0, loop_lags=[0.001] * 99 + [0.5])
    for number in range(10):
        worker = ENGINES[number % 2] if number else "http://elsewhere"
        result.completions.append(Completion(worker, None, ttft, 2 * ttft, 100, cached, 5))
    for _ in range(failures):
        result.add_failure("status 500: [no] engine")
    decisions = Histogram(((100e-6, 9.0), (200e-6, 10.0)), 0.0)
    return summarize(policy, result, ENGINES, decisions, USE)


def printed(write: object) -> str:
    console = Console(file=io.StringIO(), width=110)
    write(console)  # type: ignore[operator]
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_summary_adds_up_what_the_engines_reported() -> None:
    facts = summary("kv_cost", cached=48, ttft=0.2, failures=2)
    assert facts.requests == 12
    assert facts.failures == 2
    assert facts.hit_rate == pytest.approx(0.48)
    assert facts.requests_per_worker == (4, 5)
    assert facts.unattributed == 1
    assert facts.time_to_first_token.p99 == pytest.approx(0.2)
    assert facts.decision_p50 == pytest.approx(100e-6 * 5 / 9)
    assert facts.loop_lag_p99 == pytest.approx(0.001)


def test_times_without_samples_are_not_numbers() -> None:
    times = summarize_times([])
    assert all(math.isnan(value) for value in (times.mean, times.p50, times.p99))
    empty = summarize("kv_cost", ReplayResult(), ENGINES, None, USE)
    assert empty.hit_rate == 0.0
    assert empty.as_json(2.0)["ttft_wall_seconds"]["mean"] is None


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1.0), (0.01, 1.0), (0.5, 50.0), (0.99, 99.0), (1.0, 100.0)]
)
def test_quantiles_are_nearest_rank(share: float, expected: float) -> None:
    assert quantile([float(number) for number in range(1, 101)], share) == expected


def test_the_gain_is_told_against_round_robin_only() -> None:
    summaries = [
        summary("round_robin", cached=16, ttft=0.4),
        summary("kv_cost", cached=32, ttft=0.3),
    ]
    assert gain_sentence(summaries, summaries[0]) is None
    assert gain_sentence(summaries[1:], summaries[1]) is None
    assert gain_sentence(summaries, summaries[1]) == (
        "kv_cost against round_robin: 2.00 times the block hit rate; time to first token mean "
        "-25 %, p50 -25 %, p99 -25 %"
    )


def test_the_table_shows_every_policy_and_failures_are_told(workload: Workload) -> None:
    plan = DemoPlan(compression=5.0)
    summaries = [
        summary("round_robin", cached=16, ttft=0.4),
        summary("kv_cost", cached=32, ttft=0.3, failures=1),
    ]
    text = printed(lambda console: print_results(console, plan, workload, summaries))
    for part in (
        "Hit rate: cached tokens / prompt tokens",
        f"one infinite cache would have {workload.infinite_cache_hit_rate:.1%}",
        "16.0%",
        "32.0%",
        "2.00 s (400 ms wall)",
        "1.50 s (300 ms wall)",
        "4 5",
        "56 µs",
        "60% of 2 cores",
        "10% 15% 30%",
        "kv_cost: failed: status 500: [no] engine",
    ):
        assert part in " ".join(text.split()), f"{part!r} not in:\n{text}"


def test_the_table_fits_a_terminal_of_80_columns(workload: Workload) -> None:
    summaries = [
        summary("round_robin", cached=16, ttft=1.4),
        summary("kv_cost", cached=32, ttft=1.3),
    ]
    table = results_table(DemoPlan(), workload, summaries)
    assert Console(width=200).measure(table).minimum <= 80


def test_the_plan_says_what_runs_and_what_was_scaled(workload: Workload) -> None:
    plan = DemoPlan(requests=30, length_scale=0.25, compression=7.5, seed=3)
    text = printed(lambda console: print_plan(console, plan, workload))
    for part in (
        "generated, of the conversation trace's statistics (seed 3)",
        "30 over",
        "compressed 7.5 times",
        "25% of the tokens of each block",
        "4 simulated",
        "48,000 blocks of 16 tokens",
        "up to 8 tokens share a chunk",
        "with one infinite cache",
    ):
        assert part in text, f"{part!r} not in:\n{text}"


def test_the_try_line_is_a_request_that_a_shell_understands() -> None:
    text = printed(lambda console: print_how_to_try(console, "http://f:1", ENGINES))
    line = next(line for line in text.splitlines() if line.startswith("curl"))
    body = json.loads(line.split(" -d '")[1].rstrip("'"))
    assert body["stream"] is True
    assert "'" not in json.dumps(body)
    assert "engine 2  http://e2" in text


def test_the_json_report_has_plain_values(workload: Workload) -> None:
    plan = DemoPlan(requests=10, compression=2.0)
    report = report_as_json(plan, workload, [summary("kv_cost", cached=16, ttft=0.5)])
    again = json.loads(json.dumps(report, allow_nan=False))
    assert again["trace"]["source"] == "generated"
    assert again["policies"][0]["hit_rate"] == pytest.approx(0.16)
    assert again["policies"][0]["ttft_engine_seconds"]["p50"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"requests": 0}, "requests: expected at least 1"),
        ({"compression": 0.0}, "compression: expected a finite number > 0"),
        ({"compression": float("inf")}, "compression: expected a finite number > 0"),
        ({"length_scale": 1.5}, "length_scale: expected a number in"),
        ({"policies": ()}, "policies: expected different names"),
        ({"policies": ("kv_cost", "kv_cost")}, "policies: expected different names"),
    ],
)
def test_a_plan_that_cannot_run_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DemoPlan(**change)  # type: ignore[arg-type]

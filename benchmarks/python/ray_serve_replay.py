"""A trace replayed before engines in Serve replicas, and before `kvroute serve`."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import aiohttp
from kvroute.demo.decision_time import parse_histogram
from kvroute.demo.deployment import MODEL, Deployment
from kvroute.demo.plan import DemoPlan
from kvroute.demo.processor_time import ProcessorMeter
from kvroute.demo.replay import ReplayResult, replay
from kvroute.demo.summary import quantile, summarize_times
from kvroute.demo.workload import Workload

ENGINE_TTFT = "vllm:time_to_first_token_seconds"
HEAD = """\
| | hit rate | TTFT, mean s | p50 | p99 | in the engine | requests of each | failed | late, CPU |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |"""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of a replay. `engine_ttft` is the mean by the engines' own clocks, and `machine`
    the share of all cores that was busy; None where unknown. Wall seconds."""

    result: ReplayResult
    engine_ttft: float | None
    machine: float | None

    @property
    def hit_rate(self) -> float:
        """Cached tokens / prompt tokens of all that was answered; 0 where nothing was."""
        done = self.result.completions
        prompt_tokens = sum(one.prompt_tokens for one in done)
        return sum(one.cached_tokens for one in done) / prompt_tokens if prompt_tokens else 0.0

    def row(self, label: str, compression: float) -> str:
        """Of the table under `HEAD`; times to first token in engine time."""
        result = self.result
        times = summarize_times([one.time_to_first_token for one in result.completions])
        workers = Counter(one.worker for one in result.completions)
        lag = quantile(sorted(result.loop_lags), 0.99)
        cells = (
            label,
            f"{100 * self.hit_rate:.1f} %",
            f"{times.mean * compression:.2f}",
            f"{times.p50 * compression:.2f}",
            f"{times.p99 * compression:.2f}",
            "-" if self.engine_ttft is None else f"{self.engine_ttft * compression:.2f}",
            " ".join(f"{count}" for count in sorted(workers.values())),
            f"{result.failures}",
            f"{1e3 * max(result.worst_delay, lag):.0f} ms, {_percent(self.machine)}",
        )
        return f"| {' | '.join(cells)} |"


async def replay_before_serve(url: str, plan: DemoPlan, workload: Workload) -> Replayed:
    """Before a Serve application of fresh engines at `url`."""
    result, machine = await _replay(url, plan, workload)
    async with aiohttp.ClientSession() as session, session.get(f"{url}/engines") as response:
        metrics = await response.json()
    return Replayed(result, mean_engine_ttft(metrics), machine)


async def replay_before_frontend(policy: str, plan: DemoPlan, workload: Workload) -> Replayed:
    """Before fresh engines behind `kvroute serve`, as `kvroute demo` does."""
    async with Deployment(plan, policy) as deployment:
        result, machine = await _replay(deployment.url, plan, workload)
        async with aiohttp.ClientSession() as session:
            metrics = [await _text(session, f"{url}/metrics") for url in deployment.engines]
    return Replayed(result, mean_engine_ttft(metrics), machine)


def mean_engine_ttft(metrics: Iterable[str]) -> float | None:
    """The mean over all requests of all engines, None without any; `metrics` are theirs."""
    histograms = [parse_histogram(text, ENGINE_TTFT) for text in metrics]
    count = sum(histogram.count for histogram in histograms)
    return sum(histogram.total for histogram in histograms) / count if count else None


async def _replay(
    url: str, plan: DemoPlan, workload: Workload
) -> tuple[ReplayResult, float | None]:
    meter = ProcessorMeter({"client": os.getpid()})
    result = await replay(
        url,
        MODEL,
        workload.trace.requests,
        workload.prompts,
        compression=plan.compression,
        max_in_flight=plan.max_in_flight,
        request_timeout=plan.request_timeout,
    )
    return result, meter.read().machine


async def _text(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(url) as response:
        return await response.text()


def _percent(share: float | None) -> str:
    return "-" if share is None or math.isnan(share) else f"{100 * share:.0f} %"

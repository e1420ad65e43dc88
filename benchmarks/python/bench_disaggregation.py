"""Where the threshold of conditional disaggregation should lie, for a given engine and load.

A conversation trace is replayed over HTTP before simulated prefill and decode engines, once for
each threshold: 0 sends every prompt through a prefill engine (always), `never` none; the last row
has as many engines that all do both. Every run has fresh processes. Times are engine time: the
engines and the trace are both sped up by --compression, and what is measured is multiplied by it.

    KVROUTE_TRACES=DIR python benchmarks/python/bench_disaggregation.py [--quick]
        [--prefill N] [--decode N] [--thresholds N ... never] [--strategy NAME] [--rounds N]
        [--requests N] [--rate X] [--compression X] [--length-scale X]
        [--prefill-tokens-per-second X] [--base-step S] [--transfer-bandwidth B] [--num-blocks N]

    two legs        share of the requests that went through a prefill engine
    TTFT            from sending to the first token, seconds
    ms a token      mean time of an answer's further tokens, over all requests, ms
    hit rate        share of the prompts' tokens that the engine which computed them held
    late, CPU       the worst delay of a request's sending (wall ms), and the machine's CPU use:
                    where these are high, the figures are of this machine, not of the engines
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

from kvroute.demo.processor_time import ProcessorMeter
from kvroute.demo.replay import ReplayResult, replay
from kvroute.demo.summary import TimesSummary, summarize_times
from kvroute.traces import PromptBuilder, Trace, TraceSource, load_trace
from kvroute.traces.locate import TRACES_VARIABLE
from role_fleet import MODEL, EnginePlan, RoleFleet

NEVER = 1 << 31
MIXED = "all do both"
HEAD = """\
| threshold | two legs | failed | TTFT mean | p50 | p99 | ms a token | p99 | hit rate | late, CPU |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"""


@dataclass
class Runs:
    """All that was measured with one setting, in engine time."""

    first: list[float] = field(default_factory=list)
    further: list[float] = field(default_factory=list)
    means: list[float] = field(default_factory=list)
    requests: int = 0
    failures: int = 0
    in_two_legs: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    worst_delay: float = 0.0
    machine: float = 0.0

    def add(self, result: ReplayResult, compression: float, machine: float | None) -> None:
        done = result.completions
        self.requests += len(done) + result.failures
        self.failures += result.failures
        self.in_two_legs += sum(one.prefill_worker is not None for one in done)
        self.prompt_tokens += sum(one.prompt_tokens for one in done)
        self.cached_tokens += sum(one.cached_tokens for one in done)
        first = [one.time_to_first_token * compression for one in done]
        self.means.append(fmean(first))
        self.first += first
        self.further += [
            (one.seconds - one.time_to_first_token) / (one.completion_tokens - 1) * compression
            for one in done
            if one.completion_tokens > 1
        ]
        self.worst_delay = max(self.worst_delay, result.worst_delay)
        self.machine = max(self.machine, machine or 0.0)

    def row(self, label: str) -> str:
        first, further = summarize_times(self.first), summarize_times(self.further)
        cells = (
            label,
            f"{100 * self.in_two_legs / self.requests:.0f} %",
            f"{self.failures}",
            self._mean(first),
            f"{first.p50:.2f}",
            f"{first.p99:.2f}",
            f"{1e3 * further.mean:.1f}",
            f"{1e3 * further.p99:.1f}",
            f"{100 * self.cached_tokens / self.prompt_tokens:.1f} %",
            f"{1e3 * self.worst_delay:.0f}, {100 * self.machine:.0f} %",
        )
        return f"| {' | '.join(cells)} |"

    def _mean(self, first: TimesSummary) -> str:
        spread = f" ({min(self.means):.2f}-{max(self.means):.2f})" if len(self.means) > 1 else ""
        return f"{first.mean:.2f}{spread}"


def label_of(threshold: int | None) -> str:
    if threshold is None:
        return MIXED
    return {0: "0: always", NEVER: "never"}.get(threshold, f"{threshold:,}")


async def measure(
    options: argparse.Namespace, trace: Trace, prompts: PromptBuilder, threshold: int | None
) -> tuple[ReplayResult, float | None]:
    plan = EnginePlan(
        num_blocks=options.num_blocks,
        speed=options.compression,
        base_step=options.base_step,
        prefill_tokens_per_second=options.prefill_tokens_per_second,
        transfer_bandwidth=options.transfer_bandwidth,
        tokens_per_chunk=options.tokens_per_chunk,
    )
    if threshold is None:
        roles = ["both"] * (options.prefill + options.decode)
        more = [f"--routing-logic={options.mixed_policy}"]
    else:
        roles = ["prefill"] * options.prefill + ["decode"] * options.decode
        more = [
            "--routing-logic=disaggregated_prefill_orchestrated",
            f"--load-balancing-strategy={options.strategy}",
            f"--routing-threshold={threshold}",
        ]
    async with RoleFleet(plan, roles, more) as fleet:
        meter = ProcessorMeter({"client": os.getpid(), **fleet.pids})
        result = await replay(
            fleet.url,
            MODEL,
            trace.requests,
            prompts,
            compression=options.compression * options.rate,
            max_in_flight=2048,
            request_timeout=120.0,
        )
        return result, meter.read().machine


async def run(options: argparse.Namespace) -> None:
    trace = load_trace(limit=options.requests, seed=options.seed)
    prompts = PromptBuilder(length_scale=options.length_scale, seed=options.seed)
    lengths = sorted(prompts.prompt_length(request) for request in trace.requests)
    print(f"trace: {trace}: {len(lengths)} requests in {_seconds(trace) / options.rate:.0f} s")
    if trace.source is TraceSource.GENERATED:
        print(f"(the real trace is not here; {TRACES_VARIABLE} names its folder)")
    quarters = ", ".join(f"{lengths[int(q * (len(lengths) - 1))]:,}" for q in (0.25, 0.5, 0.75, 1))
    print(f"prompts: mean {fmean(lengths):,.0f} tokens; quartiles and longest {quarters}")
    print(f"{options.prefill} prefill and {options.decode} decode engines, {options.rounds} rounds")
    settings: list[int | None] = [*options.thresholds, None]
    runs = {threshold: Runs() for threshold in settings}
    for turn in range(options.rounds):
        for threshold in settings[turn:] + settings[:turn]:
            result, machine = await measure(options, trace, prompts, threshold)
            runs[threshold].add(result, options.compression, machine)
            for message in result.failure_messages[:3]:
                print(f"failed, {label_of(threshold)}: {message}")
    print(f"\n{HEAD}")
    for threshold, measured in runs.items():
        print(measured.row(label_of(threshold)))
    split = [threshold for threshold in settings if threshold is not None]
    best = min(split, key=lambda threshold: fmean(runs[threshold].first or [math.inf]))
    print(f"\nleast mean time to first token: --routing-threshold {best}")


def _seconds(trace: Trace) -> float:
    return trace.requests[-1].timestamp - trace.requests[0].timestamp


def _threshold(text: str) -> int:
    return NEVER if text == "never" else int(text)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Always, never or conditional disaggregation.")
    parser.add_argument("--prefill", type=int, default=2, help="engines")
    parser.add_argument("--decode", type=int, default=2, help="engines")
    parser.add_argument(
        "--thresholds",
        type=_threshold,
        nargs="+",
        default=[0, 1024, 2048, 4096, 8192, 16384, NEVER],
        metavar="N|never",
    )
    parser.add_argument("--strategy", default="kv", help="of both phases")
    parser.add_argument("--mixed-policy", default="kv_delay", help="where all engines do both")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--requests", type=int, default=500, help="at most so many")
    parser.add_argument("--rate", type=float, default=1.0, help="of the trace's arrivals")
    parser.add_argument("--compression", type=float, default=10.0, help="engine time in wall time")
    parser.add_argument("--length-scale", type=float, default=0.5, help="of prompts and answers")
    parser.add_argument("--seed", type=int, default=0)
    plan = EnginePlan()
    parser.add_argument("--num-blocks", type=int, default=plan.num_blocks, help="of each engine")
    parser.add_argument("--base-step", type=float, default=plan.base_step)
    parser.add_argument(
        "--prefill-tokens-per-second", type=float, default=plan.prefill_tokens_per_second
    )
    parser.add_argument("--transfer-bandwidth", type=float, default=plan.transfer_bandwidth)
    parser.add_argument("--tokens-per-chunk", type=int, default=4)
    parser.add_argument("--quick", action="store_true", help="100 requests, three thresholds")
    options = parser.parse_args(arguments)
    if options.quick:
        options.requests, options.thresholds = 100, [0, 4096, NEVER]
    for name in ("prefill", "decode", "rounds", "requests", "rate", "compression"):
        if getattr(options, name) <= 0:
            parser.error(f"--{name}: expected more than 0")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    asyncio.run(run(parse_arguments(arguments)))


if __name__ == "__main__":
    main()

"""The demo's words: what runs, the table of results, and what to try on what is left running."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from kvroute.demo.deployment import MODEL
from kvroute.demo.plan import DemoPlan
from kvroute.demo.summary import PolicySummary, TimesSummary
from kvroute.demo.workload import Workload

_BASELINE = "round_robin"
_TRY_PROMPT = (
    "Explain in three sentences how a KV cache lets an engine skip the prefill of a prompt that "
    "begins like one it has seen before, and why the choice of the engine matters for that."
)


def print_plan(console: Console, plan: DemoPlan, workload: Workload) -> None:
    """Says what will run, and how it differs from the trace."""
    requests = len(workload.trace.requests)
    wall = workload.trace_seconds / plan.compression
    lines = {
        "trace": str(workload.trace),
        "requests": f"{requests:,} over {workload.trace_seconds:,.0f} s of trace time, "
        f"mean {workload.prompt_tokens / requests:,.0f} tokens in, "
        f"{workload.output_tokens / requests:,.0f} out",
        "time": f"compressed {plan.compression:g} times, arrivals and engines alike: "
        f"{wall:,.0f} s a policy",
        "lengths": f"{plan.length_scale:.0%} of the tokens of each block and each answer"
        if plan.length_scale != 1
        else "as in the trace",
        "engines": f"{plan.engines} simulated, cost model of a 70 B model on four H100, each with "
        f"{plan.num_blocks:,} blocks of {plan.block_size} tokens "
        f"({plan.num_blocks * plan.block_size:,} tokens) of KV cache",
        "streaming": f"up to {plan.tokens_per_chunk} tokens share a chunk",
        "hit rate bound": f"{workload.infinite_cache_hit_rate:.1%} with one infinite cache that "
        "fills at once",
    }
    for name, text in lines.items():
        console.print(f"{name:<15} {text}", highlight=False, soft_wrap=True, markup=False)


def print_results(
    console: Console, plan: DemoPlan, workload: Workload, summaries: Sequence[PolicySummary]
) -> None:
    """Prints the table, the gain over round robin, and any failures' messages."""
    console.print(results_table(plan, workload, summaries))
    for summary in summaries:
        if gain := gain_sentence(summaries, summary):
            console.print(gain, highlight=False, soft_wrap=True)
        for message in summary.failure_messages:
            console.print(f"{summary.policy}: failed: {message}", markup=False, soft_wrap=True)


def results_table(plan: DemoPlan, workload: Workload, summaries: Sequence[PolicySummary]) -> Table:
    """One column for each policy."""
    title = f"{summaries[0].requests:,} requests, {plan.engines} engines"
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.add_column("")
    for summary in summaries:
        table.add_column(summary.policy, justify="right")

    def row(name: str, cell: Callable[[PolicySummary], str], *, end_section: bool = False) -> None:
        table.add_row(name, *(cell(summary) for summary in summaries), end_section=end_section)

    def row_of_times(name: str, time: Callable[[TimesSummary], float], *, last: bool) -> None:
        def cell(summary: PolicySummary) -> str:
            wall = time(summary.time_to_first_token)
            return f"{_seconds(wall * plan.compression)} ({_seconds(wall)} wall)"

        row(f"time to first token, {name}", cell, end_section=last)

    row("block hit rate", lambda s: f"{s.hit_rate:.1%}", end_section=True)
    row_of_times("mean", lambda times: times.mean, last=False)
    row_of_times("p50", lambda times: times.p50, last=False)
    row_of_times("p99", lambda times: times.p99, last=True)
    row("requests per worker", lambda s: " ".join(f"{n}" for n in s.requests_per_worker))
    row("failures", lambda s: f"{s.failures}", end_section=True)
    row("router's decision, p50", lambda s: _seconds(s.decision_p50))
    row("router's decision, p99", lambda s: _seconds(s.decision_p99), end_section=True)
    row("CPU busy", lambda s: _share(s.processor.machine, s.processor.cores))
    row("client, frontend, engines", _shares_of_parts)
    row("client woke late, p99", lambda s: _seconds(s.loop_lag_p99))
    table.caption = (
        "Hit rate: cached tokens / prompt tokens, as the engines report them; one infinite cache "
        f"would have {workload.infinite_cache_hit_rate:.1%}. Times to first token are the "
        f"engines', wall time x {plan.compression:g}. Decision: choosing and booking a worker."
    )
    return table


def gain_sentence(summaries: Sequence[PolicySummary], of: PolicySummary) -> str | None:
    """How `of` compares with round robin; None where there is nothing to compare."""
    baseline = next((s for s in summaries if s.policy == _BASELINE), None)
    if baseline is None or of is baseline or not baseline.hit_rate:
        return None
    before, after = baseline.time_to_first_token, of.time_to_first_token
    return (
        f"{of.policy} against {_BASELINE}: {of.hit_rate / baseline.hit_rate:.2f} times the block "
        f"hit rate; time to first token mean {_change(before.mean, after.mean)}, "
        f"p50 {_change(before.p50, after.p50)}, p99 {_change(before.p99, after.p99)}"
    )


def print_how_to_try(console: Console, url: str, engines: Sequence[str]) -> None:
    """Prints the URLs of a running demo and a request to send twice."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": _TRY_PROMPT}],
        "max_tokens": 24,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    text = json.dumps(body)
    lines = [
        f"frontend  {url}  (metrics: {url}/metrics)",
        *(f"engine {number}  {engine}" for number, engine in enumerate(engines, 1)),
        "Try this twice: the second answer's last event reports cached tokens.",
        f"curl -N {url}/v1/chat/completions -H 'content-type: application/json' -d '{text}'",
        "Ctrl-C ends it.",
    ]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def report_as_json(
    plan: DemoPlan, workload: Workload, summaries: Sequence[PolicySummary]
) -> dict[str, Any]:
    """The plan, the trace and every result, for `--json`."""
    return {
        "trace": {
            "source": workload.trace.source.name.lower(),
            "path": None if workload.trace.path is None else str(workload.trace.path),
            "seed": workload.trace.seed,
            "requests": len(workload.trace.requests),
            "trace_seconds": workload.trace_seconds,
            "prompt_tokens": workload.prompt_tokens,
            "output_tokens": workload.output_tokens,
            "infinite_cache_hit_rate": workload.infinite_cache_hit_rate,
        },
        "compression": plan.compression,
        "length_scale": plan.length_scale,
        "engines": plan.engines,
        "block_size": plan.block_size,
        "num_blocks": plan.num_blocks,
        "tokens_per_chunk": plan.tokens_per_chunk,
        "seed": plan.seed,
        "policies": [summary.as_json(plan.compression) for summary in summaries],
    }


def _seconds(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    if value >= 1.0:
        return f"{value:.2f} s"
    if value >= 1e-3:
        return f"{value * 1e3:.0f} ms" if value >= 1e-2 else f"{value * 1e3:.1f} ms"
    return f"{value * 1e6:.0f} µs"


def _change(before: float, after: float) -> str:
    return f"{(after / before - 1) * 100:+.0f} %" if before > 0 else "-"


def _share(share: float | None, cores: int) -> str:
    return "-" if share is None else f"{share:.0%} of {cores} cores"


def _shares_of_parts(summary: PolicySummary) -> str:
    shares = summary.processor.shares
    engines = sum(share for name, share in shares.items() if name.startswith("engine"))
    parts = (shares.get("client", 0.0), shares.get("frontend", 0.0), engines)
    return " ".join(f"{part:.0%}" for part in parts) if shares else "-"

"""The requests that a demo replays, ready to be sent, and the bound of what a cache could spare."""

from __future__ import annotations

from dataclasses import dataclass

from kvroute.demo.plan import DemoPlan
from kvroute.traces import PromptBuilder, Trace, infinite_cache_tokens, load_trace

_CACHED_BLOCKS = 65_536


@dataclass(frozen=True, slots=True)
class Workload:
    """A trace, its prompts, and facts of them in tokens after scaling.

    `infinite_cache_hit_rate` is the share of prompt tokens that one cache without bound, filled
    the moment a request arrives, would spare: no policy over several engines can reach it.
    """

    trace: Trace
    prompts: PromptBuilder
    prompt_tokens: int
    output_tokens: int
    infinite_cache_hit_rate: float

    @property
    def trace_seconds(self) -> float:
        """Trace time from the first request to the last."""
        return self.trace.requests[-1].timestamp - self.trace.requests[0].timestamp


def prepare_workload(plan: DemoPlan) -> Workload:
    """Loads or generates the trace and makes its blocks, so that the replay need not.

    Raises `kvroute.traces.TraceError` where a trace file cannot be used. Takes about 0.1 µs a
    token.
    """
    trace = load_trace(plan.trace, limit=plan.requests, seed=plan.seed)
    prompts = PromptBuilder(
        length_scale=plan.length_scale, seed=plan.seed, cached_blocks=_CACHED_BLOCKS
    )
    prompt_tokens = sum(len(prompts.prompt(request)) for request in trace.requests)
    spared = infinite_cache_tokens(trace.requests, prompts, plan.block_size)
    return Workload(
        trace=trace,
        prompts=prompts,
        prompt_tokens=prompt_tokens,
        output_tokens=sum(prompts.output_length(request) for request in trace.requests),
        infinite_cache_hit_rate=spared / prompt_tokens,
    )

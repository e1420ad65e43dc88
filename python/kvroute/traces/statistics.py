"""What a trace is like: lengths, bursts, and what one infinite cache would hit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

from kvroute.traces.prompts import PromptBuilder
from kvroute.traces.request import TraceRequest


@dataclass(frozen=True, slots=True)
class TraceStatistics:
    """Lengths in tokens, times in seconds, rates as fractions of 1.

    `infinite_cache_hit_rate` is the share of all block references (partial blocks included) that
    an earlier request of the trace already named. `shared_first_block` is the share of requests
    that begin with the most common first block. A burst is all requests of one timestamp, rounded
    to 10 ms.
    """

    requests: int
    duration: float
    mean_input: float
    median_input: float
    max_input: int
    mean_output: float
    max_output: int
    mean_blocks: float
    max_blocks: int
    block_references: int
    unique_blocks: int
    infinite_cache_hit_rate: float
    shared_first_block: float
    bursts: int
    burst_interval: float


def describe(requests: Sequence[TraceRequest]) -> TraceStatistics:
    """Computes the statistics of at least one request. O(block references)."""
    if not requests:
        raise ValueError("requests: expected at least one, got none")
    references = sum(len(request.hash_ids) for request in requests)
    unique = len({hash_id for request in requests for hash_id in request.hash_ids})
    firsts = Counter(request.hash_ids[0] for request in requests)
    bursts = sorted({round(request.timestamp, 2) for request in requests})
    gaps = [later - earlier for earlier, later in pairwise(bursts)]
    return TraceStatistics(
        requests=len(requests),
        duration=requests[-1].timestamp - requests[0].timestamp,
        mean_input=fmean(request.input_length for request in requests),
        median_input=median(request.input_length for request in requests),
        max_input=max(request.input_length for request in requests),
        mean_output=fmean(request.output_length for request in requests),
        max_output=max(request.output_length for request in requests),
        mean_blocks=references / len(requests),
        max_blocks=max(len(request.hash_ids) for request in requests),
        block_references=references,
        unique_blocks=unique,
        infinite_cache_hit_rate=1 - unique / references,
        shared_first_block=max(firsts.values()) / len(requests),
        bursts=len(bursts),
        burst_interval=median(gaps) if gaps else 0.0,
    )


def infinite_cache_tokens(
    requests: Sequence[TraceRequest], prompts: PromptBuilder, block_size: int
) -> int:
    """Prompt tokens that one infinite cache would spare an engine of `block_size`-token blocks.

    Each request counts the full blocks of its longest prefix that an earlier request had, but
    never its last token, which an engine always computes. No cache can spare more, and one that
    also needs time to fill spares less.
    """
    tokens_of: dict[int, int] = {}
    spared = 0
    for request in requests:
        length = prompts.prompt_length(request)
        shared = 0
        for position, hash_id in enumerate(request.hash_ids):
            if hash_id not in tokens_of:
                break
            shared = position * prompts.block_tokens + tokens_of[hash_id]
        spared += min(shared, length - 1) // block_size * block_size
        for position, hash_id in enumerate(request.hash_ids):
            rest = length - position * prompts.block_tokens
            tokens_of[hash_id] = min(prompts.block_tokens, rest)
    return spared

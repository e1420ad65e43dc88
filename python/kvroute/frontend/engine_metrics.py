"""What an engine's Prometheus text says of its load: vLLM, SGLang, TensorRT-LLM."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from prometheus_client.parser import text_string_to_metric_families

_Figure = Literal["waiting", "running", "kv_usage", "kv_tokens", "kv_blocks", "block_tokens"]
# The router counts requests in 32 bits; nothing that an engine means is above.
_MOST = (1 << 32) - 1
_MOST_TOKENS = 1 << 48


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """One rank's load. None: the engine does not say."""

    waiting: int | None = None
    """Requests in the engine's queue."""
    running: int | None = None
    """Requests in its running batch."""
    kv_usage: float | None = None
    """Share of its KV blocks in use, 0 to 1."""
    kv_tokens: int | None = None
    """Tokens that its KV cache has room for."""


@dataclass(frozen=True, slots=True)
class _Series:
    """Series that give a figure. `rank`: the label that tells the data-parallel rank. Of a label
    in `only`, a series has this value or does not have the label. `older`: its newer name wins.
    `product`: labels whose product is the value, in place of the sample's own."""

    figure: _Figure
    rank: str | None = None
    only: tuple[str, str] | None = None
    older: bool = False
    product: tuple[str, ...] = ()


_SERIES: Mapping[str, tuple[_Series, ...]] = {
    "vllm:num_requests_running": (_Series("running", "engine"),),
    "vllm:num_requests_waiting": (_Series("waiting", "engine"),),
    "vllm:kv_cache_usage_perc": (_Series("kv_usage", "engine"),),
    "vllm:gpu_cache_usage_perc": (_Series("kv_usage", "engine", older=True),),  # before vLLM 0.10
    "vllm:cache_config_info": (
        _Series("kv_tokens", "engine", product=("num_gpu_blocks", "block_size")),
    ),
    # With priority scheduling, series of single priorities lie beside the total.
    "sglang:num_running_reqs": (_Series("running", "dp_rank", ("priority", "")),),
    "sglang:num_queue_reqs": (_Series("waiting", "dp_rank", ("priority", "")),),
    "sglang:token_usage": (_Series("kv_usage", "dp_rank", ("priority", "")),),
    "sglang:max_total_num_tokens": (_Series("kv_tokens", "dp_rank"),),
    "sglang:cache_config_info": (
        _Series("kv_tokens", "dp_rank", older=True, product=("num_pages", "page_size")),
    ),
    # trtllm-serve; the two below come from TensorRT-LLM under Triton.
    "trtllm_num_requests_running": (_Series("running"),),
    "trtllm_num_requests_waiting": (_Series("waiting"),),
    "trtllm_kv_cache_utilization": (_Series("kv_usage"),),
    "nv_trt_llm_request_metrics": (
        _Series("running", only=("request_type", "scheduled")),
        _Series("waiting", only=("request_type", "waiting")),
    ),
    "nv_trt_llm_kv_cache_block_metrics": (
        _Series("kv_usage", only=("kv_cache_block_type", "fraction")),
        _Series("kv_blocks", only=("kv_cache_block_type", "max")),
        _Series("block_tokens", only=("kv_cache_block_type", "tokens_per")),
    ),
}
# An engine writes thousands of lines, mostly histograms; only these are parsed.
_WANTED = re.compile(
    rb"^(?:" + b"|".join(re.escape(name.encode()) for name in _SERIES) + rb")[ \t{][^\r\n]*",
    re.MULTILINE,
)


def parse_engine_metrics(text: bytes, dp_ranks: int = 1) -> list[EngineLoad]:
    """Load of each of `dp_ranks` ranks; an empty list where no known series is in the text.

    Series of one rank that differ in other labels (tensor-parallel ranks) say the same: the
    greatest counts. With one rank, an engine that counts by rank all the same (vLLM's internal
    balancing) is taken together: requests and room are added, usage is the mean. With several, a
    series without a rank is the whole engine's, and each rank gets its even share of the requests,
    rounded up; of the cache, each has what is said. Values that are negative, not finite or above
    2**32 - 1 count as not said. Raises ValueError for a line that is not Prometheus text.
    """
    lines = b"\n".join(_WANTED.findall(text)) + b"\n"
    found: dict[tuple[bool, _Figure], dict[int | None, float]] = {}
    for family in text_string_to_metric_families(lines.decode("utf-8", "replace")):
        for sample in family.samples:
            if not 0 <= sample.value <= _MOST:  # nor NaN
                continue
            for series in _SERIES.get(sample.name, ()):
                if series.only is not None and not _matches(sample.labels, series):
                    continue
                value = _product(sample.labels, series) if series.product else sample.value
                if value is None:
                    continue
                by_rank = found.setdefault((series.older, series.figure), {})
                rank = _rank(sample.labels, series)
                by_rank[rank] = max(value, by_rank.get(rank, 0.0))
    if not found:
        return []

    def values(figure: _Figure) -> Mapping[int | None, float]:
        return found.get((False, figure)) or found.get((True, figure)) or {}

    if blocks := values("kv_blocks"):
        found[False, "kv_tokens"] = {None: blocks[None] * values("block_tokens").get(None, 0.0)}
    return [
        EngineLoad(
            _count(values("waiting"), rank, dp_ranks),
            _count(values("running"), rank, dp_ranks),
            _usage(values("kv_usage"), rank, dp_ranks),
            _room(values("kv_tokens"), rank, dp_ranks),
        )
        for rank in range(dp_ranks)
    ]


def _matches(labels: Mapping[str, str], series: _Series) -> bool:
    assert series.only is not None
    name, value = series.only
    return labels.get(name, value) == value


def _rank(labels: Mapping[str, str], series: _Series) -> int | None:
    text = labels.get(series.rank, "") if series.rank is not None else ""
    return int(text) if text.isdecimal() else None


def _product(labels: Mapping[str, str], series: _Series) -> float | None:
    """None where one of them is no number: an engine that has not measured its memory yet."""
    texts = [labels.get(name, "") for name in series.product]
    if not all(text.isdecimal() and len(text) < 12 for text in texts):
        return None
    return float(math.prod(int(text) for text in texts))


def _count(by_rank: Mapping[int | None, float], rank: int, dp_ranks: int) -> int | None:
    if dp_ranks == 1:
        return min(round(sum(by_rank.values())), _MOST) if by_rank else None
    if rank in by_rank:
        return round(by_rank[rank])
    return math.ceil(by_rank[None] / dp_ranks) if None in by_rank else None


def _usage(by_rank: Mapping[int | None, float], rank: int, dp_ranks: int) -> float | None:
    if not by_rank:
        return None
    if dp_ranks == 1:
        return min(1.0, sum(by_rank.values()) / len(by_rank))
    value = by_rank.get(rank, by_rank.get(None))
    return None if value is None else min(1.0, value)


def _room(by_rank: Mapping[int | None, float], rank: int, dp_ranks: int) -> int | None:
    value = sum(by_rank.values()) if dp_ranks == 1 else by_rank.get(rank, by_rank.get(None, 0.0))
    return int(value) if 1 <= value <= _MOST_TOKENS else None

"""The load in an engine's Prometheus text, in each engine's dialect."""

from __future__ import annotations

import pytest
from kvroute.engines.cost_model import CostModel
from kvroute.engines.metrics import EngineMetrics
from kvroute.engines.prefix_cache import PrefixCache
from kvroute.engines.scheduler import Scheduler
from kvroute.frontend.engine_metrics import EngineLoad, parse_engine_metrics

VLLM = b"""\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="qwen"} 3.0
vllm:num_requests_running{engine="1",model_name="qwen"} 5.0
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="qwen"} 0.0
vllm:num_requests_waiting{engine="1",model_name="qwen"} 7.0
# TYPE vllm:num_requests_waiting_by_reason gauge
vllm:num_requests_waiting_by_reason{engine="0",model_name="qwen",reason="capacity"} 90.0
# HELP vllm:kv_cache_usage_perc KV-cache usage. 1 means 100 percent usage.
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="qwen"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="qwen"} 0.75
# TYPE vllm:gpu_cache_usage_perc gauge
vllm:gpu_cache_usage_perc{engine="0",model_name="qwen"} 0.9
vllm:gpu_cache_usage_perc{engine="1",model_name="qwen"} 0.9
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0",model_name="qwen"} 1.8e+06
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001",model_name="qwen"} 0.0
vllm:time_to_first_token_seconds_count{engine="0",model_name="qwen"} 140.0
"""

OLD_VLLM = b"""\
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{model_name="llama"} 8.0
# TYPE vllm:num_requests_swapped gauge
vllm:num_requests_swapped{model_name="llama"} 0.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{model_name="llama"} 1.0
# TYPE vllm:gpu_cache_usage_perc gauge
vllm:gpu_cache_usage_perc{model_name="llama"} 0.5067
"""

SGLANG = b"""\
# HELP sglang:num_running_reqs The number of running requests.
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{engine_type="unified",model_name="m",pp_rank="0",tp_rank="0"} 4.0
sglang:num_running_reqs{engine_type="unified",model_name="m",pp_rank="0",tp_rank="1"} 4.0
# TYPE sglang:num_queue_reqs gauge
sglang:num_queue_reqs{engine_type="unified",model_name="m",pp_rank="0",tp_rank="0"} 2.0
# TYPE sglang:token_usage gauge
sglang:token_usage{engine_type="unified",model_name="m",pp_rank="0",tp_rank="0"} 0.28
# TYPE sglang:cache_hit_rate gauge
sglang:cache_hit_rate{engine_type="unified",model_name="m",pp_rank="0",tp_rank="0"} 0.0075
"""

SGLANG_RANKS = b"""\
sglang:num_running_reqs{dp_rank="0",model_name="m",priority="",tp_rank="0"} 6.0
sglang:num_running_reqs{dp_rank="0",model_name="m",priority="5",tp_rank="0"} 9.0
sglang:num_running_reqs{dp_rank="1",model_name="m",priority="",tp_rank="2"} 1.0
sglang:num_queue_reqs{dp_rank="1",model_name="m",priority="",tp_rank="2"} 3.0
sglang:token_usage{dp_rank="0",model_name="m",tp_rank="0"} 0.5
"""

TRTLLM = b"""\
# TYPE trtllm_kv_cache_utilization gauge
trtllm_kv_cache_utilization{engine_type="trtllm",model_name="llama"} 0.62
# TYPE trtllm_num_requests_running gauge
trtllm_num_requests_running{engine_type="trtllm",model_name="llama"} 12.0
trtllm_num_requests_waiting{engine_type="trtllm",model_name="llama"} 5.0
"""

TRITON = b"""\
# HELP nv_trt_llm_request_metrics TRT LLM request metrics
# TYPE nv_trt_llm_request_metrics gauge
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="context",version="1"} 1
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="scheduled",version="1"} 4
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="max",version="1"} 512
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="waiting",version="1"} 3
# TYPE nv_trt_llm_kv_cache_block_metrics gauge
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction",model="t",version="1"} 0.0013
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="max",model="t",version="1"} 6239
"""


@pytest.mark.parametrize(
    ("text", "dp_ranks", "loads"),
    [
        (VLLM, 2, [EngineLoad(0, 3, 0.25), EngineLoad(7, 5, 0.75)]),
        (VLLM, 1, [EngineLoad(7, 8, 0.5)]),
        (VLLM, 3, [EngineLoad(0, 3, 0.25), EngineLoad(7, 5, 0.75), EngineLoad()]),
        (OLD_VLLM, 1, [EngineLoad(1, 8, 0.5067)]),
        (SGLANG, 1, [EngineLoad(2, 4, 0.28)]),
        (SGLANG_RANKS, 2, [EngineLoad(None, 6, 0.5), EngineLoad(3, 1, None)]),
        (TRTLLM, 1, [EngineLoad(5, 12, 0.62)]),
        (TRTLLM, 2, [EngineLoad(3, 6, 0.62)] * 2),
        (TRITON, 1, [EngineLoad(3, 4, 0.0013)]),
    ],
)
def test_each_dialect_gives_its_ranks_loads(
    text: bytes, dp_ranks: int, loads: list[EngineLoad]
) -> None:
    assert parse_engine_metrics(text, dp_ranks) == loads
    assert parse_engine_metrics(text.replace(b"\n", b"\r\n"), dp_ranks) == loads


@pytest.mark.parametrize(
    ("text", "dp_ranks", "tokens"),
    [
        ('vllm:cache_config_info{block_size="16",num_gpu_blocks="2500"} 1', 1, [40_000]),
        ('vllm:cache_config_info{block_size="16",num_gpu_blocks="2500"} 1', 2, [40_000] * 2),
        (
            'vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="100"} 1\n'
            'vllm:cache_config_info{block_size="16",engine="1",num_gpu_blocks="200"} 1',
            2,
            [1_600, 3_200],
        ),
        (
            'vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="100"} 1\n'
            'vllm:cache_config_info{block_size="16",engine="1",num_gpu_blocks="200"} 1',
            1,
            [4_800],
        ),
        # Before it has measured its memory.
        ('vllm:cache_config_info{block_size="16",num_gpu_blocks="None"} 1', 1, []),
        ('vllm:cache_config_info{block_size="16",num_gpu_blocks="0"} 1', 1, [None]),
        ('sglang:max_total_num_tokens{model_name="m",tp_rank="0"} 123456.0', 1, [123_456]),
        ('sglang:cache_config_info{num_pages="50",page_size="64"} 1.0', 1, [3_200]),
        (
            'sglang:cache_config_info{num_pages="50",page_size="64"} 1.0\n'
            "sglang:max_total_num_tokens 3201",
            1,
            [3_201],
        ),
        (
            'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="max"} 6239\n'
            'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="tokens_per"} 64',
            1,
            [6239 * 64],
        ),
    ],
)
def test_each_dialect_tells_the_room_of_its_cache(
    text: str, dp_ranks: int, tokens: list[int | None]
) -> None:
    loads = parse_engine_metrics(text.encode(), dp_ranks)
    assert [load.kv_tokens for load in loads] == tokens


def test_a_simulated_engine_tells_the_room_of_its_cache() -> None:
    scheduler = Scheduler(PrefixCache(777), CostModel(), block_size=16)
    (load,) = parse_engine_metrics(EngineMetrics("m", scheduler).text())
    assert load.kv_tokens == 777 * 16


def test_other_texts_give_nothing() -> None:
    assert parse_engine_metrics(b"") == []
    assert parse_engine_metrics(b"python_gc_objects_collected_total 3.0\n") == []
    assert parse_engine_metrics(b'[{"gpuMemUsage": 1, "numActiveRequests": 0}]') == []


def test_names_that_only_begin_alike_are_not_taken() -> None:
    assert parse_engine_metrics(b"vllm:num_requests_running_total 3.0\n") == []


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "-1.0", "4294967296", "1e300"])
def test_a_value_that_cannot_be_counts_as_not_said(value: str) -> None:
    text = f"vllm:num_requests_running {value}\nvllm:num_requests_waiting 2.0\n"
    assert parse_engine_metrics(text.encode()) == [EngineLoad(waiting=2)]


def test_a_sum_over_ranks_is_one_that_the_router_can_count() -> None:
    text = b"".join(b'vllm:num_requests_waiting{engine="%d"} 4e9\n' % rank for rank in range(2))
    assert parse_engine_metrics(text) == [EngineLoad(waiting=2**32 - 1)]


def test_a_broken_line_is_an_error() -> None:
    with pytest.raises(ValueError, match="could not convert"):
        parse_engine_metrics(b"vllm:num_requests_running three\n")


def test_usage_above_one_is_full() -> None:
    assert parse_engine_metrics(b"sglang:token_usage 1.25\n") == [EngineLoad(kv_usage=1.0)]

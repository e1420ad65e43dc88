"""The generated trace against the facts of the real one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from kvroute.traces import (
    FULL_TRACE_REQUESTS,
    TraceRequest,
    TraceStatistics,
    describe,
    generate_trace,
    read_trace,
)

SEEDS = range(6)


@pytest.fixture(scope="module", params=SEEDS)
def facts(request: pytest.FixtureRequest) -> TraceStatistics:
    return describe(generate_trace(seed=request.param))


def test_full_length_takes_an_hour_of_bursts_every_three_seconds(facts: TraceStatistics) -> None:
    assert facts.requests == FULL_TRACE_REQUESTS
    assert facts.burst_interval == pytest.approx(3.0)
    assert facts.bursts == pytest.approx(1180, rel=0.04)
    assert facts.duration == pytest.approx(3537, rel=0.04)


def test_lengths_have_the_real_means(facts: TraceStatistics) -> None:
    assert facts.mean_input == pytest.approx(12_035, rel=0.05)
    assert facts.mean_output == pytest.approx(343, rel=0.03)
    assert facts.mean_blocks == pytest.approx(24.0, rel=0.05)


def test_lengths_have_heavy_tails(facts: TraceStatistics) -> None:
    assert facts.median_input < 0.6 * facts.mean_input
    assert 100_000 < facts.max_input <= 126_195
    assert 200 < facts.max_blocks <= 247
    assert 1_200 < facts.max_output <= 2_000


def test_one_infinite_cache_hits_as_much_as_on_the_real_trace(facts: TraceStatistics) -> None:
    assert facts.infinite_cache_hit_rate == pytest.approx(0.366, abs=0.03)


def test_the_first_block_is_everyones(facts: TraceStatistics) -> None:
    assert facts.shared_first_block == 1.0


def test_a_trace_is_its_seeds_and_a_short_one_begins_the_long_one() -> None:
    long = generate_trace(2000, seed=5)
    assert generate_trace(2000, seed=5) == long
    assert generate_trace(700, seed=5) == long[:700]
    assert generate_trace(2000, seed=6) != long


def test_ids_name_prefixes() -> None:
    trace = generate_trace(3000, seed=1)
    assert_ids_name_prefixes(trace)
    assert max(conversation_turns(trace)) >= 5


def assert_ids_name_prefixes(trace: Sequence[TraceRequest]) -> None:
    parents: dict[int, int | None] = {}
    for request in trace:
        assert len(request.hash_ids) == -(-request.input_length // 512)
        before: int | None = None
        for hash_id in request.hash_ids:
            assert parents.setdefault(hash_id, before) == before
            before = hash_id


def conversation_turns(trace: Sequence[TraceRequest]) -> list[int]:
    """Which turn of its conversation each request is, told from its blocks alone."""
    turns_of: dict[int, int] = {}
    turns = []
    for request in trace:
        full = request.hash_ids[: request.full_blocks]
        turn = 1 + max((turns_of.get(hash_id, 0) for hash_id in full[1:]), default=0)
        turns_of.update(dict.fromkeys(full[1:], turn))
        turns.append(turn)
    return turns


def test_refuses_to_generate_nothing() -> None:
    with pytest.raises(ValueError, match="requests: expected at least 1, got 0"):
        generate_trace(0)


@pytest.mark.skipif("KVROUTE_TRACES" not in os.environ, reason="KVROUTE_TRACES names no folder")
def test_the_real_trace_has_the_stated_facts() -> None:
    trace = read_trace(Path(os.environ["KVROUTE_TRACES"]) / "conversation_trace.jsonl")
    real = describe(trace)
    assert real.requests == 12_031
    assert real.unique_blocks == 182_790
    assert real.block_references == 288_500
    assert real.max_blocks == 247
    assert real.mean_input == pytest.approx(12_035, abs=1)
    assert real.mean_output == pytest.approx(343, abs=1)
    assert real.infinite_cache_hit_rate == pytest.approx(0.3664, abs=1e-4)
    assert real.shared_first_block == 1.0
    assert real.burst_interval == pytest.approx(3.0, abs=0.02)
    assert real.bursts == pytest.approx(1180, abs=20)
    assert_ids_name_prefixes(trace)

"""Batching: every request ends, no block is lost, and equal input gives equal output."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kvroute.engines.cost_model import CostModel
from kvroute.engines.errors import InvalidConfigError, RequestRefusedError
from kvroute.engines.prefix_cache import BlocksRemoved, BlocksStored, PrefixCache
from kvroute.engines.scheduler import Scheduler, StepResult
from kvroute.engines.sequence import EngineSequence

COST = CostModel()


@dataclass(frozen=True)
class Workload:
    block_size: int
    num_blocks: int
    max_num_seqs: int
    budget: int
    requests: list[tuple[int, int, int, int, int]]
    """(step of arrival, family, prompt tokens, output tokens, step of abort or -1)"""


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    block_size = draw(st.integers(1, 5))
    num_blocks = draw(st.integers(2, 16))
    capacity = block_size * num_blocks
    request = st.tuples(
        st.integers(0, 30),
        st.integers(0, 2),
        st.integers(1, capacity - 1),
        st.integers(1, 12),
        st.one_of(st.just(-1), st.integers(0, 60)),
    )
    return Workload(
        block_size,
        num_blocks,
        draw(st.integers(1, 6)),
        draw(st.integers(1, 24)),
        draw(st.lists(request, min_size=1, max_size=12)),
    )


def make_sequence(
    name: str, family: int, prompt: int, output: int, block_size: int
) -> EngineSequence:
    """A sequence of a family shares its prompt's prefix with the others of the family."""
    names = [(family, depth) for depth in range(prompt // block_size)]
    return EngineSequence(name, prompt, output, names, lambda depth: (name, depth))


def run(workload: Workload) -> list[StepResult]:
    """Drive a scheduler through a workload in virtual time, checking what must always hold."""
    cache = PrefixCache(workload.num_blocks)
    scheduler = Scheduler(
        cache,
        COST,
        block_size=workload.block_size,
        max_num_seqs=workload.max_num_seqs,
        max_num_batched_tokens=workload.budget,
    )
    live: dict[str, EngineSequence] = {}
    arrivals = sorted(
        (request[0], position, request) for position, request in enumerate(workload.requests)
    )
    capacity = workload.block_size * workload.num_blocks
    aborts: list[tuple[int, EngineSequence]] = []
    ended: set[str] = set()
    results: list[StepResult] = []
    held: set[object] = set()
    now = 0.0
    step = 0
    while arrivals or scheduler.has_work:
        while arrivals and arrivals[0][0] <= step:
            _, position, (_, family, prompt, output, abort_at) = arrivals.pop(0)
            sequence = make_sequence(str(position), family, prompt, output, workload.block_size)
            if prompt + output > capacity:
                with pytest.raises(RequestRefusedError, match="maximum context length"):
                    scheduler.add(sequence)
                continue
            scheduler.add(sequence)
            live[sequence.request_id] = sequence
            if abort_at >= 0:
                aborts.append((abort_at, sequence))
        for abort_at, sequence in aborts:
            if abort_at == step and sequence.request_id in live:
                assert scheduler.abort(sequence)
                assert not scheduler.abort(sequence)
                del live[sequence.request_id]
        result = scheduler.step(now)
        results.append(result)
        check_step(workload, scheduler, result, live)
        for event in result.cache_events:
            if isinstance(event, BlocksStored):
                assert event.parent is None or event.parent in held
                held |= set(event.names)
            elif isinstance(event, BlocksRemoved):
                held -= set(event.names)
        assert held == cache.names()
        for sequence in result.finished:
            assert sequence.emitted == sequence.max_tokens
            ended.add(sequence.request_id)
            del live[sequence.request_id]
        now = result.ends_at
        step += 1
        assert step < 20_000, "no progress"
    assert not live
    assert cache.num_available == cache.num_blocks
    assert cache.clear()
    return results


def check_step(
    workload: Workload,
    scheduler: Scheduler,
    result: StepResult,
    live: dict[str, EngineSequence],
) -> None:
    assert result.prefill_tokens + result.decode_tokens <= workload.budget
    assert scheduler.num_running <= workload.max_num_seqs
    if result.prefill_tokens + result.decode_tokens:
        assert result.ends_at > result.started_at
    assert set(result.first_tokens) <= set(result.emitted)
    blocks = 0
    for sequence in live.values():
        assert sequence.blocks_named + sequence.blocks_unnamed <= workload.num_blocks
        assert sequence.tokens == sequence.prompt_tokens + sequence.emitted
        if sequence not in result.finished:
            blocks += sequence.blocks_unnamed
        if sequence.cached_tokens >= 0:
            assert sequence.cached_tokens < sequence.prompt_tokens
            assert sequence.cached_tokens % workload.block_size == 0
    cache = scheduler.cache
    assert cache.num_named + blocks <= cache.num_blocks
    for sequence in result.emitted:
        if sequence not in result.finished:
            covered = (sequence.blocks_named + sequence.blocks_unnamed) * workload.block_size
            assert covered >= sequence.computed == sequence.tokens - 1


@settings(max_examples=300, deadline=None)
@given(workloads())
def test_every_request_ends_and_no_block_is_lost(workload: Workload) -> None:
    run(workload)


def summary(results: list[StepResult]) -> list[object]:
    return [
        (
            result.ends_at,
            [sequence.request_id for sequence in result.emitted],
            [sequence.request_id for sequence in result.preempted],
            [str(event) for event in result.cache_events if isinstance(event, BlocksRemoved)],
        )
        for result in results
    ]


@settings(max_examples=30, deadline=None)
@given(workloads())
def test_the_same_workload_gives_the_same_steps(workload: Workload) -> None:
    assert summary(run(workload)) == summary(run(workload))


def scheduler_of(num_blocks: int = 64, block_size: int = 4, **limits: int) -> Scheduler:
    return Scheduler(PrefixCache(num_blocks), COST, block_size=block_size, **limits)


def finish(scheduler: Scheduler, sequence: EngineSequence) -> list[StepResult]:
    scheduler.add(sequence)
    results = []
    while scheduler.has_work:
        results.append(scheduler.step(0.0))
    return results


def test_a_prompt_that_is_cached_to_its_end_still_computes_its_last_block() -> None:
    scheduler = scheduler_of()
    finish(scheduler, make_sequence("a", 0, 12, 1, 4))
    again = make_sequence("b", 0, 12, 1, 4)
    results = finish(scheduler, again)
    assert again.cached_tokens == 8
    assert results[0].prefill_tokens == 4


def test_a_longer_prompt_hits_all_that_is_cached() -> None:
    scheduler = scheduler_of()
    finish(scheduler, make_sequence("a", 0, 12, 1, 4))
    longer = make_sequence("b", 0, 13, 1, 4)
    results = finish(scheduler, longer)
    assert longer.cached_tokens == 12
    assert results[0].prefill_tokens + results[0].decode_tokens == 1


def test_generated_blocks_are_cached_too() -> None:
    scheduler = scheduler_of()
    first = EngineSequence("a", 4, 9, ["p"], lambda depth: f"g{depth}")
    finish(scheduler, first)
    assert scheduler.cache.names() == {"p", "g1", "g2"}
    assert scheduler.cache.match(["p", "g1", "g2"]) == 3


def test_a_sequence_without_names_for_its_output_keeps_it_to_itself() -> None:
    scheduler = scheduler_of()
    finish(scheduler, EngineSequence("a", 5, 9, ["p"]))
    finish(scheduler, EngineSequence("b", 4, 9, ["q"], lambda _: None))
    assert scheduler.cache.names() == {"p", "q"}


def test_a_long_prompt_is_computed_in_chunks_beside_decoding() -> None:
    scheduler = scheduler_of(max_num_batched_tokens=10)
    scheduler.add(make_sequence("a", 0, 4, 20, 4))
    scheduler.step(0.0)
    scheduler.add(make_sequence("b", 1, 24, 2, 4))
    steps = [scheduler.step(0.0) for _ in range(3)]
    assert [(step.prefill_tokens, step.decode_tokens) for step in steps] == [(9, 1), (9, 1), (6, 1)]
    assert [len(step.first_tokens) for step in steps] == [0, 0, 1]


def test_when_blocks_run_out_the_latest_waits_again_and_still_ends() -> None:
    scheduler = scheduler_of(num_blocks=4)
    first = make_sequence("a", 0, 7, 8, 4)
    second = make_sequence("b", 1, 7, 8, 4)
    later = make_sequence("c", 2, 1, 1, 4)
    scheduler.add(first)
    scheduler.add(second)
    preempted: list[str] = []
    ended: list[str] = []
    scheduler.step(0.0)
    scheduler.add(later)
    while scheduler.has_work:
        result = scheduler.step(0.0)
        assert not (result.preempted and result.admitted)
        preempted += [sequence.request_id for sequence in result.preempted]
        ended += [sequence.request_id for sequence in result.finished]
    assert preempted == ["b"]
    assert ended == ["a", "c", "b"]
    assert second.preemptions == 1
    assert second.emitted == 8


def test_waiting_requests_are_served_in_order() -> None:
    scheduler = scheduler_of(num_blocks=4, max_num_seqs=8)
    scheduler.add(make_sequence("a", 0, 12, 1, 4))
    scheduler.add(make_sequence("large", 1, 14, 1, 4))
    scheduler.add(make_sequence("small", 2, 1, 1, 4))
    order = []
    while scheduler.has_work:
        order += [sequence.request_id for sequence in scheduler.step(0.0).admitted]
    assert order == ["a", "large", "small"]


@pytest.mark.parametrize(
    ("prompt", "output", "field"), [(0, 1, "prompt"), (1, 0, "max_tokens"), (200, 57, "prompt")]
)
def test_what_can_never_run_is_refused_by_name(prompt: int, output: int, field: str) -> None:
    with pytest.raises(RequestRefusedError, match=field) as refusal:
        scheduler_of().add(make_sequence("a", 0, prompt, output, 4))
    assert refusal.value.param == field


def test_an_idle_step_takes_no_time() -> None:
    result = scheduler_of().step(3.0)
    assert result.started_at == result.ends_at == 3.0


@pytest.mark.parametrize("name", ["block_size", "max_num_seqs", "max_num_batched_tokens"])
def test_limits_must_be_positive(name: str) -> None:
    limits = {"block_size": 4, name: 0}
    with pytest.raises(InvalidConfigError, match=name):
        Scheduler(PrefixCache(4), COST, **limits)  # type: ignore[arg-type]


def test_received_blocks_come_into_the_cache_without_being_computed() -> None:
    cache = PrefixCache(16)
    scheduler = Scheduler(cache, CostModel(), block_size=4)
    sequence = EngineSequence("r", 14, 2, ["a", "b", "c"])
    sequence.received_blocks = 3
    kept: list[object] = []
    sequence.on_computed = kept.extend
    scheduler.add(sequence)
    first = scheduler.step(0.0)
    assert (first.prefill_tokens, sequence.cached_tokens) == (2, 12)
    assert [event.names for event in first.cache_events] == [["a", "b", "c"]]
    scheduler.step(first.ends_at)
    assert kept == ["a", "b", "c"]
    assert cache.usage == 0.0


def test_a_prompt_received_to_its_end_still_computes_its_last_block() -> None:
    scheduler = Scheduler(PrefixCache(16), CostModel(), block_size=4)
    sequence = EngineSequence("r", 8, 1, ["a", "b"])
    sequence.received_blocks = 2
    scheduler.add(sequence)
    assert scheduler.step(0.0).prefill_tokens == 4
    assert sequence.cached_tokens == 4


def test_a_step_that_finds_no_room_is_empty() -> None:
    cache = PrefixCache(4)
    scheduler = Scheduler(cache, CostModel(), block_size=4)
    assert cache.take_blocks(3)  # kept by nobody that the scheduler knows
    scheduler.add(EngineSequence("r", 8, 1, ["a", "b"]))
    assert scheduler.step(0.0).is_empty
    cache.release((), 0, unnamed=3)
    assert not scheduler.step(0.0).is_empty

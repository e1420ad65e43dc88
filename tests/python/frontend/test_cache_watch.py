"""What a cache watch concludes from predictions and reports."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kvroute.frontend.answer_tail import NO_USAGE, Usage
from kvroute.frontend.cache_watch import LEAST, WINDOW, CacheWatch, PairWindow

BLOCK = 16
LENGTH = 160


def note(watch: CacheWatch, predicted: int, reported: int | None, times: int = 1) -> list[str]:
    """Causes that began, and with a minus those that ended."""
    return [
        finding.cause if finding.begun else f"-{finding.cause}"
        for _ in range(times)
        for finding in watch.note(LENGTH, predicted, Usage(LENGTH, reported))
    ]


def test_agreement_finds_nothing() -> None:
    watch = CacheWatch(BLOCK)
    assert note(watch, 128, 128, 500) == []
    assert note(watch, 0, 0, 500) == []
    assert (watch.compared, watch.predicted_tokens, watch.reported_tokens) == (500, 64000, 64000)


def test_half_of_what_was_predicted_is_no_finding_and_less_is() -> None:
    assert note(CacheWatch(BLOCK), 128, 64, 500) == []
    assert note(CacheWatch(BLOCK), 128, 48, LEAST - 1) == []
    assert note(CacheWatch(BLOCK), 128, 48, LEAST) == ["misses"]


def test_twice_what_was_predicted_is_no_finding_and_more_is() -> None:
    assert note(CacheWatch(BLOCK), 64, 128, 500) == []
    assert note(CacheWatch(BLOCK), 64, 144, LEAST) == ["unforeseen_hits"]
    assert note(CacheWatch(BLOCK), 0, 16, LEAST) == ["unforeseen_hits"]


def test_a_cause_is_told_once_and_again_only_after_it_had_been_well() -> None:
    watch = CacheWatch(BLOCK)
    assert note(watch, 128, 0, 1000) == ["misses"]
    assert note(watch, 128, 80, WINDOW) == []  # neither bad nor well
    assert note(watch, 128, 0, WINDOW) == []
    assert note(watch, 128, 128, WINDOW) == ["-misses"]
    assert note(watch, 128, 0, WINDOW) == ["misses"]


def test_a_prompt_that_is_cached_to_its_end_may_lack_its_last_block() -> None:
    assert note(CacheWatch(BLOCK), LENGTH, LENGTH - BLOCK, 500) == []
    one_block = CacheWatch(BLOCK)
    for _ in range(500):
        assert one_block.note(BLOCK, BLOCK, Usage(BLOCK, 0)) == []
    assert one_block.compared == 0


def test_less_than_a_block_is_nothing() -> None:
    watch = CacheWatch(BLOCK)
    assert note(watch, 0, BLOCK - 1, 500) == []
    assert note(watch, BLOCK, 2 * BLOCK - 1, 500) == []
    assert watch.reported_tokens == 500 * BLOCK


def test_an_engine_that_never_reports_is_never_said_to_miss() -> None:
    watch = CacheWatch(BLOCK)
    assert note(watch, 128, None, 1000) == ["unreported"]
    assert watch.compared == 0
    assert note(watch, 128, 128) == ["-unreported"]


def test_without_a_predicted_block_no_report_is_missing() -> None:
    assert note(CacheWatch(BLOCK), 15, None, 1000) == []


def test_no_reports_between_two_count_as_misses() -> None:
    watch = CacheWatch(BLOCK)
    assert note(watch, 128, 32) == []
    for _ in range(20):
        assert note(watch, 128, None, 3) == [], "unknown as long as no report follows"
        found = note(watch, 128, 32)
        if found:
            break
    assert found == ["misses"]
    assert watch.compared == watch.predicted_tokens // 128 >= LEAST


def test_no_reports_before_the_first_stay_unknown() -> None:
    watch = CacheWatch(BLOCK)
    note(watch, 128, None, 20)
    note(watch, 128, 128)
    assert watch.compared == 1


def test_reports_that_end_are_told_apart() -> None:
    watch = CacheWatch(BLOCK)
    note(watch, 128, 128, 100)
    assert note(watch, 128, None, 1000) == ["reports_ended"]
    assert watch.compared == 100
    assert note(watch, 128, 128) == ["-reports_ended"]
    assert watch.compared == 101, "so many without a report stay unknown"


def test_another_prompt_length_is_found() -> None:
    watch = CacheWatch(BLOCK)
    found = [f for _ in range(200) for f in watch.note(LENGTH, 0, Usage(LENGTH + 1, None))]
    assert [(f.cause, f.begun) for f in found] == [("prompt_length", True)]
    assert "161, not 160" in found[0].numbers
    assert watch.length_mismatches == 200
    ended = [f for _ in range(WINDOW) for f in watch.note(LENGTH, 0, Usage(LENGTH, None))]
    assert [(f.cause, f.begun) for f in ended] == [("prompt_length", False)]


def test_a_few_other_lengths_are_no_finding() -> None:
    watch = CacheWatch(BLOCK)
    for number in range(1000):
        differs = number % 5 == 0
        assert watch.note(LENGTH, 0, Usage(LENGTH + differs, None)) == []
    assert watch.length_mismatches == 200


def test_an_answer_without_usage_says_nothing() -> None:
    watch = CacheWatch(BLOCK)
    for _ in range(1000):
        assert watch.note(LENGTH, 128, NO_USAGE) == []
    assert watch.compared == 0


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99))), st.integers(1, 20))
def test_a_window_has_the_sums_of_its_last_pairs(pairs: list[tuple[int, int]], size: int) -> None:
    window = PairWindow(size)
    for count, pair in enumerate(pairs, 1):
        window.add(*pair)
        last = pairs[max(0, count - size) : count]
        assert (len(window), window.first, window.second) == (
            len(last),
            sum(first for first, _ in last),
            sum(second for _, second in last),
        )


def history(seed: int) -> list[tuple[int, int]]:
    """Blocks predicted and truly cached, in stretches of different truth."""
    rng = random.Random(seed)
    blocks = []
    for _ in range(rng.randrange(1, 6)):
        share, least = rng.choice([0.0, 0.3, 0.5, 0.9, 1.0, 1.5, 3.0]), rng.choice([0, 0, 4])
        for _ in range(rng.randrange(120)):
            predicted = rng.randrange(least, 12)
            blocks.append((predicted, round(predicted * share * rng.uniform(0.8, 1.2))))
    return blocks


@given(st.integers(0, 1 << 32))
@settings(deadline=None, max_examples=30)
def test_it_says_what_the_sums_of_the_last_compared_requests_say(seed: int) -> None:
    """Against a statement of the rule over the whole history."""
    watch = CacheWatch(BLOCK)
    compared: list[tuple[int, int]] = []
    on: set[str] = set()
    for predicted, reported in history(seed):
        found = watch.note(1600, predicted * BLOCK, Usage(1600, reported * BLOCK))
        before = set(on)
        if predicted or reported:
            compared.append((predicted, reported))
        last = compared[-WINDOW:]
        expected, had = sum(p for p, _ in last), sum(r for _, r in last)
        if len(last) >= LEAST:
            for cause, bad, well in (
                ("misses", had < expected / 2, had >= expected * 3 / 4),
                ("unforeseen_hits", had > expected * 2, had * 3 <= expected * 4),
            ):
                if bad:
                    on.add(cause)
                elif well:
                    on.discard(cause)
        assert {f.cause for f in found if f.begun} == on - before
        assert {f.cause for f in found if not f.begun} == before - on


@pytest.mark.parametrize("reports", ["hits", "never"])
@given(seed=st.integers(0, 1 << 32))
@settings(deadline=None, max_examples=30)
def test_engines_that_leave_reports_out_are_not_said_to_miss_more_than_they_do(
    reports: str, seed: int
) -> None:
    """Beside one that always tells, with the same cache."""
    told, always = CacheWatch(BLOCK), CacheWatch(BLOCK)
    hits = missed = 0
    for predicted, cached in history(seed):
        tells = reports == "hits" and cached > 0
        always.note(1600, predicted * BLOCK, Usage(1600, cached * BLOCK))
        found = told.note(1600, predicted * BLOCK, Usage(1600, cached * BLOCK if tells else None))
        hits += cached
        missed += predicted if not cached else 0
        if reports == "never":
            assert {finding.cause for finding in found} <= {"unreported"}
            assert told.compared == 0
        else:
            assert told.compared <= always.compared
            assert told.reported_tokens == always.reported_tokens == hits * BLOCK
            unknown = always.predicted_tokens - told.predicted_tokens
            assert 0 <= unknown <= missed * BLOCK

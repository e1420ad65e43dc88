"""What a router counts."""

from __future__ import annotations

import dataclasses

import pytest
from kvroute.ray_serve.counters import MAX_REASONS, OTHER_REASON, TOTALS, Counters, Durations


def test_every_plain_integer_is_among_the_totals() -> None:
    counters = Counters()
    plain = [f.name for f in dataclasses.fields(counters) if isinstance(f.default, int)]
    assert plain == list(TOTALS)
    assert counters.totals() == dict.fromkeys(TOTALS, 0)


def test_decisions_add_their_tokens() -> None:
    counters = Counters()
    counters.decided(100, 64)
    counters.decided(50, 0)
    totals = counters.totals()
    assert (totals["decisions"], totals["prompt_tokens"], totals["cached_tokens"]) == (2, 150, 64)


def test_the_first_of_each_reason_is_told_from_the_next() -> None:
    counters = Counters()
    assert counters.fell_back("no_eligible_worker")
    assert not counters.fell_back("no_eligible_worker")
    assert counters.fell_back("internal")
    assert counters.refused("MissingTokenIdsError")
    assert counters.fallbacks == {"no_eligible_worker": 2, "internal": 1}
    assert counters.refusals == {"MissingTokenIdsError": 1}


def test_reasons_are_bounded() -> None:
    counters = Counters()
    for i in range(3 * MAX_REASONS):
        counters.fell_back(f"reason {i}")
    assert len(counters.fallbacks) == MAX_REASONS + 1
    assert counters.fallbacks[OTHER_REASON] == 2 * MAX_REASONS
    assert sum(counters.fallbacks.values()) == 3 * MAX_REASONS


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0.0, 0), (1.0, 0), (1.5, 1), (2.0, 1), (2.5, 2), (1e9, 2)]
)
def test_a_duration_lies_in_the_first_bucket_that_it_does_not_exceed(
    seconds: float, bucket: int
) -> None:
    durations = Durations((1.0, 2.0))
    durations.observe(seconds)
    assert [i for i, n in enumerate(durations.counts) if n] == [bucket]
    assert durations.sums[bucket] == seconds


def test_the_buckets_tell_a_choice_of_50_microseconds_from_one_of_100() -> None:
    durations = Durations()
    durations.observe(50e-6)
    durations.observe(100e-6)
    assert sum(n > 0 for n in durations.counts) == 2

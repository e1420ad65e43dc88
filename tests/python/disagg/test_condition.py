from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kvroute.disagg.condition import Condition
from kvroute.disagg.estimate import estimate_tokens

SETTINGS = settings(
    deadline=None,  # and no check of speed: machines are busy
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
COUNTS = st.integers(0, 10_000)


@SETTINGS
@given(st.integers(1, 10_000), st.integers(-1, 1))
def test_a_request_at_the_threshold_goes_in_two_legs(threshold: int, off: int) -> None:
    decision = Condition(threshold).decide(threshold + off, prefill_workers=1)
    assert decision.two_legs is (off >= 0)
    assert decision.reason == ("disaggregated" if off >= 0 else "below_threshold")


@SETTINGS
@given(st.integers(1, 60), st.integers(-1, 1))
def test_the_threshold_is_met_by_the_estimate_of_a_text(threshold: int, off: int) -> None:
    tokens = estimate_tokens({"prompt": "x" * (4 * threshold + off)})
    decision = Condition(threshold).decide(tokens, prefill_workers=1)
    assert decision.two_legs is (off >= 0)


@SETTINGS
@given(st.integers(max_value=0), COUNTS)
def test_no_threshold_or_a_negative_one_keeps_nothing(threshold: int, tokens: int) -> None:
    condition = Condition(threshold)
    assert condition.routing_threshold == 0
    assert condition.decide(tokens, prefill_workers=1).two_legs


@SETTINGS
@given(st.integers(1, 10_000), st.integers(-1, 1))
def test_what_the_decoder_holds_stays_with_it(threshold: int, off: int) -> None:
    condition = Condition(uncached_threshold=threshold)
    decision = condition.decide(20_000, prefill_workers=1, uncached_tokens=threshold + off)
    assert decision.two_legs is (off >= 0)
    assert decision.reason == ("disaggregated" if off >= 0 else "cached_at_decoder")


def test_a_decoder_of_which_nothing_is_known_holds_nothing() -> None:
    condition = Condition(uncached_threshold=100)
    assert condition.decide(100, prefill_workers=1).two_legs
    assert condition.decide(99, prefill_workers=1).reason == "cached_at_decoder"


def test_without_a_prefill_worker_a_request_stays() -> None:
    decision = Condition().decide(500, prefill_workers=0)
    assert (decision.two_legs, decision.reason) == (False, "no_prefill_worker")


@SETTINGS
@given(st.integers(-5, 200), st.none() | st.integers(0, 200), COUNTS, st.integers(0, 2))
def test_the_reason_tells_the_path(
    threshold: int, uncached: int | None, tokens: int, workers: int
) -> None:
    decision = Condition(threshold, uncached).decide(
        tokens, prefill_workers=workers, uncached_tokens=tokens // 2
    )
    assert decision.two_legs is (decision.reason == "disaggregated")


def test_a_negative_uncached_threshold_is_refused() -> None:
    with pytest.raises(ValueError, match="uncached_threshold: expected at least 0, got -1"):
        Condition(uncached_threshold=-1)

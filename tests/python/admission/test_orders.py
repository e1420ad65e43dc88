"""Each order by itself."""

from __future__ import annotations

import pytest
from kvroute.admission import Fcfs, Order, Priority, ShortestUncached, Waiting


def in_order(order: Order, requests: list[Waiting]) -> list[int]:
    ranked = sorted(requests, key=lambda request: (order.key(request), request.number))
    return [request.number for request in ranked]


def test_fcfs_is_by_arrival() -> None:
    requests = [Waiting(9.0 - n, n, priority=-n, uncached_tokens=9 - n) for n in range(4)]
    assert in_order(Fcfs(), requests) == [0, 1, 2, 3]


def test_priority_is_by_the_lower_number_and_then_by_arrival() -> None:
    given = [0, 5, -1, 0, 2.5, -1]
    requests = [Waiting(0.0, n, priority=priority) for n, priority in enumerate(given)]
    assert in_order(Priority(), requests) == [2, 5, 0, 3, 4, 1]


def test_shortest_uncached_is_by_what_must_be_computed() -> None:
    given = [500, 20, 0, 500, 21]
    requests = [Waiting(0.0, n, uncached_tokens=tokens) for n, tokens in enumerate(given)]
    assert in_order(ShortestUncached(), requests) == [2, 1, 4, 0, 3]


def test_a_long_prompt_that_waited_comes_before_new_short_ones() -> None:
    order = ShortestUncached(aging=100.0)
    long = Waiting(0.0, 0, uncached_tokens=1000)
    assert order.key(Waiting(9.0, 1, uncached_tokens=50)) < order.key(long)
    assert order.key(long) < order.key(Waiting(10.0, 2, uncached_tokens=50))


def test_without_aging_it_waits_for_ever() -> None:
    order = ShortestUncached(aging=0)
    assert order.key(Waiting(1e9, 1, uncached_tokens=1)) < order.key(Waiting(0.0, 0, 0.0, 2))


@pytest.mark.parametrize("aging", [-1.0, float("inf"), float("nan")])
def test_aging_is_a_number_of_tokens_a_second(aging: float) -> None:
    with pytest.raises(ValueError, match="aging: expected tokens a second"):
        ShortestUncached(aging)

"""Shares between tenants, order within them."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvroute.admission import ORDERS, Fcfs, Waiting
from kvroute.admission.fair_line import FairLine

numbers = itertools.count()


def request(tenant: str = "", tokens: int = 1, priority: float = 0.0) -> Waiting:
    return Waiting(0.0, next(numbers), priority, tokens, tenant)


def serve_first(line: FairLine) -> Waiting:
    first = line.first()
    assert first is not None
    line.serve(first)
    return first


def test_one_tenant_is_served_in_order() -> None:
    line = FairLine(Fcfs())
    requests = [request(tokens=9 - n) for n in range(5)]
    for entry in random.Random(3).sample(requests, 5):
        line.add(entry)
    assert [serve_first(line) for _ in range(5)] == requests
    assert len(line) == 0
    assert line.first() is None


@pytest.mark.parametrize(("long", "short"), [(1000, 10), (8, 8), (5000, 1)])
def test_tenants_with_somebody_waiting_get_equal_tokens(long: int, short: int) -> None:
    line = FairLine(Fcfs())
    sizes = {"long": long, "short": short}
    for tenant, size in sizes.items():
        line.add(request(tenant, size))
    served = Counter[str]()
    while sum(served.values()) < 20 * long:
        tenant = serve_first(line).tenant
        served[tenant] += sizes[tenant]
        line.add(request(tenant, sizes[tenant]))
        assert abs(served["long"] - served["short"]) <= long + short


def test_one_who_sends_much_does_not_keep_another_waiting() -> None:
    line = FairLine(Fcfs())
    for _ in range(100):
        line.add(request("flood", 50))
    for _ in range(10):
        serve_first(line)
    late = request("late", 50)
    line.add(late)
    assert late in [serve_first(line), serve_first(line)]


def test_one_who_comes_late_has_no_claim_for_the_past() -> None:
    line = FairLine(Fcfs())
    for _ in range(50):
        line.add(request("early", 10))
    for _ in range(20):
        serve_first(line)
    for _ in range(50):
        line.add(request("late", 10))
    served = Counter(serve_first(line).tenant for _ in range(20))
    assert served == {"early": 10, "late": 10}


def test_leaving_and_coming_back_does_not_wipe_out_what_was_served() -> None:
    line = FairLine(Fcfs())
    for _ in range(10):
        line.add(request("patient", 10))
    line.add(request("greedy", 1000))
    assert [serve_first(line).tenant for _ in range(2)] == ["patient", "greedy"]
    line.add(request("greedy", 1000))
    assert [serve_first(line).tenant for _ in range(9)] == ["patient"] * 9


def test_only_the_eligible_are_first() -> None:
    line = FairLine(Fcfs())
    a, b, c = request("x"), request("x"), request("y")
    for entry in (a, b, c):
        line.add(entry)
    assert line.first(lambda r: r is not a) in (b, c)
    assert line.first(lambda r: r is b) is b
    assert line.first(lambda _: False) is None
    assert len(line) == 3


def test_what_is_not_there_cannot_be_taken_out() -> None:
    line = FairLine(Fcfs())
    line.add(request())
    with pytest.raises(KeyError):
        line.remove(request())
    with pytest.raises(KeyError):
        line.serve(request("other"))
    assert len(line) == 1


def test_tenants_that_left_are_forgotten_within_a_bound() -> None:
    line = FairLine(Fcfs())
    line.add(request("stays", 1))
    for n in range(3000):
        entry = request(f"t{n}", 10)
        line.add(entry)
        line.serve(entry)
    assert len(line._served) <= 1025


class Model:
    """All that wait in one list; who is next is found by looking at all of them."""

    def __init__(self, order: str) -> None:
        self.key = ORDERS[order]().key
        self.waiting: list[Waiting] = []
        self.served: dict[str, float] = {}
        self.floor = 0.0

    def add(self, entry: Waiting) -> None:
        if all(entry.tenant != other.tenant for other in self.waiting):
            past = self.served.get(entry.tenant, 0.0)
            self.served[entry.tenant] = max(past, self.floor)
        self.waiting.append(entry)

    def first(self) -> Waiting:
        return min(self.waiting, key=lambda r: (self.served[r.tenant], self.key(r), r.number))

    def leave(self, entry: Waiting) -> None:
        self.waiting.remove(entry)
        if not self.waiting:
            self.served, self.floor = {}, 0.0

    def serve(self, entry: Waiting) -> None:
        before = self.served[entry.tenant]
        self.floor = max(self.floor, before)
        self.served[entry.tenant] = before + max(1, entry.uncached_tokens)
        self.leave(entry)


@given(
    st.sampled_from(sorted(ORDERS)),
    st.lists(
        st.one_of(
            st.tuples(
                st.sampled_from("abcd"), st.integers(0, 40), st.integers(-2, 2), st.integers(0, 9)
            ),
            st.sampled_from(["serve", "leave"]),
        ),
        max_size=60,
    ),
    st.randoms(use_true_random=False),
)
def test_it_is_the_model(order: str, steps: list[object], rng: random.Random) -> None:
    line, model = FairLine(ORDERS[order]()), Model(order)
    for number, step in enumerate(steps):
        if isinstance(step, tuple):
            tenant, tokens, priority, arrived = step
            entry = Waiting(arrived, number, priority, tokens, tenant)
            line.add(entry)
            model.add(entry)
        elif model.waiting and step == "serve":
            expected = model.first()
            assert line.first() is expected
            line.serve(expected)
            model.serve(expected)
        elif model.waiting:
            entry = rng.choice(model.waiting)
            line.remove(entry)
            model.leave(entry)
        assert len(line) == len(model.waiting)
        assert {r.number for r in line} == {r.number for r in model.waiting}

"""A router's numbers among Ray's metrics."""

from __future__ import annotations

import logging
import sys
import threading
import types
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import kvroute
import pytest
from kvroute.ray_serve.counters import TOTALS, Counters, Durations
from kvroute.ray_serve.instruments import Instruments
from kvroute.ray_serve.metrics import MetricsPublisher

TAGS = {"application": "app", "deployment": "Model"}
NEVER = 3600.0  # an interval that ends with close() alone
PROMPT = list(range(100))


class RayMetrics(types.ModuleType):
    """Stands for ray.util.metrics: as strict as it, and keeps what it is given."""

    def __init__(self) -> None:
        super().__init__("ray.util.metrics")
        self.series: dict[tuple[str, ...], Any] = defaultdict(float)
        module = self

        class Instrument:
            def __init__(
                self,
                name: str,
                description: str = "",
                tag_keys: tuple[str, ...] | None = None,
                boundaries: list[float] | None = None,
            ) -> None:
                assert description
                assert boundaries is None or all(b > 0 for b in boundaries)
                self.name, self.keys = name, set(tag_keys or ())

            def at(self, tags: dict[str, str]) -> tuple[str, ...]:
                assert tags.keys() == self.keys
                assert all(isinstance(value, str) for value in tags.values())
                assert {k: v for k, v in tags.items() if k in TAGS} == TAGS
                return (self.name, *(v for k, v in sorted(tags.items()) if k not in TAGS))

        class Counter(Instrument):
            def inc(self, value: float, tags: dict[str, str]) -> None:
                assert value > 0
                module.series[self.at(tags)] += value

        class Gauge(Instrument):
            def set(self, value: float, tags: dict[str, str]) -> None:
                module.series[self.at(tags)] = value

        class Histogram(Instrument):
            def observe(self, value: float, tags: dict[str, str]) -> None:
                module.series.setdefault(self.at(tags), []).append(value)

        self.Counter, self.Gauge, self.Histogram = Counter, Gauge, Histogram


@pytest.fixture
def ray_metrics(monkeypatch: pytest.MonkeyPatch) -> RayMetrics:
    module = RayMetrics()
    util = types.ModuleType("ray.util")
    util.metrics = module  # type: ignore[attr-defined]  # a module made here
    monkeypatch.setitem(sys.modules, "ray", types.ModuleType("ray"))
    monkeypatch.setitem(sys.modules, "ray.util", util)
    monkeypatch.setitem(sys.modules, "ray.util.metrics", module)
    return module


@pytest.fixture
def router() -> Iterator[kvroute.KvRouter]:
    with kvroute.KvRouter(block_size=16) as router:
        yield router


def publisher(counters: Counters, router: kvroute.KvRouter, **arguments: Any) -> MetricsPublisher:
    arguments = {"interval_s": NEVER, **arguments}
    return MetricsPublisher(**TAGS, counters=counters, router_stats=router.stats, **arguments)


def test_close_publishes_all_counters(ray_metrics: RayMetrics, router: kvroute.KvRouter) -> None:
    counters = Counters()
    for value, name in enumerate(TOTALS, 1):
        setattr(counters, name, value)
    counters.fell_back("internal")
    counters.refused("MissingTokenIdsError")
    counters.choose_seconds.observe(50e-6)
    publishing = publisher(counters, router)
    publishing.start()
    publishing.close()
    for value, name in enumerate(TOTALS, 1):
        assert ray_metrics.series[f"kvroute_{name}",] == value
    assert ray_metrics.series["kvroute_fallbacks", "internal"] == 1
    assert ray_metrics.series["kvroute_refusals", "MissingTokenIdsError"] == 1
    assert ray_metrics.series["kvroute_choose_seconds",] == [pytest.approx(50e-6)]


def test_counters_grow_by_what_was_counted_since(ray_metrics: RayMetrics) -> None:
    instruments = Instruments(ray_metrics, TAGS)
    for total in (0, 3, 3, 10):
        instruments.grow("decisions", "Text.", total)
    assert ray_metrics.series["kvroute_decisions",] == 10
    instruments.grow("decisions", "Text.", 4)  # a count begun anew
    assert ray_metrics.series["kvroute_decisions",] == 14


def test_a_forgotten_counter_begins_anew(ray_metrics: RayMetrics) -> None:
    instruments = Instruments(ray_metrics, TAGS)
    instruments.grow("selections", "Text.", 5, replica="a")
    instruments.forget("selections", replica="a")
    instruments.grow("selections", "Text.", 7, replica="a")
    assert ray_metrics.series["kvroute_selections", "a"] == 12


def test_durations_keep_their_buckets_count_and_sum(ray_metrics: RayMetrics) -> None:
    instruments = Instruments(ray_metrics, TAGS)
    durations = Durations((1.0, 2.0))
    for given in ([0.5, 0.7, 1.0], [1.5, 8.0, 2.0], []):
        for seconds in given:
            durations.observe(seconds)
        instruments.observe("choose_seconds", "Text.", durations)
    seen = ray_metrics.series["kvroute_choose_seconds",]
    assert sum(seen) == pytest.approx(13.7)
    assert [sum(low < x <= high for x in seen) for low, high in ((0, 1), (1, 2), (2, 9))] == [
        3,
        2,
        1,
    ]


def test_a_duration_read_between_its_count_and_its_sum_stays_in_its_bucket(
    ray_metrics: RayMetrics,
) -> None:
    instruments = Instruments(ray_metrics, TAGS)
    durations = Durations((1.0, 2.0))
    durations.counts[1] = 1
    instruments.observe("choose_seconds", "Text.", durations)
    durations.sums[1] = 1.5
    durations.observe(1.5)
    instruments.observe("choose_seconds", "Text.", durations)
    assert all(1.0 < seconds <= 2.0 for seconds in ray_metrics.series["kvroute_choose_seconds",])


def test_gauges_of_replicas_and_router(ray_metrics: RayMetrics, router: kvroute.KvRouter) -> None:
    router.add_worker("a", dp_ranks=2)
    router.add_worker("b")
    booking = router.reserve(PROMPT, allowed=[("a", 1)])
    publishing = publisher(Counters(), router)
    publishing.publish()
    series = ray_metrics.series
    assert series["kvroute_active_requests", "a"] == 1
    assert series["kvroute_active_prefill_tokens", "a"] == 100
    assert series["kvroute_held_blocks", "a"] == 6
    assert series["kvroute_selections", "a"] == 1
    assert series["kvroute_active_requests", "b"] == 0
    assert series["kvroute_event_streams", "b"] == 0
    assert series["kvroute_replicas",] == 2
    assert series["kvroute_reservations",] == 1
    assert series["kvroute_index_bytes",] > 0
    booking.release()
    publishing.publish()
    assert series["kvroute_active_requests", "a"] == 0


def test_a_replica_that_is_gone_has_its_gauges_set_to_zero(
    ray_metrics: RayMetrics, router: kvroute.KvRouter
) -> None:
    router.add_worker("a")
    router.add_worker("b")
    bookings = [router.reserve(PROMPT, allowed=[name]) for name in ("a", "b")]
    publishing = publisher(Counters(), router)
    publishing.publish()
    router.remove_worker("a")
    publishing.publish()
    series = ray_metrics.series
    assert (series["kvroute_held_blocks", "a"], series["kvroute_active_requests", "a"]) == (0, 0)
    assert series["kvroute_active_requests", "b"] == 1
    assert series["kvroute_selections", "a"] == 1  # a counter stays what it was
    router.add_worker("a")
    bookings.append(router.reserve(PROMPT, allowed=["a"]))
    publishing.publish()
    assert series["kvroute_selections", "a"] == 2


def test_close_leaves_gauges_at_zero(ray_metrics: RayMetrics, router: kvroute.KvRouter) -> None:
    router.add_worker("a")
    booking = router.reserve(PROMPT)
    publishing = publisher(Counters(), router)
    publishing.start()
    publishing.close()
    publishing.close()
    assert ray_metrics.series["kvroute_selections", "a"] == 1
    for name in ("active_requests", "held_blocks"):
        assert ray_metrics.series[f"kvroute_{name}", "a"] == 0
    assert ray_metrics.series["kvroute_reservations",] == 0
    booking.release()


def test_no_router_yet(ray_metrics: RayMetrics, caplog: pytest.LogCaptureFixture) -> None:
    publishing = MetricsPublisher(**TAGS, counters=Counters(), router_stats=lambda: None)
    with caplog.at_level(logging.WARNING, "kvroute"):
        publishing.publish()
    assert not caplog.records
    assert not ray_metrics.series


def test_numbers_of_the_exchange(ray_metrics: RayMetrics, router: kvroute.KvRouter) -> None:
    stats = {"peers": 2, "staleness_seconds": 0.004, "address": "10.0.0.1:4000", "last": None}
    publishing = publisher(Counters(), router, exchange_stats=lambda: stats)
    publishing.start()
    publishing.close()
    exchanged = {k[0]: v for k, v in ray_metrics.series.items() if "exchange" in k[0]}
    assert exchanged == {
        "kvroute_exchange_peers": 2,
        "kvroute_exchange_staleness_seconds": 0.004,
    }


def test_what_fails_is_logged_once_and_leaves_the_rest(
    ray_metrics: RayMetrics, router: kvroute.KvRouter, caplog: pytest.LogCaptureFixture
) -> None:
    counters = Counters(decisions=1)
    router.close()  # its stats raise from now on
    publishing = publisher(counters, router)
    with caplog.at_level(logging.WARNING, "kvroute"):
        for _ in range(3):
            publishing.publish()
            counters.decisions += 1
    assert ray_metrics.series["kvroute_decisions",] == 3
    assert [record.getMessage() for record in caplog.records] == [
        "Metrics (router) could not be published"
    ]


def test_without_ray_nothing_is_raised(
    monkeypatch: pytest.MonkeyPatch, router: kvroute.KvRouter, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "ray.util", None)
    publishing = publisher(Counters(), router)
    with caplog.at_level(logging.WARNING, "kvroute"):
        publishing.start()
        publishing.close()
    assert caplog.records


def test_publishes_at_every_interval(ray_metrics: RayMetrics, router: kvroute.KvRouter) -> None:
    published: list[int] = []
    third = threading.Event()

    def exchange_stats() -> dict[str, int]:
        published.append(len(published) + 1)
        if len(published) == 3:
            third.set()
        return {"number": published[-1]}

    publishing = publisher(Counters(), router, interval_s=0.001, exchange_stats=exchange_stats)
    publishing.start()
    assert third.wait(30)
    publishing.close(30)
    assert ray_metrics.series["kvroute_exchange_number",] == published[-1] >= 4

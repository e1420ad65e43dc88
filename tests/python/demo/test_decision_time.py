from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import pytest
from aiohttp import web
from kvroute.demo.decision_time import (
    DECISION_HISTOGRAM,
    Histogram,
    parse_histogram,
    read_decision_time,
)
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Histogram as Exported

Serve: TypeAlias = Callable[[Any], Awaitable[str]]


def exposition(*values: float) -> str:
    registry = CollectorRegistry()
    exported = Exported(
        DECISION_HISTOGRAM, "Time.", ["model"], buckets=(0.001, 0.002, 0.004), registry=registry
    )
    for number, value in enumerate(values):
        exported.labels(f"m{number % 2}").observe(value)
    return generate_latest(registry).decode()


def test_labels_are_summed() -> None:
    histogram = parse_histogram(exposition(0.0005, 0.0015, 0.0015, 0.003), DECISION_HISTOGRAM)
    infinity = float("inf")
    assert histogram.buckets == ((0.001, 1), (0.002, 3), (0.004, 4), (infinity, 4))
    assert histogram.count == 4
    assert histogram.total == pytest.approx(0.0065)


def test_quantiles_are_interpolated() -> None:
    histogram = Histogram(((1.0, 10), (2.0, 30), (float("inf"), 30)), 0.0)
    assert histogram.quantile(0.5) == pytest.approx(1.25)
    assert histogram.quantile(1.0) == pytest.approx(2.0)
    assert histogram.quantile(0.1) == pytest.approx(0.3)


def test_a_quantile_beyond_the_buckets_is_the_highest_bound() -> None:
    assert Histogram(((1.0, 0), (2.0, 1), (float("inf"), 9)), 0.0).quantile(0.9) == 2.0


def test_without_observations_there_is_no_quantile() -> None:
    assert Histogram((), 0.0).quantile(0.5) is None
    assert parse_histogram(exposition(), DECISION_HISTOGRAM).quantile(0.5) is None


async def test_reads_the_frontends_metrics(serve: Serve) -> None:
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(text=exposition(0.0015))

    histogram = await read_decision_time(await serve(handler))
    assert histogram is not None
    assert histogram.count == 1


async def test_metrics_that_cannot_be_read_give_none(serve: Serve) -> None:
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(status=500)

    assert await read_decision_time(await serve(handler)) is None
    assert await read_decision_time("http://127.0.0.1:9") is None

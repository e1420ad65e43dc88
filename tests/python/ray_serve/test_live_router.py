"""A deployment's router in a process, and its exchange."""

from __future__ import annotations

import pytest
from kvroute.ray_serve.live_router import LiveRouter
from kvroute.ray_serve.options import RouterOptions

pytest.importorskip("ray.serve")


def test_peers_are_told_of_a_request_for_as_long_as_it_counts_here(monkeypatch) -> None:
    monkeypatch.setattr("kvroute.ray_serve.exchange.BookingExchange.start", lambda _: None)
    live = LiveRouter("app", "model", RouterOptions(reservation_ttl=7200.0), 16)
    try:
        assert live.exchange._limits.lifetime_s == 7200.0
    finally:
        live.close()
